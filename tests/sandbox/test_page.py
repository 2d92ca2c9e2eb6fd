from __future__ import annotations

from tools.make_sandbox_page import BEGIN, END, PAGE, replaced


def test_the_page_says_what_the_suite_expects() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert replaced(text) == text, "run: python tools/make_sandbox_page.py"


def test_the_rest_of_the_page_is_kept() -> None:
    made = replaced(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert made.startswith(f"before\n{BEGIN}\n") and made.endswith(f"{END}\nafter\n") and "\nold\n" not in made
