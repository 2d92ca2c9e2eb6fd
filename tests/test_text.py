r"""`visible()`: nothing hidden is left, different texts never show alike."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.text import escape, visible

HOSTILE = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp"]),
        st.sampled_from(list("\\\\\\xuUnrt01bae️❤#\ue000\U000e0041")),
    )
)


def original(shown: str) -> str:
    """The text that `visible(text, None)` showed: the inverse, written from the documentation alone."""
    out: list[str] = []
    index = 0
    while index < len(shown):
        if shown[index] != "\\":
            out.append(shown[index])
            index += 1
            continue
        end = index
        while end < len(shown) and shown[end] == "\\":
            end += 1
        count = end - index
        letter = shown[end : end + 1]
        digits = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
        value = shown[end + 1 : end + 1 + digits]
        whole = digits > 0 and len(value) == digits and all(c in "0123456789abcdef" for c in value)
        if not letter or (letter not in "nrt" and not whole):
            out.append("\\" * count)
            index = end
            continue
        out.append("\\" * (count // 2))
        index = end
        if count % 2:
            out.append({"n": "\n", "r": "\r", "t": "\t"}.get(letter) or chr(int(value, 16)))
            index = end + 1 + digits
    return "".join(out)


@given(HOSTILE)
def test_different_texts_never_show_alike(text: str) -> None:
    assert original(visible(text, None)) == text


@given(HOSTILE)
def test_nothing_hidden_is_left(text: str) -> None:
    shown = visible(text, None)
    for index, char in enumerate(shown):
        if char == "\ufe0f":
            assert shown[index - 1 : index]
            assert shown[index + 1 : index + 2] != "\ufe0f"
            continue
        category = unicodedata.category(char)
        assert category not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}, hex(ord(char))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, nothing to do", "plain text, nothing to do"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("hi\U000e0041", "hi\\U000e0041"),
        ("line one\nline two\r\n\t", "line one\\nline two\\r\\n\\t"),
        ("\x7f\x9b2J", "\\x7f\\x9b2J"),
        ("\u2028\u2029\ufeff\u00ad", "\\u2028\\u2029\\ufeff\\xad"),
        ("C:\\Users\\me", "C:\\Users\\me"),
        ("\\d+\\.\\w", "\\d+\\.\\w"),
        ("\\x1b", "\\\\x1b"),
        ("\\\x1b", "\\\\\\x1b"),
        ("\\new", "\\\\new"),
        ("❤️ done ✔️ 1️⃣", "❤️ done ✔️ 1️⃣"),
        ("a\ufe0f", "a\\ufe0f"),
        ("❤\ufe0f\ufe0f", "❤\\ufe0f\\ufe0f"),
        ("❤\ufe01", "❤\\ufe01"),
        ("погода 天気　東京 שלום", "погода 天気　東京 שלום"),
        ("\ud800", "\\ud800"),
        ("non\u00a0breaking", "non\\xa0breaking"),
        ("\u3164\u2800\u115f", "\\u3164\\u2800\\u115f"),
        ("\U0001fae8", "\U0001fae8"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_limit_says_how_much_is_missing() -> None:
    assert visible("a" * 1000) == "a" * 1000
    assert visible("a" * 1001) == "a" * 1000 + "… (+1 characters)"
    assert visible("\x1b" * 10, limit=3) == "\\x1b\\x1b\\x1b… (+7 characters)"
    assert visible("", limit=0) == ""


def test_escape_is_always_ascii() -> None:
    for code in (0, 9, 10, 13, 27, 0x7F, 0x9B, 0xAD, 0x202E, 0xFFFF, 0x10000, 0xE0041, 0x10FFFF):
        shown = escape(chr(code))
        assert shown.isascii()
        assert shown.isprintable()
        assert original(shown) == chr(code)
