"""JSON as clients write it: with comments, trailing commas and a byte order mark, and with positions."""

from __future__ import annotations

import json
import re

from callgate.clients.tree import MAX_DEPTH, ClientFileError, Member, Node

_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*(?s:.*?)\*/)*+")
_LITERAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_DECODER = json.JSONDecoder()


def parse(text: str) -> Node:
    """The document; an empty one is an empty map. Raises ClientFileError."""
    reader = _Reader(text)
    at = reader.space(0)
    if at == len(text):
        return Node("map", at, at)
    root = reader.value(at, 0)
    at = reader.space(root.end)
    if at != len(text):
        raise reader.error(at, "there is something after the end of the document")
    return root


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text

    def error(self, at: int, what: str) -> ClientFileError:
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        return ClientFileError(f"line {line}, column {column}: {what}", next_step="mend the file, then try again")

    def space(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return found.end() if found else at

    def value(self, at: int, depth: int) -> Node:
        first = self._text[at : at + 1]
        if first == '"':
            value, end = self._string(at)
            return Node("scalar", at, end, value, string=True)
        if first in ("{", "["):
            if depth == MAX_DEPTH:
                raise self.error(at, f"more than {MAX_DEPTH} levels")
            return self._map(at, depth) if first == "{" else self._list(at, depth)
        literal = _LITERAL.match(self._text, at)
        if not literal:
            raise self.error(at, "a value is missing" if not first else "this is not a value")
        return Node("scalar", at, literal.end(), literal.group())

    def _string(self, at: int) -> tuple[str, int]:
        try:
            value, end = _DECODER.raw_decode(self._text, at)
        except ValueError as error:
            raise self.error(at, "this string has no end, or an escape that is not one") from error
        return value, end

    def _map(self, start: int, depth: int) -> Node:
        members: list[Member] = []
        at = self.space(start + 1)
        while self._text[at : at + 1] != "}":
            if self._text[at : at + 1] != '"':
                raise self.error(at, "a name in quotes, or }, is missing")
            key, key_end = self._string(at)
            colon = self.space(key_end)
            if self._text[colon : colon + 1] != ":":
                raise self.error(colon, "a colon is missing")
            node = self.value(self.space(colon + 1), depth + 1)
            members.append(Member(key, at, at, key_end, node))
            at = self._comma(node.end, "}")
        return Node("map", start, at + 1, members=tuple(members))

    def _list(self, start: int, depth: int) -> Node:
        items: list[Node] = []
        at = self.space(start + 1)
        while self._text[at : at + 1] != "]":
            items.append(self.value(at, depth + 1))
            at = self._comma(items[-1].end, "]")
        return Node("list", start, at + 1, items=tuple(items))

    def _comma(self, at: int, close: str) -> int:
        at = self.space(at)
        after = self._text[at : at + 1]
        if after == ",":
            return self.space(at + 1)
        if after != close:
            raise self.error(at, f"a comma, or {close}, is missing")
        return at
