"""Is what a server shows now what was approved?

Always compared with *approved* bodies, never with what passed last time: many small steps that are each
cosmetic cannot walk to a change that is not, for every step is measured from the same place.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final, Literal, TypeAlias

from callgate.frozen import dataclass
from callgate.trust.canonical import digest
from callgate.trust.changes import ABSENT, CLASSES, Change, ChangeClass, compare, named, needs_approval, worst
from callgate.trust.definitions import KEY_MEMBER, Item, ItemKind

Standing: TypeAlias = Literal["approved", "first", "cosmetic", "changed", "added", "renamed"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How one item stands to the baseline. `nearest` is the approved body it was compared with, or None."""

    standing: Standing
    changes: tuple[Change, ...] = ()
    nearest: Any = None

    @property
    def passes(self) -> bool:
        """Whether the item may be shown to the client."""
        return self.standing in ("approved", "first", "cosmetic")

    @property
    def meaning(self) -> ChangeClass:
        """The severest class of the changes."""
        return worst(self.changes)


APPROVED: Final = Judgement("approved")
FIRST: Final = Judgement("first")


def judge_changed(item: Item, approved: Iterable[Any], tools: AbstractSet[str]) -> Judgement:
    """An item whose key is known but whose digest is not: the least difference from any approved body."""
    best: Judgement | None = None
    others = tools - {item.key.lower()}
    for body in approved:
        changes = compare(item.kind, body, item.body, others)
        found = Judgement("changed" if needs_approval(changes) else "cosmetic", changes, body)
        if best is None or CLASSES.index(found.meaning) < CLASSES.index(best.meaning):
            best = found
    if best is None:
        raise ValueError("an item without an approved body is not changed but new")
    return best


class Nameless:
    """Approved bodies of one kind, (key, body), to be found by all of them but their name."""

    __slots__ = ("_found",)

    def __init__(self, kind: ItemKind, approved: Iterable[tuple[str, Any]]) -> None:
        self._found: dict[str, dict[str, Any]] = {}
        for key, body in approved:
            self._found.setdefault(_nameless(kind, body), {}).setdefault(key, body)

    def other(self, item: Item) -> tuple[str, Any] | None:
        """What has the body of `item` under another name."""
        same = self._found.get(_nameless(item.kind, item.body), {})
        return next(((key, body) for key, body in same.items() if key != item.key), None)


def judge_new(item: Item, approved: Nameless) -> Judgement:
    """An item with a new key while the baseline is complete. `approved`: all of the same kind."""
    other = approved.other(item)
    if other is not None:
        key, body = other
        reason = f"the definition of {named(key)} under another name"
        return Judgement("renamed", (Change("", body, item.body, "renamed", reason),), body)
    reason = "was not there when the server was approved"
    return Judgement("added", (Change("", ABSENT, item.body, "added", reason),))


def _nameless(kind: ItemKind, body: Any) -> str:
    member = KEY_MEMBER.get(kind, "")
    return digest({k: v for k, v in body.items() if k != member} if isinstance(body, dict) else body)
