"""The servers in a client's file, and what each entry is: a command, a URL, behind the gate already, or neither."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from callgate.clients.table import Place, Shape
from callgate.clients.tree import ClientFileError, Node, strings

Kind: TypeAlias = Literal["stdio", "remote", "wrapped", "other"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One server of a file. `container` are the keys that lead to it, without its name."""

    container: tuple[str, ...]
    name: str
    node: Node
    kind: Kind
    command: tuple[str, ...] = ()
    """Program and arguments, of a server on stdin and stdout."""
    url: str = ""

    @property
    def where(self) -> tuple[str, ...]:
        """What identifies the entry within its file."""
        return (*self.container, self.name)


def entries(root: Node, place: Place, shape: Shape) -> Iterator[Entry]:
    """All servers of a document. Raises ClientFileError where the servers are not in the form the client reads."""
    if root.kind != "map":
        raise ClientFileError("the document is not a map", next_step="mend the file, then try again")
    if place.hands_off and place.path.endswith(".mcp.json") and root.get(place.keys[0]) is None:
        # A plugin may leave out the key around its servers.
        found = (_entry((), member.key, member.node, shape) for member in root.members)
        yield from (entry for entry in found if entry.kind != "other")
        return
    for container, node in _containers(root, place.keys, ()):
        if place.hands_off and node.kind == "scalar":
            continue  # a plugin may name another file there
        for name, item in _items(node, place):
            yield _entry(container, name, item, shape)


def _containers(node: Node, keys: tuple[str, ...], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Node]]:
    if not keys:
        yield above, node
        return
    if node.kind != "map":
        return
    if keys[0] == "*":
        for member in node.members:
            yield from _containers(member.node, keys[1:], (*above, member.key))
        return
    found = node.get(keys[0])
    if found:
        yield from _containers(found.node, keys[1:], (*above, keys[0]))


def _items(node: Node, place: Place) -> Iterator[tuple[str, Node]]:
    if node.is_null:
        return
    if node.kind != ("list" if place.named else "map"):
        form = "a list" if place.named else "a map"
        raise ClientFileError(f"{'.'.join(place.keys)} is not {form}", next_step="mend the file, then try again")
    if place.named:
        for item in node.items:
            label = item.get("name") if item.kind == "map" else None
            if label:
                yield label.node.text, item
    else:
        for member in node.members:
            yield member.key, member.node


def _entry(container: tuple[str, ...], name: str, node: Node, shape: Shape) -> Entry:
    if node.kind != "map":
        return Entry(container, name, node, "other")
    command = node.get(shape.command)
    if command and not command.node.is_null:
        words = strings(command.node)
        if shape.args:
            member = node.get(shape.args)
            words += strings(member.node if member else None)
        if words and words[0]:
            kind: Kind = "wrapped" if gate_at(words) >= 0 else "stdio"
            return Entry(container, name, node, kind, tuple(words))
    for key in shape.urls:
        member = node.get(key)
        if member and member.node.string and member.node.text:
            return Entry(container, name, node, "remote", url=member.node.text)
    return Entry(container, name, node, "other")


def gate_at(words: list[str] | tuple[str, ...]) -> int:
    """Where `callgate run` begins in a command line, -1 where it does not: a prefix such as `env` may stand before."""
    words = words[0].split() if len(words) == 1 else words
    for at, word in enumerate(words[:-1]):
        base = os.path.basename(word.replace("\\", "/")).lower()
        if base in ("callgate", "callgate.exe") and words[at + 1] == "run":
            return at
        if word == "-m" and words[at + 1] == "callgate.cli.main":
            return at
        if word == "--":
            break
    return -1


def behind_run(words: list[str] | tuple[str, ...]) -> list[str]:
    """What stands behind `callgate run` in a command line; empty where it does not start the gate."""
    at = gate_at(words)
    words = words[0].split() if len(words) == 1 else list(words)
    return words[words.index("run", at) + 1 :] if at >= 0 and "run" in words[at:] else []
