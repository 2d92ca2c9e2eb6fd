"""Apply the edits of several controls to one message body.

Edits compose by pointer: spans of one string may come from different controls as long as they do not
overlap, or one of them will be made again; whatever is inside a removed value is moot; anything else that touches
one place twice is a conflict, and a conflict denies. Work is linear in the edits and the containers they touch,
whatever a hostile message makes controls edit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from callgate.gate.verdicts import Edit, Remove, RenameKey, ReplaceSpan, ReplaceValue
from callgate.protocol.pointer import locate, resolve, split


class EditConflict(ValueError):
    """Two edits disagree about one place, or an edit points at nothing."""


def apply(body: dict[str, Any], edits: Iterable[Edit]) -> None:
    """Change `body` in place. Raises EditConflict; `body` is then in an undefined state."""
    removed: set[str] = set()
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    later: dict[str, str] = {}
    spans: dict[str, list[ReplaceSpan]] = {}
    for edit in edits:
        if not edit.pointer:
            raise EditConflict("the message itself cannot be replaced or removed")
        if isinstance(edit, Remove):
            removed.add(edit.pointer)
        elif isinstance(edit, ReplaceValue):
            _agree(values, edit.pointer, edit.value)
        elif isinstance(edit, RenameKey):
            if edit.again:
                later.setdefault(edit.pointer, edit.key)
            else:
                _agree(names, edit.pointer, edit.key)
        else:
            spans.setdefault(edit.pointer, []).append(edit)
    try:
        _replace(body, spans, values, removed)
        renames = later | names
        # Deepest names first, so that a renamed parent does not hide the pointer of its child.
        here = [pointer for pointer in renames if not _inside(pointer, removed) and not _inside(pointer, values)]
        for parent, pointers in _deepest_first(here):
            _rename(resolve(body, parent), {split(pointer)[-1]: renames[pointer] for pointer in pointers})
        # All elements of one list at once, so that their indices are right.
        for parent, pointers in _deepest_first(removed):
            if not _inside(parent, removed):
                _remove(resolve(body, parent), [split(pointer)[-1] for pointer in pointers])
    except (LookupError, ValueError) as error:
        if isinstance(error, EditConflict):
            raise
        raise EditConflict("an edit points at nothing") from error


def _replace(
    body: dict[str, Any], spans: dict[str, list[ReplaceSpan]], values: dict[str, Any], removed: set[str]
) -> None:
    for pointer, pieces in spans.items():
        if _inside(pointer, removed):
            continue
        if _inside(pointer, values):
            raise EditConflict(f"{pointer} is both replaced and edited")
        container, key = locate(body, pointer)
        container[key] = _splice(container[key], pieces)
    for pointer, value in values.items():
        if not _inside(pointer, removed):
            if _inside(_parent(pointer), values):
                raise EditConflict(f"{pointer} lies inside another replaced value")
            container, key = locate(body, pointer)
            container[key] = value


def _agree(table: dict[str, Any], pointer: str, value: Any) -> None:
    if pointer in table and table[pointer] != value:
        raise EditConflict(f"two different replacements for {pointer}")
    table[pointer] = value


def _parent(pointer: str) -> str:
    return pointer.rpartition("/")[0]


def _inside(pointer: str, places: Collection[str]) -> bool:
    """Whether `pointer` or one of its ancestors is among `places`."""
    while pointer and places:
        if pointer in places:
            return True
        pointer = _parent(pointer)
    return False


def _deepest_first(pointers: Iterable[str]) -> list[tuple[str, list[str]]]:
    """`pointers` by the container they stand in, the deepest containers first."""
    groups: dict[str, list[str]] = {}
    for pointer in pointers:
        groups.setdefault(_parent(pointer), []).append(pointer)
    return sorted(groups.items(), key=lambda group: -group[0].count("/"))


def _splice(text: Any, pieces: list[ReplaceSpan]) -> str:
    if not isinstance(text, str):
        raise EditConflict("a span edit needs a string")
    parts: list[str] = []
    at = before = 0
    last: ReplaceSpan | None = None
    for piece in sorted(pieces, key=lambda p: (p.start, -p.end)):
        if piece == last or (last is not None and not last.text and piece.end <= last.end):
            continue  # said twice, or moot: it lies in what is taken out
        if piece.start < at and piece.again:
            continue
        if piece.start < at and last is not None and last.again:
            del parts[-2:]
            at = before
        if piece.start < at or piece.end < piece.start or piece.end > len(text):
            raise EditConflict("two edits overlap in one string")
        parts += (text[at : piece.start], piece.text)
        before, at = at, piece.end
        last = piece
    parts.append(text[at:])
    return "".join(parts)


def _rename(parent: Any, keys: dict[str, str]) -> None:
    if not isinstance(parent, dict):
        raise EditConflict("only a member of an object can be renamed")
    if not keys.keys() <= parent.keys():
        raise EditConflict("an edit points at nothing")
    members = {keys.get(name, name): value for name, value in parent.items()}
    if len(members) != len(parent):
        raise EditConflict("the new member name is already taken")
    parent.clear()
    parent.update(members)


def _remove(parent: Any, keys: list[str]) -> None:
    if isinstance(parent, list):
        gone = frozenset(keys)
        kept = [value for index, value in enumerate(parent) if str(index) not in gone]
        if len(parent) - len(kept) != len(keys):
            raise EditConflict("an edit points at nothing")
        parent[:] = kept
    else:
        for key in keys:
            del parent[key]
