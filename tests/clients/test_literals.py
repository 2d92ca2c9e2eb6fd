"""How a literal is written, apart from what it says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.clients.formats import FormatName, string
from callgate.clients.literals import describe, write


@pytest.mark.parametrize(
    ("format_", "literal", "value"),
    [
        ("json", '"plain"', "plain"),
        ("json", r'"a\/b\u0070\u00E9\n\ud83d\ude00"', "a/bpé\n\U0001f600"),
        ("json", r'"\u001b"', "\x1b"),
        ("json", '"é\U0001f600"', "é\U0001f600"),
        ("toml", '"a\\u0041\\U0001F600\\t"', "aA\U0001f600\t"),
        ("toml", "'C:\\x'", "C:\\x"),
        ("toml", '"""\nline\nother"""', "line\nother"),
        ("toml", '"""\r\nline"""', "line"),
        ("toml", "'''it's'''", "it's"),
        ("toml", '""', ""),
        ("yaml", "plain-value", "plain-value"),
        ("yaml", "'it''s'", "it's"),
        ("yaml", r'"\x41\e\u0041\U0001f600\_"', "A\x1bA\U0001f600\xa0"),
    ],
)
def test_there_and_back(format_: FormatName, literal: str, value: str) -> None:
    form = describe(format_, literal, value)
    assert form is not None
    assert write(form, value) == literal


@pytest.mark.parametrize(
    ("format_", "literal", "value"),
    [
        ("json", r'"\u00eE"', "î"),  # one digit small, one capital: told apart by nothing that is kept
        ("toml", '"""one \\\n   two"""', "one two"),
        ("yaml", ">-\n  folded\n  text", "folded text"),
        ("yaml", "|\n  block", "block\n"),
        ("yaml", '"folded\n  text"', "folded text"),
        ("json", '"other"', "value"),
    ],
)
def test_what_cannot_be_told_apart_is_not_described(format_: FormatName, literal: str, value: str) -> None:
    assert describe(format_, literal, value) is None


def test_a_form_tells_nothing_of_the_value() -> None:
    form = describe("json", json.dumps("ghp_hunter2"), "ghp_hunter2")
    assert form is not None
    assert form.exceptions == ()
    form = describe("json", r'"gh\u0070"', "ghp")
    assert form is not None
    assert form.exceptions == ((2, "u"),)


@given(st.text(), st.sampled_from(["json", "toml", "yaml"]))
def test_what_callgate_writes_can_be_described(value: str, format_: FormatName) -> None:
    literal = string(format_, value)
    form = describe(format_, literal, value)
    assert form is not None
    assert write(form, value) == literal
