"""Which differences of two schemas widen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.trust.changes import ABSENT, Change
from callgate.trust.schema_change import SchemaComparison


def compared(before: Any, after: Any) -> list[Change]:
    found: list[Change] = []

    def record(pointer: str, left: Any, right: Any, meaning: Any, reason: str) -> None:
        found.append(Change(pointer, left, right, meaning, reason))

    def text(pointer: str, left: Any, right: Any) -> None:
        if any(isinstance(side, str) for side in (left, right)):
            record(pointer, left, right, "cosmetic", "text")

    def new_text(pointer: str, value: Any) -> None:
        record(pointer, ABSENT, value, "cosmetic", "text")

    SchemaComparison(record, text, new_text).compare("", before, after)
    return found


def widens(before: Any, after: Any) -> bool:
    return any(change.meaning == "widening" for change in compared(before, after))


BASE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "count": {"type": "integer", "minimum": 1, "maximum": 10},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "uniqueItems": True},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "both": {"allOf": [{"minLength": 1}, {"maxLength": 9}]},
    },
    "required": ["mode"],
    "additionalProperties": False,
    "$defs": {"x": {"type": "string"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """BASE with the value at `path` set, or taken out for ABSENT."""
    import copy

    body = copy.deepcopy(BASE)
    *parents, last = path.split("/")
    place: Any = body
    for token in parents:
        place = place[int(token) if isinstance(place, list) else token]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/new", {"type": "string"}),
        ("required", []),
        ("required", ["mode", "count"]),
        ("required", ABSENT),
        ("type", ["object", "null"]),
        ("type", ABSENT),
        ("additionalProperties", ABSENT),
        ("additionalProperties", True),
        ("additionalProperties", {"type": "string"}),
        ("properties/mode/enum", ["a", "b", "c"]),
        ("properties/mode/enum", ["a", "c"]),
        ("properties/mode/enum", ABSENT),
        ("properties/mode/default", "b"),
        ("properties/count/default", 3),
        ("properties/count/type", "number"),
        ("properties/count/minimum", 0),
        ("properties/count/maximum", 11),
        ("properties/count/maximum", ABSENT),
        ("properties/count/maximum", "11"),
        ("properties/tags/items/maxLength", 6),
        ("properties/tags/items", ABSENT),
        ("properties/tags/items", True),
        ("properties/tags/uniqueItems", False),
        ("properties/either/anyOf", [{"type": "string"}, {"type": "integer"}, {"type": "object"}]),
        ("properties/either/anyOf", [{"type": "string"}, {"type": "number"}]),
        ("properties/either/anyOf", ABSENT),
        ("properties/both/allOf", [{"minLength": 1}]),
        ("properties/both/allOf", ABSENT),
        ("properties/mode/x-mcp-header", "Mode"),
        ("properties/mode/$ref", "#/$defs/x"),
        ("not", {"required": ["count"]}),
        ("properties/mode", "anything"),
    ],
)
def test_widening(path: str, value: Any) -> None:
    assert widens(BASE, changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/count", ABSENT),
        ("properties/mode/enum", ["a"]),
        ("properties/mode/enum", ["b", "a"]),
        ("properties/mode/default", ABSENT),
        ("properties/count/default", None),
        ("properties/count/minimum", 2),
        ("properties/count/maximum", 9),
        ("properties/count/multipleOf", 2),
        ("properties/count/description", "How many"),
        ("properties/tags/minItems", 1),
        ("properties/tags/items", False),
        ("properties/either/anyOf", [{"type": "integer"}, {"type": "string"}]),
        ("properties/either/anyOf", [{"type": "string"}]),
        ("properties/both/allOf", [{"minLength": 1}, {"maxLength": 9}, {"pattern": "^x"}]),
        ("properties/mode/format", "hostname"),
        ("properties/mode/const", "a"),
        ("$schema", "http://json-schema.org/draft-07/schema#"),
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("$defs/y", {"type": "integer"}),
        ("maxProperties", 3),
        ("definitions", {}),
        ("patternProperties", {"^x": {"type": "string"}}),
        ("unevaluatedProperties", False),
    ],
)
def test_narrower_or_the_same(path: str, value: Any) -> None:
    after = changed(path, value)
    assert compared(BASE, after)
    assert not widens(BASE, after)


@pytest.mark.parametrize(("before", "after"), [(False, True), (False, {}), (False, {"type": "string"}), ({}, 3)])
def test_boolean_schemas_that_open(before: Any, after: Any) -> None:
    assert widens(before, after)


@pytest.mark.parametrize(("before", "after"), [(True, False), ({}, False), (True, True), ({}, {"type": "string"})])
def test_boolean_schemas_that_close(before: Any, after: Any) -> None:
    assert not widens(before, after)


def test_true_and_1_are_two_values() -> None:
    assert widens({"const": 1}, {"const": True})


def test_pointers_are_escaped() -> None:
    (first, *_) = compared({"properties": {}}, {"properties": {"a/b~c": {}}})
    assert first.pointer == "/properties/a~1b~0c"


KEYWORDS = st.sampled_from(
    ["type", "properties", "required", "enum", "items", "anyOf", "maximum", "default", "$defs", "not", "description",
     "additionalProperties", "patternProperties", "x-odd", "examples", "prefixItems"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["string", "object", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS | st.sampled_from(["p", "q"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, VALUES, max_size=5), st.dictionaries(KEYWORDS, VALUES, max_size=5))
def test_any_two_objects_can_be_compared_and_no_difference_is_lost(before: Any, after: Any) -> None:
    from callgate.trust.canonical import canonical

    changes = compared(before, after)
    assert compared(before, before) == []
    if canonical(before) != canonical(after):
        assert changes, "a difference that nothing was recorded for would pass unseen"
