from __future__ import annotations

from pathlib import Path

from callgate.clients.page import BEGIN, END, generated, main

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


def test_the_page_says_what_the_table_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert made == generated(), "run: python -m callgate.clients.page docs/clients.md"


def test_the_rest_of_the_page_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main([str(page)])
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "\nold\n" not in text
