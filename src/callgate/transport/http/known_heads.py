"""Heads that were parsed before: a peer on a kept-alive connection sends the same one again and again.

A message that arrives in one piece, with a head that llhttp has read and accepted before, byte for byte but
for the digits of Content-Length, and with exactly as many bytes after it as those digits say, frames the same
way as the one before. So llhttp need not read it again, nor the policy judge it again: both depend on nothing
else. Everything else, and the first of its kind, goes through the parser.

A connection keeps the last such head in two halves, before and after the digits: for a peer that goes on as it
began, `body_start` compares the bytes in place, and nothing is cut out or looked up.
"""

from __future__ import annotations

TEMPLATE_BYTES = 2048
"""Longer heads are not remembered."""
KNOWN = 512
"""Heads remembered; when there are more, all are forgotten."""

_SPELLINGS = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
_NAME = len(_SPELLINGS[0])
_DIGITS = 9


def split(data: bytes) -> tuple[bytes, int, int] | None:
    """The head without the digits of its Content-Length, where they stood, and where the body starts.

    None unless `data` is one head and one whole body of the length it names. A first line cannot be mistaken
    for the field: a field's name follows a line end. That it is the only one of its name, llhttp has checked.
    """
    end = data.find(b"\r\n\r\n") + 4
    if not 4 <= end <= TEMPLATE_BYTES:
        return None
    at = data.find(_SPELLINGS[0], 0, end)
    if at < 0:
        at = data.find(_SPELLINGS[1], 0, end)
        if at < 0:
            return None
    at += _NAME
    stop = data.find(b"\r", at, end)
    digits = data[at:stop]
    if not digits.isdigit() or len(digits) > _DIGITS or end + int(digits) != len(data):
        return None
    return data[:at] + data[stop:end], at, end


def body_start(before: bytes, after: bytes, data: bytes) -> int:
    """Where the body starts if `data` is a head of these two halves and one whole body; 0 if it is anything else.

    `before + after` is a template that `split` has made, so what follows it frames as `split` would say. Digits
    that anybody could read differently (a sign, a leading zero) are not the plain ones that are compared with.
    """
    if not data.startswith(before):
        return 0
    at = len(before)
    stop = data.find(b"\r", at, at + _DIGITS + 1)
    if not data.startswith(after, stop):
        return 0
    start = stop + len(after)
    return start if data[at:stop] == b"%d" % (len(data) - start) else 0
