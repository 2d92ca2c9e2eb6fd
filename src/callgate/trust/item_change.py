"""Compares two bodies of one item, member by member, and classifies each difference."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from callgate.trust.changes import ABSENT, Change, ChangeClass, named, needs_approval
from callgate.trust.destinations import destinations
from callgate.trust.schema_change import SchemaComparison, canonical_or_absent, escape
from callgate.trust.text_change import WORD_BUDGET, compare_text

ITEM_BUDGET: Final = WORD_BUDGET + WORD_BUDGET // 2
"""New words all texts of one item together may gain and still be cosmetic."""

HINTS: Final[Mapping[str, bool]] = {
    "readOnlyHint": False,
    "destructiveHint": True,
    "idempotentHint": False,
    "openWorldHint": True,
}
"""ToolAnnotations and their defaults in the specification, which assume the worst of a tool."""

_VERSION = set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+-_")
_STRINGS = 20_000


class ItemComparison:
    """Collects the changes of one pair of bodies."""

    def __init__(self, kind: str, tools: AbstractSet[str]) -> None:
        self._kind = kind
        self._tools = tools
        self._changes: list[Change] = []
        self._new_words = 0
        self._schemas = SchemaComparison(self._record, self._text, self._new_text)

    def run(self, before: Any, after: Any) -> tuple[Change, ...]:
        """All changes, in the order of the members."""
        if isinstance(before, dict) and isinstance(after, dict):
            for member in sorted(before.keys() | after.keys()):
                left, right = before.get(member, ABSENT), after.get(member, ABSENT)
                if canonical_or_absent(left) != canonical_or_absent(right):
                    recorded = len(self._changes)
                    self._member("/" + escape(member), member, left, right)
                    if len(self._changes) == recorded:
                        self._record(
                            "/" + escape(member), left, right, "widening", "changed in a way that is not judged"
                        )
        elif canonical_or_absent(before) != canonical_or_absent(after):
            self._text("", before, after)
            if not self._changes:
                self._record("", before, after, "widening", "changed in a way that is not judged")
        if self._new_words > ITEM_BUDGET and not needs_approval(self._changes):
            reason = f"{self._new_words} new words, spread over several texts"
            self._record("", before, after, "instruction-adding", reason)
        return tuple(self._changes)

    def _record(self, pointer: str, before: Any, after: Any, meaning: ChangeClass, reason: str) -> None:
        self._changes.append(Change(pointer, before, after, meaning, reason))

    def _member(self, at: str, member: str, left: Any, right: Any) -> None:
        if member == "annotations" and self._kind == "tool":
            self._annotations(at, left, right)
        elif member == "inputSchema":
            self._schemas.compare(at, left, right)
        elif member == "outputSchema":
            self._output(at, left, right)
        elif member == "arguments" and self._kind == "prompt":
            self._arguments(at, left, right)
        elif member == "icons":
            self._icons(at, left, right)
        elif member == "version" and self._kind == "identity":
            self._version(at, left, right)
        elif member == "name" and self._kind == "identity":
            if left is not ABSENT and right is not ABSENT:
                self._record(at, left, right, "renamed", "the server goes by another name")
            self._text(at, left, right)
        elif member == "capabilities":
            self._capabilities(at, left, right)
        elif member == "execution":
            # how a call is run, not what it does; 2026-07-28 servers leave it out, older ones send it
            self._text(at, left, right)
            self._record(at, left, right, "cosmetic", "how calls are run, not what they do")
        elif isinstance(left, str | type(ABSENT)) and isinstance(right, str | type(ABSENT)):
            self._text(at, left, right)
        else:
            self._other(at, left, right)

    def _text(self, at: str, left: Any, right: Any) -> None:
        """Compare all strings on both sides, member names included, as one text each."""
        if canonical_or_absent(left) == canonical_or_absent(right):
            return
        change = compare_text(_joined(left), _joined(right), self._tools)
        self._new_words += change.new_words
        for meaning, reason in change.meanings:
            self._record(at, left, right, meaning, reason)
        if not change.meanings and isinstance(left, str | type(ABSENT)) and isinstance(right, str | type(ABSENT)):
            shorter = change.new_words == 0 and len(_joined(right).split()) < len(_joined(left).split())
            why = "shorter" if shorter else f"wording ({change.new_words} new words), no new instruction or destination"
            self._record(at, left, right, "cosmetic", why)

    def _new_text(self, at: str, value: Any) -> None:
        """The texts of a parameter that is recorded as new already: only what stands out in them."""
        for meaning, reason in compare_text("", _joined(value), self._tools, described=True).meanings:
            self._record(at, ABSENT, value, meaning, reason)

    def _other(self, at: str, left: Any, right: Any) -> None:
        self._text(at, left, right)
        if right is ABSENT:
            self._record(at, left, right, "cosmetic", "withdrawn")
        else:
            self._record(at, left, right, "widening", "a member whose meaning is not known here changed")

    def _annotations(self, at: str, left: Any, right: Any) -> None:
        old = left if isinstance(left, dict) else {}
        new = right if isinstance(right, dict) else {}
        for name in sorted(old.keys() | new.keys()):
            before, after = old.get(name, ABSENT), new.get(name, ABSENT)
            if canonical_or_absent(before) == canonical_or_absent(after):
                continue
            where = f"{at}/{escape(name)}"
            if name in HINTS:
                self._hint(where, name, before, after)
            elif name == "title":
                self._text(where, before, after)
            else:
                self._text(where, before, after)
                self._record(where, before, after, "annotation-flip", f"the annotation {named(name)} changed")
        if not isinstance(right, dict) and right is not ABSENT:
            self._other(at, left, right)

    def _hint(self, at: str, name: str, before: Any, after: Any) -> None:
        default = HINTS[name]
        if before is ABSENT and after is default:
            self._record(at, before, after, "cosmetic", "the default was written down")
        elif after is ABSENT:
            self._record(at, before, after, "cosmetic", "withdrawn: clients assume the worse again")
        else:
            shown = default if before is ABSENT else before
            self._record(at, before, after, "annotation-flip", f"{name} went from {_word(shown)} to {_word(after)}")

    def _output(self, at: str, left: Any, right: Any) -> None:
        first = len(self._changes)
        self._schemas.compare(at, {} if left is ABSENT else left, {} if right is ABSENT else right)
        own = self._changes[first:]
        structural = [c for c in own if not _is_text(c) and "another order" not in c.reason]
        if structural or not own:
            self._record(at, left, right, "widening", "what the tool answers with changed its form")

    def _arguments(self, at: str, left: Any, right: Any) -> None:
        old, new = _by_name(left), _by_name(right)
        if old is None or new is None:
            self._other(at, left, right)
            return
        if list(old) != list(new) and old.keys() == new.keys():
            self._record(at, left, right, "cosmetic", "the same arguments in another order")
        for name in sorted(old.keys() | new.keys()):
            where = f"{at}/{escape(name)}"
            if name not in old:
                self._record(where, ABSENT, new[name], "widening", f"new argument {named(name)}")
                self._new_text(where, new[name])
            elif name not in new:
                self._record(where, old[name], ABSENT, "cosmetic", f"narrower: argument {named(name)} is gone")
            else:
                self._argument(where, old[name], new[name])

    def _argument(self, at: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        for member in sorted(old.keys() | new.keys()):
            left, right = old.get(member, ABSENT), new.get(member, ABSENT)
            if canonical_or_absent(left) == canonical_or_absent(right):
                continue
            where = f"{at}/{escape(member)}"
            if member == "required":
                same = (left is True) == (right is True)
                meaning: ChangeClass = "cosmetic" if same else "widening"
                self._record(where, left, right, meaning, "whether the argument must be sent")
            elif member in ("description", "title"):
                self._text(where, left, right)
            else:
                self._other(where, left, right)

    def _icons(self, at: str, left: Any, right: Any) -> None:
        new = _hosts(right) - _hosts(left)
        if new:
            self._record(at, left, right, "destination-adding", f"icons are fetched from {named(*sorted(new))}")
        else:
            self._record(at, left, right, "cosmetic", "another picture from the same place")

    def _version(self, at: str, left: Any, right: Any) -> None:
        if right is ABSENT or (isinstance(right, str) and len(right) <= 64 and set(right) <= _VERSION):
            self._record(at, left, right, "cosmetic", "another version")
        else:
            self._text(at, left, right)
            self._record(at, left, right, "widening", "the version is not a version number any more")

    def _capabilities(self, at: str, left: Any, right: Any) -> None:
        if left is ABSENT or right is ABSENT:
            self._record(at, left, right, "cosmetic", "capabilities were not said in this answer")
            return
        fresh = [name for name in right if name not in left]
        if fresh:
            self._record(at, left, right, "widening", f"the server now also offers {', '.join(fresh)}")
        else:
            self._record(at, left, right, "cosmetic", "the server offers less")


def _is_text(change: Change) -> bool:
    member = change.pointer.rpartition("/")[2]
    return member in ("description", "title", "$comment", "$schema", "examples")


def _word(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, "something else") if isinstance(value, bool) else "something else"


def _joined(value: Any) -> str:
    """Every string in `value`, names of members included, one a line; at most `_STRINGS` of them."""
    if isinstance(value, str):
        return value
    found: list[str] = []
    stack = [value]
    while stack and len(found) < _STRINGS:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            for key, inner in reversed(item.items()):
                stack += (inner, key)
        elif isinstance(item, list):
            stack += reversed(item)
    return "\n".join(found)


def _by_name(value: Any) -> dict[str, Mapping[str, Any]] | None:
    if value is ABSENT:
        return {}
    if not isinstance(value, list):
        return None
    found: dict[str, Mapping[str, Any]] = {}
    for element in value:
        name = element.get("name") if isinstance(element, dict) else None
        if not isinstance(name, str) or name in found:
            return None
        found[name] = element
    return found


def _hosts(icons: Any) -> set[str]:
    """Hosts of all icon sources; `data:` stays a kind of its own, anything odd is taken whole."""
    found: set[str] = set()
    for icon in icons if isinstance(icons, list) else []:
        source = icon.get("src") if isinstance(icon, dict) else None
        if not isinstance(source, str):
            found.add("(no source)")
        elif source.startswith("data:image/"):
            found.add("data:image/")
        elif "://" in source:
            scheme, _, rest = source.partition("://")
            found.add(f"{scheme.lower()}://{rest.partition('/')[0].lower()}")
        else:
            found.update(destinations(source) or {source})
    return found
