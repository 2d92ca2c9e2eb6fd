"""Hypothesis strategies for JSON values and MCP messages, hostile ones among them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from callgate.protocol.message import Direction
from callgate.protocol.shapes import known_names

# Surrogates cannot be serialised; NUL and friends can.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.sampled_from(sorted(known_names(Direction.SERVER))) | st.sampled_from(["", "/", "~", "a/b~c", "0"]) | texts
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
objects = st.dictionaries(keys, values, max_size=6)
directions = st.sampled_from(list(Direction))
ids = st.integers(-(2**53), 2**53) | texts.filter(lambda text: "\0" not in text)


def all_strings(value: Any, pointer: str = "") -> dict[str, str]:
    """Every string value of a JSON value, by pointer: the plain recursive definition."""
    if isinstance(value, str):
        return {pointer: value}
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for key, child in value.items():
            found |= all_strings(child, pointer + "/" + key.replace("~", "~0").replace("/", "~1"))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            found |= all_strings(child, f"{pointer}/{index}")
    return found


def all_names(value: Any, pointer: str = "") -> dict[str, str]:
    """Every member name of a JSON value, by the pointer of its member."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for key, child in value.items():
            here = pointer + "/" + key.replace("~", "~0").replace("/", "~1")
            found[here] = key
            found |= all_names(child, here)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            found |= all_names(child, f"{pointer}/{index}")
    return found
