"""How a string is written in a file, apart from what it says.

When a credential is moved into a store, the file keeps a reference in its place, and callgate keeps how the literal
was written: its quotes, and where a character was written in another way than usual. With the value from the store,
that gives back every byte; without it, it tells nothing but the style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from callgate.clients.formats import FormatName

Exceptions: TypeAlias = tuple[tuple[int, str], ...]
"""The characters (by index) that are written in another way than the style's usual one, and in which."""


@dataclass(frozen=True, slots=True)
class Form:
    """How one literal is written."""

    style: str
    exceptions: Exceptions = ()


@dataclass(frozen=True, slots=True)
class _Style:
    open: str
    close: str
    never_raw: str = ""
    short: Mapping[str, str] | None = None
    escapes: str = ""
    """Of `x` (two digits), `u` (four), `w` (eight); `p`: above U+FFFF a pair of `u`."""
    lines: bool = False
    """Line feeds and other controls may stand as they are."""


_C_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_YAML_SHORT: Final = {
    **_C_SHORT,
    "/": "\\/",
    "\0": "\\0",
    "\a": "\\a",
    "\v": "\\v",
    "\x1b": "\\e",
    "\x85": "\\N",
    "\xa0": "\\_",
    "\u2028": "\\L",
    "\u2029": "\\P",
}
_STYLES: Final[Mapping[str, _Style]] = {
    "json": _Style('"', '"', '"\\', {**_C_SHORT, "/": "\\/"}, "up"),
    "toml-basic": _Style('"', '"', '"\\', {**_C_SHORT, "\x1b": "\\e"}, "uwx"),
    "toml-literal": _Style("'", "'", "'"),
    "toml-long": _Style('"""', '"""', "\\", _C_SHORT, "uw", lines=True),
    "toml-long-line": _Style('"""\n', '"""', "\\", _C_SHORT, "uw", lines=True),
    "toml-long-crlf": _Style('"""\r\n', '"""', "\\", _C_SHORT, "uw", lines=True),
    "toml-long-literal": _Style("'''", "'''", lines=True),
    "toml-long-literal-line": _Style("'''\n", "'''", lines=True),
    "toml-long-literal-crlf": _Style("'''\r\n", "'''", lines=True),
    "yaml-double": _Style('"', '"', '"\\', _YAML_SHORT, "xuw"),
    "yaml-single": _Style("'", "'", "'", {"'": "''"}),
    "yaml-plain": _Style("", ""),
}
_OF: Final[Mapping[FormatName, tuple[str, ...]]] = {
    "json": ("json",),
    "toml": (
        *("toml-long-crlf", "toml-long-line", "toml-long", "toml-basic"),
        *("toml-long-literal-crlf", "toml-long-literal-line", "toml-long-literal", "toml-literal"),
    ),
    "yaml": ("yaml-double", "yaml-single", "yaml-plain"),
}
_DIGITS: Final = {"x": 2, "u": 4, "w": 8}
_KINDS: Final = ("raw", "short", "x", "X", "u", "U", "w", "W")


def describe(format_: FormatName, literal: str, value: str) -> Form | None:
    """How `literal` writes `value`; None where it does so in a way that cannot be told apart from the value."""
    for name in _OF[format_]:
        style = _STYLES[name]
        if literal.startswith(style.open) and literal.endswith(style.close):
            exceptions = _exceptions(style, literal, value)
            if exceptions is not None:
                form = Form(name, exceptions)
                if write(form, value) == literal:
                    return form
    return None


def write(form: Form, value: str) -> str:
    """The literal of a value in this form; of another value than it was made for, in the nearest way."""
    style = _STYLES[form.style]
    kinds = dict(form.exceptions)
    body = "".join(
        _written(style, c, kinds.get(at, "")) or _written(style, c, _usual(style, c)) or c for at, c in enumerate(value)
    )
    return style.open + body + style.close


def _exceptions(style: _Style, literal: str, value: str) -> Exceptions | None:
    found: list[tuple[int, str]] = []
    at, end = len(style.open), len(literal) - len(style.close)
    for index, char in enumerate(value):
        usual = _usual(style, char)
        for kind in (usual, *_KINDS):
            written = _written(style, char, kind)
            if written and literal.startswith(written, at):
                at += len(written)
                if kind != usual:
                    found.append((index, kind))
                break
        else:
            return None
    return tuple(found) if at == end else None


def _usual(style: _Style, char: str) -> str:
    if _written(style, char, "raw"):
        return "raw"
    return "short" if style.short and char in style.short else "u"


def _written(style: _Style, char: str, kind: str) -> str:
    """A character in one of the ways; empty where the style does not have it."""
    if kind == "raw":
        return "" if char in style.never_raw or (char < " " and char != "\t" and not style.lines) else char
    if kind == "short":
        return style.short.get(char, "") if style.short else ""
    lower = kind.lower()
    if lower not in style.escapes or not lower:
        return ""
    code = ord(char)
    if lower == "u" and code > 0xFFFF:
        if "p" not in style.escapes:
            return ""
        code -= 0x10000
        units = [0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF)]
    else:
        units = [code]
    digits = _DIGITS[lower]
    if any(unit >= 16**digits for unit in units):
        return ""
    letter = "U" if lower == "w" else lower
    case = "X" if kind != lower else "x"
    return "".join(f"\\{letter}{unit:0{digits}{case}}" for unit in units)
