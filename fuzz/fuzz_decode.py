"""Any bytes into the strict parser, and what it accepts into the surfaces.

- Nothing but ProtocolError comes out, and its texts are printable.
- What is accepted, forwarded and decoded again is the same message and the same bytes.
- A plain JSON parser that refuses duplicate names reads the accepted input the same.
- With a scanner the parser may skip its walk, but never accepts more or less.
- Every string of an accepted message is a surface exactly once, where its pointer says.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["callgate"]):
    from callgate.config import Limits
    from callgate.errors import ProtocolError
    from callgate.protocol import pointer
    from callgate.protocol.codec import LEXICAL, Codec
    from callgate.protocol.message import Direction, Message
    from callgate.protocol.surfaces import surfaces

LIMITS = Limits(depth=20, nodes=300, keys=30, string_bytes=300, name_bytes=40, batch=4)
WALKING = Codec(LIMITS)
SCANNING = Codec(
    LIMITS,
    scan=lambda data: tuple(index for index, (_, pattern) in enumerate(LEXICAL) if re.search(pattern, data)),
    lexical=range(len(LEXICAL)),
)


def checked(error: ProtocolError) -> str:
    assert error.what.isprintable()
    assert error.rpc_code in {-32700, -32600}
    return error.rule


def decode(codec: Codec, raw: bytes, direction: Direction) -> list[Message] | str:
    try:
        found = codec.decode(raw, direction)
    except ProtocolError as error:
        return checked(error)
    return found if isinstance(found, list) else [found]


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a duplicate name was accepted"
    return dict(pairs)


def strings(value: Any) -> int:
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return sum(map(strings, value.values()))
    return sum(map(strings, value)) if isinstance(value, list) else 0


def one_input(data: bytes) -> None:
    direction = Direction(data[-1] & 1) if data else Direction.CLIENT
    messages = decode(WALKING, data, direction)
    other = decode(SCANNING, data, direction)
    if isinstance(messages, str) or isinstance(other, str):
        assert isinstance(messages, str), (messages, other)
        assert isinstance(other, str), (messages, other)
        return
    assert [message.data for message in messages] == [message.data for message in other]
    plain = json.loads(data, object_pairs_hook=distinct)
    for message, written in zip(messages, plain if isinstance(plain, list) else [plain], strict=True):
        assert written == message.body
        again = WALKING.decode(message.data, direction)
        assert isinstance(again, Message)
        assert (again.data, again.body, again.kind, again.id) == (message.data, message.body, message.kind, message.id)
        assert WALKING.encode(message.body).data == message.data
        assert len(message.data.decode().splitlines()) == 1
        found = surfaces(message.body, direction, "tools/call")
        values = [surface for surface in found if not surface.key]
        assert len(values) == strings(message.body) == len({surface.pointer for surface in values})
        for surface in found:
            holder, key = pointer.locate(message.body, surface.pointer)
            assert surface.text == (key if surface.key else holder[key])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
