"""The shape of arguments and results: member names and JSON types, never values.

A member name comes from a peer and can itself be a secret (a map keyed by token or e-mail address), so
only names that look like names are kept: at most 64 characters of `A-Z a-z 0-9 _ - . $`, not starting
with a digit, and, from 20 characters on, with less than three digits. The others are counted under `…`.

    {"path": "/etc/hosts", "edits": [1], "options": {"dry": true}}
    {"edits":"array","options":{"dry":"boolean"},"path":"string"}
"""

from __future__ import annotations

from types import NoneType
from typing import Any, Final

from orjson import dumps

DEPTH: Final = 3
"""Objects inside objects that are described; deeper ones are `object`."""
BREADTH: Final = 32
"""Members of one object that are described; the rest is counted under `…`."""
NAME_CHARACTERS: Final = 64
MORE: Final = "…"

TYPE_NAMES: Final[dict[type, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
    list: "array",
    dict: "object",
}
_NAME_PUNCTUATION: Final = frozenset("_-.$")


def name_is_plain(name: str) -> bool:
    """Whether a member name may appear in evidence. See the module's docstring."""
    if not 0 < len(name) <= NAME_CHARACTERS or not name.isascii() or name[0].isdigit():
        return False
    if not name.isalnum() and not all(c.isalnum() or c in _NAME_PUNCTUATION for c in name):
        return False
    return len(name) < 20 or sum(c.isdigit() for c in name) < 3


def shape(value: Any, depth: int = DEPTH) -> str:
    """The shape of a JSON value as canonical JSON text."""
    if type(value) is not dict:
        return f'"{TYPE_NAMES.get(type(value), "other")}"'
    parts: dict[str, str] = {}
    hidden = 0
    for name, item in value.items():
        if len(parts) >= BREADTH or not name_is_plain(name):
            hidden += 1
        elif depth > 1:
            parts[name] = shape(item, depth - 1)
        else:
            parts[name] = f'"{TYPE_NAMES.get(type(item), "other")}"'
    members = [f"{dumps(name).decode()}:{parts[name]}" for name in sorted(parts)]
    if hidden:
        members.append(f'"{MORE}":{hidden}')
    return "{" + ",".join(members) + "}"
