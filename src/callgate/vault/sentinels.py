"""A stand-in for a secret: what the server gets, while the egress gate holds the secret itself.

It looks like the secret to a program that checks its form: the same known beginning, length and kind of characters;
a JWT stays a JWT whose parts decode. All else is random, for each session anew, so that nobody can guess it and
nothing but the stand-in is ever replaced.
"""

from __future__ import annotations

import math
import os
from base64 import urlsafe_b64encode
from typing import Final

from callgate.errors import SecretError
from callgate.vault.known_tokens import prefix_of

LEAST_BITS: Final = 80
"""Randomness of a stand-in. A secret too short for that gets a longer one of another form."""
MOST_BYTES: Final = 4096
"""Longest secret that gets a stand-in: what is longer is a document, not a token."""

_DIGITS: Final = "0123456789"
_LOWER: Final = "abcdefghijklmnopqrstuvwxyz"
_UPPER: Final = _LOWER.upper()
_KEPT: Final = frozenset("-_.")
_SIGNING_KEYS: Final = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})


def why_not(name: str, value: bytes) -> str:
    """Why there can be no stand-in for this secret, in words for a person; '' where there can."""
    if name in _SIGNING_KEYS:
        return "requests are signed with it, so the server needs the value itself"
    if len(value) > MOST_BYTES:
        return f"it has more than {MOST_BYTES} bytes"
    if not value.isascii() or not value.decode("ascii").isprintable() or b" " in value:
        return "it is not one word of ASCII, so it cannot be told apart in a request"
    if b"PRIVATE KEY" in value:
        return "it is a private key, which the server must use itself"
    return ""


def placeholder(value: bytes) -> str:
    """A fresh stand-in for `value`. Raises SecretError where `why_not` gives a reason."""
    reason = why_not("", value)
    if reason:
        raise SecretError(f"no stand-in can be made for this secret: {reason}", next_step='use deliver = "environment"')
    text = value.decode("ascii")
    for _ in range(8):
        made = _made(text)
        if made != text:
            return made
    raise SecretError("no stand-in can be made for this secret", next_step='use deliver = "environment"')


def _made(text: str) -> str:
    segments = text.split(".")
    if len(segments) == 3 and text.startswith("eyJ") and min(map(len, segments)) >= 16:
        return ".".join(
            (_json_segment("typ", len(segments[0])), _json_segment("jti", len(segments[1])), _token(len(segments[2])))
        )
    prefix = prefix_of(text)
    made, bits = _like(text[len(prefix) :], keep=True) if prefix or _is_uuid(text) else _like(text, keep=False)
    if bits < LEAST_BITS:
        return f"{prefix}callgate{os.urandom(16).hex()}"
    return prefix + made


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12]


def _like(text: str, *, keep: bool) -> tuple[str, float]:
    """Random characters of the same kinds, and how many bits of randomness they hold.

    `keep`: separators stay where they are. Without, a password's punctuation says nothing: letters and digits come.
    """
    pieces: list[str] = []
    bits = 0.0
    start = 0
    for end in range(len(text) + 1):
        if end == len(text) or (keep and text[end] in _KEPT):
            run = text[start:end]
            if run:
                alphabet = _alphabet(run)
                pieces.append(_random(alphabet, len(run)))
                bits += len(run) * math.log2(len(alphabet))
            if end < len(text):
                pieces.append(text[end])
            start = end + 1
    return "".join(pieces), bits


def _alphabet(run: str) -> str:
    """The smallest usual alphabet that a run of characters is from."""
    if run.isdigit():
        return _DIGITS
    lower, upper = any(char in _LOWER for char in run), any(char in _UPPER for char in run)
    if len(run) >= 8 and not (lower and upper) and all(char in "0123456789abcdefABCDEF" for char in run):
        return _DIGITS + ("ABCDEF" if upper else "abcdef")
    digits = _DIGITS if any(char in _DIGITS for char in run) or not (lower or upper) else ""
    return (_LOWER if lower else "") + (_UPPER if upper else "") + digits


def _random(alphabet: str, count: int) -> str:
    """`count` characters, each equally likely: bytes beyond the last whole multiple are drawn again."""
    limit = 256 - 256 % len(alphabet)
    out: list[str] = []
    while len(out) < count:
        out += [alphabet[byte % len(alphabet)] for byte in os.urandom(2 * count) if byte < limit]
    return "".join(out[:count])


def _token(count: int) -> str:
    return _random(_LOWER + _UPPER + _DIGITS, count)


def _json_segment(member: str, count: int) -> str:
    """A base64url segment of `count` characters that decodes to a JSON object with one random member."""
    size = count * 3 // 4
    start, end = f'{{"{member}":"', '"}'
    room = size - len(start) - len(end)
    if room < 0 or count % 4 == 1:
        return "eyJ" + _token(count - 3)
    return urlsafe_b64encode((start + _token(room) + end).encode()).decode().rstrip("=")
