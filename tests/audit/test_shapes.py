"""Shapes: names and types, bounded in depth and breadth, never a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.audit.records import canonical_value
from callgate.audit.shapes import BREADTH, MORE, name_is_plain, shape

SECRET = "S3cr3t-value-that-must-not-appear"
VALUES = st.recursive(
    st.sampled_from([None, True, 1, 1.5, SECRET]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=40),
    max_leaves=60,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, {}),
        ({"b": 1, "a": "x"}, {"a": "string", "b": "integer"}),
        ({"f": 1.0, "t": True, "n": None, "l": [{"x": 1}]}, {"f": "number", "l": "array", "n": "null", "t": "boolean"}),
        ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b": {"c": "object"}}}),
        ([1], "array"),
        ("text", "string"),
        (None, "null"),
    ],
)
def test_shapes(value: Any, expected: Any) -> None:
    assert json.loads(shape(value)) == expected


def test_breadth_is_bounded_and_the_rest_counted() -> None:
    described = json.loads(shape({f"k{number}": 1 for number in range(BREADTH + 10)}))
    assert len(described) == BREADTH + 1
    assert described[MORE] == 10


@pytest.mark.parametrize(
    "name", ["path", "max_results", "x-y", "$schema", "a.b", "isError", "structuredContent", "_meta", "n" * 64]
)
def test_names(name: str) -> None:
    assert name_is_plain(name)


@pytest.mark.parametrize(
    "name",
    ["", "n" * 65, "1st", "a b", "ann@example.org", "/etc/passwd", "é", "a\nb", 'a"b', "sk_live_4eC39HqLyjWDarjt",
     "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    assert not name_is_plain(name)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_a_shape_is_canonical_json_without_any_value(value: Any) -> None:
    text = shape(value)
    assert SECRET not in text
    assert canonical_value(json.loads(text)).decode() == text
