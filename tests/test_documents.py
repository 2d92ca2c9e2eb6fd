"""The documents are true: links lead somewhere, help texts are current, examples are accepted."""

from __future__ import annotations

import pytest

from tools import check_docs


def test_documents_are_true() -> None:
    assert [str(problem) for problem in check_docs.check(static=False)] == []


@pytest.mark.parametrize(
    ("language", "text"),
    [("json", "{"), ("toml", "mode ="), ("toml", 'mode = "lenient"'), ("toml", "unknown = 1")],
)
def test_a_wrong_example_is_found(language: str, text: str) -> None:
    assert check_docs.check_block(language, text)


def test_an_outdated_help_text_is_found() -> None:
    assert "prints something else" in check_docs.check_help("$ callgate --help\nusage: something else\n")
    assert check_docs.check_help("$ ls\n") == ""


def test_fragments_are_those_of_a_forge() -> None:
    assert slugs() == ["a-tools-name", "limits_bytes", "run--serve"]


def slugs() -> list[str]:
    return [check_docs.slug(text) for text in ("A tool's name", "limits_bytes", "run & serve")]
