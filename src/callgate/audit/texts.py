"""The constant text of decision records, made once and remembered.

Names come from peers: all of them go through JSON quoting here, and what is remembered is bounded, so a
peer that invents names costs its own calls some microseconds and no memory.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from orjson import Fragment

from callgate.audit.records import quoted
from callgate.audit.shapes import DEPTH, shape
from callgate.vault.active import clean, empties, no_longer

Who: TypeAlias = tuple[str, str, str, str]
"""principal, server, session, transport"""

REMEMBERED: Final = 1024
"""Entries of each memory; one that is full is emptied."""
_MEMBERS: Final = 24
_TEXT_BYTES: Final = 2048


class Texts:
    """The texts of one log. Without `described`, records are of detail `digest` and have no `content`."""

    __slots__ = (
        "_chain",
        "_described",
        "_nested",
        "_scopes",
        "_shapes",
        "client_heads",
        "failed_heads",
        "server_heads",
    )

    def __init__(self, chain: str, described: bool) -> None:
        self._chain = chain
        self._described = described
        self._scopes: dict[tuple[Who, str], Fragment] = {}
        self._shapes: dict[tuple[object, ...], str] = {}
        self._nested: dict[tuple[object, ...], tuple[str, str, str]] = {}
        self.client_heads: dict[tuple[object, ...], Fragment] = {}
        self.server_heads: dict[tuple[object, ...], Fragment] = {}
        """By (hook, method, name, outcome, *names, *types) of the content's members."""
        self.failed_heads: dict[tuple[object, ...], Fragment] = {}
        """The same for answers that say that the request failed."""
        empties(self.client_heads, self.server_heads, self.failed_heads)

    def close(self) -> None:
        """Nothing is asked of these texts any more."""
        no_longer(self.client_heads, self.server_heads, self.failed_heads)

    def scope(self, who: Who, revision: str) -> Fragment:
        """The value of `scope`. Over HTTP there may be a new scope for every request."""
        key = (who, revision)
        text = self._scopes.get(key)
        if text is None:
            principal, server, session, transport = who
            text = Fragment(
                f'{{"principal":{quoted(principal)},"revision":{quoted(revision)},"server":{quoted(server)},'
                f'"session":{quoted(session)},"transport":{quoted(transport)}}}'.encode()
            )
            _room(self._scopes)
            self._scopes[key] = text
        return text

    def head(self, key: tuple[object, ...], direction: int, content: dict[str, Any], failed: str) -> Fragment | None:
        """The text from the value of `chain` to that of `outcome`, for a key that is not in the heads.

        None where a secret of this process is in it: then the record is made in full, and cleaned.
        """
        nested = self._nested.get((direction, failed, *key))
        if nested is not None:
            before, member, after = nested
            return _clean((before + self._shape(content[member]) + after).encode())
        hook, method, name, outcome = (quoted(str(part)) for part in key[:4])
        before = f'"{self._chain}",'
        detail = "shape" if self._described else "digest"
        failure = f'"failed":"{failed}",' if failed else ""
        after = (
            f'"detail":"{detail}","direction":"{"server" if direction else "client"}",'
            f'{failure}"hook":{hook},"kind":"decision","method":{method},"name":{name},"outcome":{outcome}'
        )
        described = f'"content":{shape(content)},' if self._described else ""
        text = (before + described + after).encode()
        head = _clean(text)
        if head is None:
            return None
        if len(key) > 4 + 2 * _MEMBERS or sum(len(part) for part in key if type(part) is str) > _TEXT_BYTES:
            return head
        if dict not in key:
            answers = self.failed_heads if failed else self.server_heads
            heads = answers if direction else self.client_heads
            _room(heads)
            heads[key] = head
            if _clean(text) is None:  # a secret was added this moment: see `vault.active.empties`
                heads.pop(key, None)
                return None
        else:
            self._remember_nested((direction, failed, *key), content, before, after)
        return head

    def _remember_nested(self, key: tuple[object, ...], content: dict[str, Any], before: str, after: str) -> None:
        """Remember the text around the shape of the one member that is an object."""
        members = [name for name, value in content.items() if type(value) is dict]
        if len(members) != 1:
            return
        text = shape({name: value if name != members[0] else {} for name, value in content.items()})
        left, found, right = text.partition(":{}")
        if found and not right.count("{"):
            _room(self._nested)
            self._nested[key] = (f'{before}"content":{left}:', members[0], f"{right},{after}")

    def _shape(self, value: dict[str, Any]) -> str:
        """The shape of an object inside the content, remembered when it is flat and small."""
        if len(value) > _MEMBERS:
            return shape(value, DEPTH - 1)
        key = (*value, *map(type, value.values()))
        text = self._shapes.get(key)
        if text is None:
            text = shape(value, DEPTH - 1)
            if dict not in key and sum(map(len, value)) <= _TEXT_BYTES:
                _room(self._shapes)
                self._shapes[key] = text
        return text


def _room(memory: dict[Any, Any]) -> None:
    if len(memory) >= REMEMBERED:
        memory.clear()


def _clean(text: bytes) -> Fragment | None:
    return Fragment(text) if clean(text) == text else None
