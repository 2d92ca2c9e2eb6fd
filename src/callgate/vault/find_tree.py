"""Credentials in documents of members and lists: JSON, TOML, YAML, read into nodes that know their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

from callgate.detect.credentials import in_words, judge
from callgate.vault.find import Hit

MOST_VALUES = 500_000
"""Values of one document that are looked at."""


class Member(Protocol):
    """A member of a map."""

    @property
    def key(self) -> str: ...
    @property
    def node(self) -> Node: ...


class Node(Protocol):
    """A value and where it stands; -1 where it has no place of its own."""

    @property
    def kind(self) -> Literal["map", "list", "scalar"]: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def string(self) -> bool: ...
    @property
    def members(self) -> Sequence[Member]: ...
    @property
    def items(self) -> Sequence[Node]: ...


_LISTS_OF_WORDS = frozenset({"args", "command", "cmd", "argv", "arguments", "runtimeargs"})


def in_document(root: Node, too_many: Callable[[], None] = lambda: None) -> Iterator[Hit]:
    """All credentials of a document; the key is the path of names. The place is that of the whole value.

    `too_many` is called when there were more values than are looked at.
    """
    left = MOST_VALUES
    stack: list[tuple[Node, tuple[str, ...]]] = [(root, ())]
    while stack:
        node, path = stack.pop()
        left -= 1
        if left < 0:
            too_many()
            return
        if node.kind == "map":
            stack += ((member.node, (*path, member.key)) for member in reversed(node.members))
        elif node.kind == "list":
            yield from _words(node, path)
            stack += ((item, path) for item in reversed(node.items) if item.kind != "scalar")
        elif node.string and node.start >= 0:
            name = _name(path)
            if name.lower() in _LISTS_OF_WORDS:
                yield from _line(node, path)
                continue
            found = judge(node.text, name)
            if found:
                yield Hit(node.start, node.end, ".".join(path), found, node.text[found.start : found.end])


def _name(path: tuple[str, ...]) -> str:
    """What the value is called: of a pair `{name: X, value: Y}` that is not known here, its member's name."""
    return path[-1] if path else ""


def _line(node: Node, path: tuple[str, ...]) -> Iterator[Hit]:
    """A command line in one string."""
    words = node.text.split()
    for number, found in in_words(words):
        yield Hit(
            node.start, node.end, ".".join(path), found, words[number][found.start : found.end], in_arguments=True
        )


def _words(node: Node, path: tuple[str, ...]) -> Iterator[Hit]:
    items = [item for item in node.items if item.kind == "scalar"]
    arguments = _name(path).lower() in _LISTS_OF_WORDS
    if arguments:
        hits = in_words([item.text if item.string else "" for item in items])
    else:
        hits = [
            (at, found) for at, item in enumerate(items) if item.string and (found := judge(item.text, _name(path)))
        ]
    for number, found in hits:
        item = items[number]
        if item.start >= 0:
            value = item.text[found.start : found.end]
            label = f"{'.'.join(path)}[{number}]"
            yield Hit(item.start, item.end, label, found, value, in_arguments=arguments)
