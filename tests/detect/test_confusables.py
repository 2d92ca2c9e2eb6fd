"""Look-alike names: impostors are named for what they imitate, honest names in any script pass."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.detect.confusables import impostor, skeleton


@pytest.mark.parametrize(
    ("name", "imitates"),
    [
        ("p\u0430ypal", "paypal"),
        ("r\u0435ad_file", "read_file"),
        ("get_\u0441\u043e\u0440\u0443", "get_copy"),
        ("\uff53\uff45\uff41\uff52\uff43\uff48", "search"),
        ("\U0001d429\U0001d41a\U0001d432", "pay"),
        ("\u03b1pple", "apple"),
        ("sc\u0251n", "scan"),
        ("\u24e1ead", "read"),
        ("\ufb01le", "file"),
        ("file_\u0441", "file_c"),
        ("get_\u0441\u043e\u0440\u0443 \u03a9", "get_copy \u03a9"),
        ("p\u0430y книги", "pay книги"),
        ("get_\u0441\u043e\u0440\u0443 л\u0435ft", "get_copy л\u0435ft"),
    ],
)
def test_impostors(name: str, imitates: str) -> None:
    assert impostor(name) == imitates
    assert skeleton(name) == skeleton(imitates)


@pytest.mark.parametrize(
    "name",
    [
        "search", "read_file", "l1st", "погода", "найти_файл", "поиск_api", "get_погода", "天気_検索", "搜索", "검색",
        "αβγ", "Δt", "µs", "λ_max", "Ωmega", "π_approx", "café", "größe", "ısı_ölç", "naïve", "ŁódźSearch", "x²",
        "H₂O", "№1", "ＡＰＩ検索", "Tシャツ検索", "नमस्ते", "سلام", "שלום", "սևան", "", "🚀", "сор",
        "Работа с API", "отчёт_о_SLA", "Список сервисов у AWS", "Λίστα ο API",
    ],
)  # fmt: skip
def test_honest_names(name: str) -> None:
    assert impostor(name) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [("list_1", "list_l"), ("O", "0"), ("modern", "modem"), ("cop", "\u0441\u043e\u0440"), ("file", "\ufb01le")],
)
def test_names_that_look_alike_share_a_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"), [("read", "write"), ("get_a", "get_b"), ("Read", "read"), ("погода", "noroda")]
)
def test_names_that_differ_do_not(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


def test_a_long_name_takes_no_time() -> None:
    start = time.process_time()
    assert impostor("a ж " + "о " * 200_000) == ""
    assert impostor("a" + "о" * 100_000 + "z" * 100_000) == "a" + "o" * 100_000 + "z" * 100_000
    assert time.process_time() - start < 5


@given(st.text(st.characters(codec="ascii")))
def test_ascii_is_never_an_impostor(name: str) -> None:
    assert impostor(name) == ""


@pytest.mark.parametrize(
    ("name", "imitates"),
    [
        ("read_fi\u217ce", "read_file"),
        ("rea\u217e_file", "read_file"),
        ("de\u217cete", "delete"),
        ("f\u2170le", "file"),
        ("r\u212ead", "read"),
        ("\u216dopy", "Copy"),
    ],
)
def test_numerals_drawn_as_letters(name: str, imitates: str) -> None:
    assert impostor(name) == imitates


@pytest.mark.parametrize(
    "name", ["Type \u2160", "Type\u2161", "\u7b2c\u2163\u7ae0", "Part \u2169", "chapter-\u2172", "5 kg \u212e"]
)
def test_numerals_that_count_are_honest(name: str) -> None:
    assert impostor(name) == ""
