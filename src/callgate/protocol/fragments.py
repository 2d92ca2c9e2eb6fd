"""The id of a message that was too long to keep, or cannot be read, from its first or last bytes.

Serialisers write the envelope's small members before or after the long one, so the id of an over-long
answer usually stands at one edge. A guess that is wrong costs nothing: it is used only to tell a caller
who waits for exactly that id that the answer was refused.
"""

from __future__ import annotations

import orjson

from callgate.protocol.message import RequestId

EDGE_BYTES = 256
"""Bytes of each end that are worth keeping."""
_KEY = b'"id":'


def id_at_head(head: bytes) -> RequestId | None:
    """The id before the first other long member, or None."""
    head = head.lstrip()
    at = head.find(_KEY)
    if at < 0 or head.find(b"{", 1, at) >= 0:
        return None  # inside another object
    value = head[at + len(_KEY) :].lstrip()
    return _value(value, value.find(b",") if not value.startswith(b'"') else value.find(b'"', 1) + 1)


def id_at_tail(tail: bytes) -> RequestId | None:
    """The id that ends the message, or None."""
    tail = tail.rstrip()
    at = tail.rfind(_KEY)
    if at < 0 or not tail.endswith(b"}"):
        return None
    value = tail[at + len(_KEY) : -1].strip()
    return _value(value, len(value))


def id_of_answer(raw: bytes) -> RequestId | None:
    """The id that an unreadable message seems to answer; None where it seems to ask something itself."""
    head = raw[:EDGE_BYTES].removeprefix(b"\xef\xbb\xbf")
    begins = [at for at in (head.find(b'"result"'), head.find(b'"error"')) if at >= 0]
    if not begins or 0 <= head.find(b'"method"') < min(begins):
        return None
    found = id_at_head(head)
    return id_at_tail(raw[-EDGE_BYTES:]) if found is None else found


def _value(text: bytes, end: int) -> RequestId | None:
    if end <= 0:
        return None
    try:
        value = orjson.loads(text[:end])
    except ValueError:
        return None
    return value if type(value) is int or type(value) is str else None
