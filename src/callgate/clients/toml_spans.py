"""TOML with positions: `tomllib` judges and reads the document, this finds where the values stand in it.

The scanner runs only over documents `tomllib` accepted, so it knows that every bracket and quote has its partner.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TypeAlias

from callgate.clients.tree import MAX_DEPTH, ClientFileError, Member, Node

_SPACE = " \t\r\n"
_KEY_END = frozenset(" \t=.]")
_BARE_END = frozenset(",]}#\r\n")


@dataclass(slots=True)
class _Slot:
    """A member while the document is still read."""

    start: int
    key_start: int
    key_end: int
    child: _Child


@dataclass(slots=True)
class _Table:
    slots: dict[str, _Slot] = field(default_factory=dict)


@dataclass(slots=True)
class _Tables:
    """An array of tables: `[[name]]`."""

    tables: list[_Table] = field(default_factory=list)


_Child: TypeAlias = "Node | _Table | _Tables"
_Part: TypeAlias = "tuple[str, int, int]"


def parse(text: str) -> Node:
    """The document. Raises ClientFileError."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        what = str(error) if isinstance(error, ValueError) else f"more than {MAX_DEPTH} levels"
        raise ClientFileError(what, next_step="mend the file, then try again") from error
    return _freeze(_Scanner(text).document())


def _freeze(child: _Child) -> Node:
    if isinstance(child, Node):
        return child
    if isinstance(child, _Tables):
        return Node("list", -1, -1, flow=False, items=tuple(_freeze(table) for table in child.tables))
    members = tuple(
        Member(key, slot.start, slot.key_start, slot.key_end, _freeze(slot.child)) for key, slot in child.slots.items()
    )
    return Node("map", -1, -1, flow=False, members=members)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text

    def document(self) -> _Table:
        root = current = _Table()
        at = self._skip(0)
        while at < len(self._text):
            if self._text[at] == "[":
                current, at = self._header(root, at)
            else:
                at = self._pair(current, at, 0)
            at = self._skip(at)
        return root

    def _skip(self, at: int, also: str = "") -> int:
        text, size = self._text, len(self._text)
        while at < size:
            if text[at] == "#":
                end = text.find("\n", at)
                at = size if end < 0 else end
            elif text[at] in _SPACE or text[at] in also:
                at += 1
            else:
                break
        return at

    def _header(self, root: _Table, at: int) -> tuple[_Table, int]:
        double = self._text.startswith("[[", at)
        parts, at = self._key(at + 1 + double)
        table = root
        for part in parts[:-1]:
            table = _enter(table, part, parts[0][1])
        if not double:
            return _enter(table, parts[-1], parts[0][1]), at + 1
        key, key_start, key_end = parts[-1]
        slot = table.slots.setdefault(key, _Slot(parts[0][1], key_start, key_end, _Tables()))
        if not isinstance(slot.child, _Tables):
            raise _disagree()
        slot.child.tables.append(_Table())
        return slot.child.tables[-1], at + 2

    def _pair(self, table: _Table, at: int, depth: int) -> int:
        parts, at = self._key(at)
        start = parts[0][1]
        for part in parts[:-1]:
            table = _enter(table, part, start)
        at += 1  # the equals sign
        while self._text[at] in " \t":
            at += 1
        node = self._value(at, depth)
        key, key_start, key_end = parts[-1]
        table.slots[key] = _Slot(start, key_start, key_end, node)
        return node.end

    def _key(self, at: int) -> tuple[list[_Part], int]:
        """The parts of a dotted key, and where what follows it (`=` or `]`) stands."""
        parts: list[_Part] = []
        text = self._text
        while True:
            while text[at] in " \t":
                at += 1
            if text[at] in "\"'":
                node = self._value(at, 0)
                parts.append((node.text, at, node.end))
                at = node.end
            else:
                end = at
                while text[end] not in _KEY_END:
                    end += 1
                parts.append((text[at:end], at, end))
                at = end
            while text[at] in " \t":
                at += 1
            if text[at] != ".":
                return parts, at
            at += 1

    def _value(self, at: int, depth: int) -> Node:
        text = self._text
        if depth > MAX_DEPTH:
            raise ClientFileError(f"more than {MAX_DEPTH} levels", next_step="this file cannot be changed")
        if text[at] in "\"'":
            end = self._string_end(at)
            return Node("scalar", at, end, tomllib.loads("v = " + text[at:end])["v"], string=True)
        if text[at] == "[":
            return self._list(at, depth)
        if text[at] == "{":
            return self._inline_table(at, depth)
        end = at
        while end < len(text) and text[end] not in _BARE_END:
            end += 1
        literal = text[at:end].rstrip(" \t")
        return Node("scalar", at, at + len(literal), literal)

    def _string_end(self, at: int) -> int:
        text, quote = self._text, self._text[at]
        long = text.startswith(quote * 3, at)
        close = quote * 3 if long else quote
        at += len(close)
        while not text.startswith(close, at):
            at += 2 if text[at] == "\\" and quote == '"' else 1
        at += len(close)
        while long and text.startswith(quote, at):  # up to two quotes may stand before the closing three
            at += 1
        return at

    def _list(self, start: int, depth: int) -> Node:
        items: list[Node] = []
        at = self._skip(start + 1)
        while self._text[at] != "]":
            items.append(self._value(at, depth + 1))
            at = self._skip(items[-1].end, ",")
        return Node("list", start, at + 1, items=tuple(items))

    def _inline_table(self, start: int, depth: int) -> Node:
        table = _Table()
        at = self._skip(start + 1)
        while self._text[at] != "}":
            at = self._skip(self._pair(table, at, depth + 1), ",")
        return Node("map", start, at + 1, members=_freeze(table).members)


def _enter(table: _Table, part: _Part, start: int) -> _Table:
    """The sub-table of that name, made when it is new; of an array of tables the last."""
    key, key_start, key_end = part
    child = table.slots.setdefault(key, _Slot(start, key_start, key_end, _Table())).child
    if isinstance(child, _Tables):
        return child.tables[-1]
    if isinstance(child, _Table):
        return child
    raise _disagree()


def _disagree() -> ClientFileError:
    """Two readers see two documents: then nothing is changed."""
    return ClientFileError(
        "this TOML is read in two ways", next_step="write the tables of its servers in a plainer form"
    )
