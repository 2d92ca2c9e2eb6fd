"""False positives on a development corpus that is not part of the project: its benign texts must all pass."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from callgate.detect import escapes, hidden

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "dev.jsonl.gz"


@pytest.fixture(scope="module")
def benign() -> list[str]:
    if not CORPUS.is_file():
        pytest.skip("the development corpus is not here")
    with gzip.open(CORPUS, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = [row["text"] for row in rows if row["label"] == "benign"]
    assert len(texts) == 2192
    return texts


@pytest.mark.parametrize("strict", [False, True], ids=["results", "definitions"])
def test_hidden_characters(benign: list[str], strict: bool) -> None:
    assert [text for text in benign if hidden.find(text, strict)] == []


@pytest.mark.parametrize("strict", [False, True], ids=["results", "definitions"])
def test_terminal_escapes(benign: list[str], strict: bool) -> None:
    assert [text for text in benign if escapes.find(text, strict)] == []
