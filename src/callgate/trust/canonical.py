"""Canonical JSON (RFC 8785, JCS) and the digest of a definition.

Members sorted by UTF-16 code units, no white space, strings with the shortest escapes, numbers as
ECMAScript writes them. One value has one text, so one SHA-256.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

_EXACT = 2**53


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON, UTF-8. Integers beyond 64 bits and lone surrogates raise TypeError."""
    return orjson.dumps(_ordered(value))


def digest(value: Any) -> str:
    """SHA-256 of the canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _ordered(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        keys = sorted(value) if all(map(str.isascii, value)) else sorted(value, key=_utf16)
        return {key: _ordered(value[key]) for key in keys}
    if kind is list:
        return [_ordered(item) for item in value]
    if kind is float:
        return _number(value)
    return value


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> Any:
    """A double as ECMAScript's Number::toString writes it (RFC 8785, section 3.2.2.3)."""
    if value.is_integer() and abs(value) < _EXACT:
        return int(value)
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{rest}e{point - 1:+d}"
    return orjson.Fragment(("-" if value < 0 else "") + text)
