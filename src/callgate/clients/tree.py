"""A parsed client file: values, and where each of them stands in the text.

The three formats are read into one form, so that finding a server's entry, changing it and judging what changed are
written once. A node keeps positions in the text it was read from; nothing is ever printed back from a node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from callgate.errors import CallgateError
from callgate.text import visible

MAX_DEPTH = 100
"""Levels of nesting a client file may have."""

SCHEMES = ("age", "awssm", "env", "file", "keyring", "op", "vault")
"""Of references to where a credential is kept; see docs/secrets.md."""

Canonical: TypeAlias = Any
"""A value without its layout: maps and lists; strings as `s…`, anything else as `=` and how it was written."""


class ClientFileError(CallgateError):
    """A client's file cannot be read, understood or replaced. It is left as it is."""

    effect = "the file was left as it is"


class EntryRefused(CallgateError):
    """One server's entry cannot be changed exactly. It is left as it is; others go on."""

    effect = "the entry was left as it is"


@dataclass(frozen=True, slots=True)
class Node:
    """A value. `start` and `end` are -1 where it has no place of its own in the text (an alias, a table's parts)."""

    kind: Literal["map", "list", "scalar"]
    start: int
    end: int
    text: str = ""
    """A string's value, or how another scalar is written."""
    string: bool = False
    flow: bool = True
    """Members stand between brackets and commas, not on lines of their own."""
    members: tuple[Member, ...] = ()
    items: tuple[Node, ...] = ()

    def get(self, key: str) -> Member | None:
        """The member of that name. Raises ClientFileError when there are two: readers disagree about which counts."""
        found = [member for member in self.members if member.key == key]
        if len(found) > 1:
            raise ClientFileError(
                f"'{visible(key, 80)}' stands there twice", next_step="remove one of them, then try again"
            )
        return found[0] if found else None

    @property
    def is_null(self) -> bool:
        """Whether it is a null in JSON or YAML."""
        return self.kind == "scalar" and not self.string and self.text.lower() in ("", "null", "~")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a map. `start` is where its (dotted) key begins, `key_start` where the last part of it does."""

    key: str
    start: int
    key_start: int
    key_end: int
    node: Node


def canonical(node: Node, instead: Mapping[int, Canonical] | None = None) -> Canonical:
    """The value without its layout, for comparing and for keeping. `instead`: other values, by the id of a node."""
    if instead and id(node) in instead:
        return instead[id(node)]
    if node.kind == "map":
        found: dict[str, Canonical] = {}
        for member in node.members:
            key = member.key
            while key in found:
                key += "\0"
            found[key] = canonical(member.node, instead)
        return found
    if node.kind == "list":
        return [canonical(item, instead) for item in node.items]
    return ("s" if node.string else "=") + node.text


def digest(value: Canonical) -> str:
    """SHA-256 of a canonical value."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def strings(node: Node | None) -> list[str]:
    """The scalars of a list, numbers as they are written; a string alone is a list of one."""
    if node is None:
        return []
    if node.kind == "scalar":
        return [] if node.is_null else [node.text]
    return [item.text for item in node.items if item.kind == "scalar"]


def locate(root: Node, where: tuple[str, ...]) -> Node | None:
    """The value under these keys; in a list, the item whose member `name` is the key. Raises ClientFileError."""
    node = root
    for key in where:
        if node.kind == "list":
            named = [item for item in node.items if item.kind == "map" and _name(item) == key]
            if len(named) > 1:
                raise ClientFileError(f"'{visible(key, 80)}' stands there twice", next_step="remove one of them")
            found = named[0] if named else None
        else:
            member = node.get(key)
            found = member.node if member else None
        if found is None:
            return None
        node = found
    return node


def _name(item: Node) -> str | None:
    member = item.get("name")
    return member.node.text if member and member.node.kind == "scalar" else None


def is_reference(text: str) -> bool:
    """Whether a value names where a credential is kept."""
    scheme, found, rest = text.partition("://")
    return bool(found and rest) and scheme in SCHEMES
