"""Apply the edits of several controls to one message body.

Edits compose by pointer: spans of one string may come from different controls as long as they do not
overlap; whatever is inside a removed value is moot; anything else that touches one place twice is a
conflict, and a conflict denies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from callgate.gate.verdicts import Edit, Remove, RenameKey, ReplaceSpan, ReplaceValue


class EditConflict(ValueError):
    """Two edits disagree about one place, or an edit points at nothing."""


def apply(body: dict[str, Any], edits: Iterable[Edit]) -> None:
    """Change `body` in place. Raises EditConflict; `body` is then in an undefined state."""
    removed: set[str] = set()
    values: dict[str, Any] = {}
    renames: dict[str, str] = {}
    spans: dict[str, list[ReplaceSpan]] = {}
    for edit in edits:
        if not edit.pointer:
            raise EditConflict("the message itself cannot be replaced or removed")
        if isinstance(edit, Remove):
            removed.add(edit.pointer)
        elif isinstance(edit, ReplaceValue):
            _agree(values, edit.pointer, edit.value)
        elif isinstance(edit, RenameKey):
            _agree(renames, edit.pointer, edit.key)
        else:
            spans.setdefault(edit.pointer, []).append(edit)
    for pointer, pieces in spans.items():
        if _inside(pointer, removed):
            continue
        if _inside(pointer, values):
            raise EditConflict(f"{pointer} is both replaced and edited")
        _set(body, pointer, _splice(_get(body, pointer), pieces))
    for pointer, value in values.items():
        if not _inside(pointer, removed):
            if any(other != pointer and pointer.startswith(other + "/") for other in values):
                raise EditConflict(f"{pointer} lies inside another replaced value")
            _set(body, pointer, value)
    # Deepest names first, so that a renamed parent does not hide the pointer of its child.
    for pointer in sorted(renames, key=lambda p: -p.count("/")):
        if not _inside(pointer, removed) and not _inside(pointer, values):
            _rename(body, pointer, renames[pointer])
    # Last elements first, so that indices of earlier ones stay right.
    for pointer in sorted(removed, key=_order, reverse=True):
        parent = pointer.rpartition("/")[0]
        if not _inside(parent, removed):
            _remove(body, pointer)


def _agree(table: dict[str, Any], pointer: str, value: Any) -> None:
    if pointer in table and table[pointer] != value:
        raise EditConflict(f"two different replacements for {pointer}")
    table[pointer] = value


def _inside(pointer: str, places: Iterable[str]) -> bool:
    return any(pointer == place or pointer.startswith(place + "/") for place in places)


def _splice(text: Any, pieces: list[ReplaceSpan]) -> str:
    if not isinstance(text, str):
        raise EditConflict("a span edit needs a string")
    parts: list[str] = []
    at = 0
    last: ReplaceSpan | None = None
    for piece in sorted(pieces, key=lambda p: (p.start, -p.end)):
        if piece == last or (last is not None and not last.text and piece.end <= last.end):
            continue  # said twice, or moot: it lies in what is taken out
        if piece.start < at or piece.end < piece.start or piece.end > len(text):
            raise EditConflict("two edits overlap in one string")
        parts += (text[at : piece.start], piece.text)
        at = piece.end
        last = piece
    parts.append(text[at:])
    return "".join(parts)


def _tokens(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _order(pointer: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(token), "") if token.isdecimal() else (-1, token) for token in _tokens(pointer))


def _step(value: Any, token: str) -> Any:
    try:
        return value[int(token)] if isinstance(value, list) else value[token]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise EditConflict("an edit points at nothing") from error


def _get(body: Any, pointer: str) -> Any:
    for token in _tokens(pointer):
        body = _step(body, token)
    return body


def _parent(body: Any, pointer: str) -> tuple[Any, str]:
    tokens = _tokens(pointer)
    for token in tokens[:-1]:
        body = _step(body, token)
    _step(body, tokens[-1])
    return body, tokens[-1]


def _set(body: Any, pointer: str, value: Any) -> None:
    parent, token = _parent(body, pointer)
    parent[int(token) if isinstance(parent, list) else token] = value


def _remove(body: Any, pointer: str) -> None:
    parent, token = _parent(body, pointer)
    del parent[int(token) if isinstance(parent, list) else token]


def _rename(body: Any, pointer: str, key: str) -> None:
    parent, token = _parent(body, pointer)
    if not isinstance(parent, dict):
        raise EditConflict("only a member of an object can be renamed")
    if key == token:
        return
    if key in parent:
        raise EditConflict("the new member name is already taken")
    members = [(key if name == token else name, value) for name, value in parent.items()]
    parent.clear()
    parent.update(members)
