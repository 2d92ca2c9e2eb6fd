"""The share of injected descriptions that is noticed, on a development corpus that is not part of the project."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from callgate.trust.text_change import compare_text

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "dev.jsonl.gz"
SOURCES = ("agentdojo", "msb", "bastioncorpus", "atr_adversarial", "cyberseceval_pi", "raginject")


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.exists(), reason="the development corpus is not on this machine")
def test_injections_put_behind_benign_descriptions_are_noticed() -> None:
    with gzip.open(CORPUS) as file:
        rows: list[dict[str, Any]] = [json.loads(line) for line in file]
    benign = [row["text"] for row in rows if row["channel"] == "tool_description" and row["label"] == "benign"]
    shares: list[float] = []
    for source in SOURCES:
        texts = [row["text"][:3000] for row in rows if row["source"] == source and row["label"] == "malicious"][:100]
        noticed = sum(
            bool(compare_text(before, f"{before} {text}").meanings) for before, text in zip(benign, texts, strict=False)
        )
        shares.append(noticed / len(texts))
    assert sum(shares) / len(shares) > 0.95
    unchanged = sum(bool(compare_text(text, " ".join(text.split())).meanings) for text in benign[:500])
    assert unchanged == 0, "white space alone is no change"
