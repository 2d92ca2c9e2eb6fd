"""What the difference of two JSON Schemas means (2020-12 and draft-07 keywords).

Widening: the new schema admits a value the old one refused, asks for one the old one did not ask for,
or changes in a way that is not judged here. Narrowing is cosmetic. Texts go through text_change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from callgate.trust.canonical import canonical
from callgate.trust.changes import ABSENT, ChangeClass, named

UPPER: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"})
LOWER: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"})
TEXTS: Final = frozenset({"description", "title", "$comment"})
MAPS: Final = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})
OPENING: Final = frozenset(
    {
        "additionalProperties",
        "unevaluatedProperties",
        "items",
        "additionalItems",
        "unevaluatedItems",
        "contains",
        "propertyNames",
    }
)
QUIET: Final = frozenset({"$schema", "$id", "$anchor", "deprecated", "readOnly", "writeOnly"})
"""Keywords that admit or refuse no value; their strings are still read as text."""
_DIALECTS: Final = ("http://json-schema.org/", "https://json-schema.org/")


def escape(token: str) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


class SchemaComparison:
    """Walks two schemas side by side and reports each difference through its three callbacks."""

    def __init__(
        self,
        record: Callable[[str, Any, Any, ChangeClass, str], None],
        text: Callable[[str, Any, Any], None],
        new_text: Callable[[str, Any], None],
    ) -> None:
        self._report = record
        self._recorded = 0
        self._compare_texts = text
        self._new_text = new_text

    def compare(self, pointer: str, before: Any, after: Any) -> None:
        """Differences of two schemas; ABSENT admits everything, like `true` and `{}`."""
        if canonical_or_absent(before) == canonical_or_absent(after):
            return
        if before is False or after is False:
            if before is not False:
                self._record(pointer, before, after, "cosmetic", "narrower: nothing is admitted here any more")
            else:
                self._record(pointer, before, after, "widening", "values are admitted where none were")
                self._text(pointer, ABSENT, after)
            return
        old = before if isinstance(before, dict) else {}
        new = after if isinstance(after, dict) else {}
        if not isinstance(after, dict | bool) and after is not ABSENT:
            self._record(pointer, before, after, "widening", "this is no schema any more")
            self._text(pointer, before, after)
            return
        for keyword in sorted(old.keys() | new.keys()):
            left, right = old.get(keyword, ABSENT), new.get(keyword, ABSENT)
            if canonical_or_absent(left) != canonical_or_absent(right):
                at = f"{pointer}/{escape(keyword)}"
                recorded = self._recorded
                self._keyword(at, keyword, left, right, old, new)
                if self._recorded == recorded and _is_empty(left) and _is_empty(right):
                    self._record(at, left, right, "cosmetic", "nothing is written down in another way")
                elif self._recorded == recorded:
                    self._record(at, left, right, "widening", "changed in a way that is not judged")

    def _record(self, at: str, left: Any, right: Any, meaning: ChangeClass, reason: str) -> None:
        self._recorded += 1
        self._report(at, left, right, meaning, reason)

    def _text(self, at: str, left: Any, right: Any) -> None:
        self._recorded += _are_texts(left, right)
        self._compare_texts(at, left, right)

    def _keyword(
        self, at: str, keyword: str, left: Any, right: Any, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> None:
        if keyword in TEXTS:
            self._text(at, left, right)
        elif keyword == "properties":
            self._properties(at, left, right)
        elif keyword == "required":
            self._required(at, left, right, old, new)
        elif keyword == "type":
            self._sets(at, left, right, "type", _types(left), _types(right))
        elif keyword == "enum":
            self._enum(at, left, right)
        elif keyword in UPPER or keyword in LOWER:
            self._bound(at, left, right, loosens_up=keyword in UPPER)
        elif keyword == "default":
            self._default(at, left, right)
        elif keyword == "examples":
            self._text(at, left, right)
            self._record(at, left, right, "cosmetic", "other examples")
        elif keyword in OPENING:
            self._opening(at, keyword, left, right)
        elif keyword in MAPS:
            self._map(at, left, right, loosens=keyword not in ("$defs", "definitions"))
        elif keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
            self._alternatives(at, keyword, left, right)
        elif keyword == "uniqueItems":
            self._plain(at, left, right, widening=left is True)
        elif keyword in ("pattern", "format", "const", "multipleOf", "contentEncoding", "contentMediaType"):
            self._text(at, left, right)
            self._plain(at, left, right, widening=left is not ABSENT)
        elif keyword in QUIET:
            if not (keyword == "$schema" and isinstance(right, str) and right.startswith(_DIALECTS)):
                self._text(at, left, right)
            self._record(at, left, right, "cosmetic", "says nothing about which values are admitted")
        else:
            self._text(at, left, right)
            self._plain(at, left, right, widening=True)

    def _plain(self, at: str, left: Any, right: Any, *, widening: bool) -> None:
        if widening:
            self._record(at, left, right, "widening", "a rule for values was changed or taken away")
        else:
            self._record(at, left, right, "cosmetic", "narrower: a rule for values was added")

    def _properties(self, at: str, left: Any, right: Any) -> None:
        old = left if isinstance(left, dict) else {}
        new = right if isinstance(right, dict) else {}
        for name in sorted(old.keys() | new.keys()):
            where = f"{at}/{escape(name)}"
            if name not in old:
                self._record(where, ABSENT, new[name], "widening", f"new parameter {named(name)}")
                self._new_text(where, {name: new[name]})
            elif name not in new:
                self._record(where, old[name], ABSENT, "cosmetic", f"narrower: parameter {named(name)} is gone")
            else:
                self.compare(where, old[name], new[name])

    def _required(self, at: str, left: Any, right: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        before, after = _strings(left), _strings(right)
        if before == after:
            self._record(at, left, right, "cosmetic", "the same names in another order")
            return
        had, has = _names(old), _names(new)
        dropped = sorted(name for name in before - after if name in has)
        forced = sorted(name for name in after - before if name in had or name not in has)
        if dropped:
            self._record(at, left, right, "widening", f"no longer required: {named(*dropped)}")
        if forced:
            self._record(at, left, right, "widening", f"must now always be sent: {named(*forced)}")
        if not dropped and not forced:
            self._record(at, left, right, "cosmetic", "follows the parameters that came or went")

    def _sets(
        self, at: str, left: Any, right: Any, what: str, before: frozenset[bytes], after: frozenset[bytes]
    ) -> None:
        if before == after:
            self._record(at, left, right, "cosmetic", f"the same {what} in another order")
        elif right is ABSENT:
            self._record(at, left, right, "widening", f"{what} is no longer restricted")
        elif left is ABSENT or after < before:
            self._record(at, left, right, "cosmetic", f"narrower: {what} is restricted more")
        else:
            self._record(at, left, right, "widening", f"{what} admits more")

    def _enum(self, at: str, left: Any, right: Any) -> None:
        before = _members(left)
        after = _members(right)
        if left is not ABSENT and isinstance(right, list):
            fresh = [value for value in right if canonical(value) not in before]
            if fresh:
                self._text(at, left, [*left, *fresh] if isinstance(left, list) else fresh)
        elif right is not ABSENT:
            self._text(at, left, right)
        self._sets(at, left, right, "the list of values", before, after)

    def _bound(self, at: str, left: Any, right: Any, *, loosens_up: bool) -> None:
        if right is ABSENT:
            self._record(at, left, right, "widening", "a bound was taken away")
        elif left is ABSENT:
            self._record(at, left, right, "cosmetic", "narrower: a bound was added")
        elif not _number(left) or not _number(right):
            self._record(at, left, right, "widening", "a bound was changed")
        elif (right > left) is loosens_up:
            self._record(at, left, right, "widening", "a bound was loosened")
        else:
            self._record(at, left, right, "cosmetic", "narrower: a bound was tightened")

    def _default(self, at: str, left: Any, right: Any) -> None:
        self._text(at, left, right)
        if right is ABSENT:
            self._record(at, left, right, "cosmetic", "no default any more")
        elif left is ABSENT and (right is None or right in ("", [], {}) or right is False):
            self._record(at, left, right, "cosmetic", "an empty default was written down")
        else:
            self._record(at, left, right, "widening", "what is done when the parameter is left out changed")

    def _opening(self, at: str, keyword: str, left: Any, right: Any) -> None:
        if left is ABSENT and right is not False and keyword in ("additionalProperties", "unevaluatedProperties"):
            # absent already admits anything, so a schema here can only narrow; its texts are still new
            self._text(at, ABSENT, right)
            self._record(at, left, right, "cosmetic", "other members were admitted before, too")
        elif isinstance(left, list) or isinstance(right, list):
            self._alternatives(at, "prefixItems", left, right)
        else:
            self.compare(at, True if left is ABSENT else left, True if right is ABSENT else right)
            if right is ABSENT and left is not True and isinstance(left, dict) and left:
                self._record(at, left, right, "widening", "other members are no longer restricted")

    def _map(self, at: str, left: Any, right: Any, *, loosens: bool) -> None:
        old = left if isinstance(left, dict) else {}
        new = right if isinstance(right, dict) else {}
        for name in sorted(old.keys() | new.keys()):
            where = f"{at}/{escape(name)}"
            if name not in old:
                self._text(where, ABSENT, {name: new[name]})
                self._record(where, ABSENT, new[name], "cosmetic", "narrower or unused: a sub-schema was added")
            elif name not in new:
                meaning: ChangeClass = "widening" if loosens else "cosmetic"
                self._record(where, old[name], ABSENT, meaning, "a sub-schema was taken away")
            else:
                self.compare(where, old[name], new[name])

    def _alternatives(self, at: str, keyword: str, left: Any, right: Any) -> None:
        old = left if isinstance(left, list) else []
        new = right if isinstance(right, list) else []
        before, after = sorted(map(canonical, old)), sorted(map(canonical, new))
        if before == after and keyword != "prefixItems":
            self._record(at, left, right, "cosmetic", "the same alternatives in another order")
        elif len(old) == len(new):
            for index, (one, two) in enumerate(zip(old, new, strict=True)):
                self.compare(f"{at}/{index}", one, two)
        else:
            self._text(at, left, right)
            grows = len(new) > len(old)
            if right is ABSENT or (grows and left is not ABSENT and keyword in ("anyOf", "oneOf")):
                self._record(at, left, right, "widening", "more alternatives are admitted")
            elif left is ABSENT or (keyword in ("anyOf", "oneOf") and set(after) < set(before)):
                self._record(at, left, right, "cosmetic", "narrower: fewer alternatives are admitted")
            elif grows and set(before) < set(after):
                self._record(at, left, right, "cosmetic", "narrower: one more rule for values")
            else:
                self._record(at, left, right, "widening", "the alternatives changed")


def canonical_or_absent(value: Any) -> bytes:
    """A text that is equal for equal JSON values (1, 1.0 and true are three)."""
    return b"" if value is ABSENT else canonical(value)


def _is_empty(value: Any) -> bool:
    return value is ABSENT or value in ({}, [])


def _are_texts(left: Any, right: Any) -> bool:
    return all(value is ABSENT or isinstance(value, str) for value in (left, right))


def _members(value: Any) -> frozenset[bytes]:
    return frozenset(map(canonical, value)) if isinstance(value, list) else frozenset()


def _types(value: Any) -> frozenset[bytes]:
    names = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    found = frozenset(map(canonical, names))
    return found | {b'"integer"'} if b'"number"' in found else found


def _strings(value: Any) -> set[str]:
    return {item for item in value if isinstance(item, str)} if isinstance(value, list) else set()


def _names(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
