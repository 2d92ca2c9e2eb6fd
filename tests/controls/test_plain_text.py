"""Patterns that say that they are not in plain ASCII are not: the native lane does not scan it for them."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.controls.registry import METAS
from callgate.detect.automaton import Automaton
from callgate.gate.control import Pattern
from tests.gate.fakes import control, gate_of

PATTERNS: list[Pattern] = [pattern for meta in METAS for pattern in meta.patterns]
BEYOND = Automaton([(pattern.name, pattern.expression) for pattern in PATTERNS if not pattern.ascii])
PLAIN = st.text(st.sampled_from([chr(code) for code in range(0x20, 0x7F)] + ["\n", "\t", '"', "\\"]), max_size=60)
PIECES = st.lists(
    st.sampled_from(["\\", "\\u001b", "\\r", "\\b", "\\f", "u0000", "x", '"', "\n", "\t", "[31m"]), max_size=12
)


def test_those_of_all_controls_say_so() -> None:
    assert PATTERNS
    assert all(not pattern.ascii for pattern in PATTERNS)


@given(st.one_of(PLAIN, PIECES.map("".join)), PLAIN)
def test_none_is_found_in_plain_text(text: str, name: str) -> None:
    assert BEYOND.scan(orjson.dumps({"a": text, name: [text]})) == ()


@pytest.mark.parametrize("text", ["\x1b[31m", "a\rb", "\x7f", "\u200b", "a\ufe00", "\U000e0041", "\x08"])
def test_each_is_found_where_it_belongs(text: str) -> None:
    assert BEYOND.scan(orjson.dumps(text)) != ()


def test_a_gate_knows_whether_plain_text_is_clear() -> None:
    assert gate_of()[0].ascii_is_clear
    assert not gate_of(control("b", b"attack", call=lambda event: None))[0].ascii_is_clear
