"""YAML with positions, from the marks of PyYAML's nodes. Nothing is constructed and nothing is printed back."""

from __future__ import annotations

from typing import Any

import yaml

from callgate.clients.tree import MAX_DEPTH, ClientFileError, Member, Node

MAX_CHARACTERS = 4 * 1024 * 1024
_STRING = "tag:yaml.org,2002:str"


def parse(text: str) -> Node:
    """The one document; an empty one is an empty map. Raises ClientFileError."""
    if len(text) > MAX_CHARACTERS:
        raise ClientFileError(f"more than {MAX_CHARACTERS} characters of YAML", next_step="make the file smaller")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ClientFileError(_what(error), next_step="mend the file, then try again") from error
    if root is None:
        return Node("map", len(text), len(text), flow=False)
    return _Reader(text).node(root, 0)


def _what(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return "this is not YAML" if isinstance(error, yaml.YAMLError) else f"more than {MAX_DEPTH} levels"
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '') or 'this is not YAML'}"


class _Reader:
    """Turns nodes with marks into nodes with positions.

    An alias is kept as a scalar without a place: what it stands for is written elsewhere, and a few aliases can stand
    for more than any memory holds.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._seen: set[int] = set()
        self._aliases: dict[int, int] = {}

    def node(self, node: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ClientFileError(f"more than {MAX_DEPTH} levels", next_step="this file cannot be changed")
        if id(node) in self._seen:
            number = self._aliases.setdefault(id(node), len(self._aliases))
            return Node("scalar", -1, -1, f"*{number}")
        self._seen.add(id(node))
        start, end = node.start_mark.index, node.end_mark.index
        if isinstance(node, yaml.ScalarNode):
            if node.style in ("|", ">"):
                end = start + len(self._text[start:end].rstrip())
            string = node.tag == _STRING
            return Node("scalar", start, end, node.value if string else self._text[start:end], string=string)
        flow = bool(node.flow_style)
        if isinstance(node, yaml.SequenceNode):
            items = tuple(self.node(item, depth + 1) for item in node.value)
            return Node("list", start, end if flow else _end(items, start), flow=flow, items=items)
        members = tuple(self._member(key, value, depth) for key, value in node.value)
        inside = tuple(member.node for member in members)
        return Node("map", start, end if flow else _end(inside, start), flow=flow, members=members)

    def _member(self, key: Any, value: Any, depth: int) -> Member:
        name = self.node(key, depth + 1)
        if name.kind != "scalar":
            raise ClientFileError("a key that is a list or a map", next_step="this file cannot be changed")
        return Member(name.text, name.start, name.start, name.end, self.node(value, depth + 1))


def _end(inside: tuple[Node, ...], start: int) -> int:
    """Where a block collection ends: PyYAML's mark stands behind the comments that follow it."""
    return max([start, *(node.end for node in inside)])
