"""The patterns of all controls together: engines agree on them, and none is slow on hostile bytes."""

from __future__ import annotations

import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.controls.registry import METAS
from callgate.detect.automaton import ENGINES, Automaton, Engine
from callgate.protocol.codec import LEXICAL
from tests.detect.ordinary_texts import ORDINARY

PATTERNS = [*LEXICAL, *((pattern.name, pattern.expression) for meta in METAS for pattern in meta.patterns)]
HYPERSCAN = Automaton(PATTERNS, engine="hyperscan")
PLAIN = Automaton(PATTERNS, engine="re")
HOSTILE = [
    b"\\",
    b'"\\\\',
    b"\\r",
    b"\\r\\",
    b"\\u00",
    b"\xe2\x80",
    b"\xef\xb8\x8f",
    b"\xf0\x9f\xac",
    b":1234567890",
    b"a",
]


def test_names_are_unique() -> None:
    assert len({name for name, _ in PATTERNS}) == len(PATTERNS)


@settings(max_examples=300)
@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\\\\\\\r\n\b\f\x1b\x7f\x9bu0019:,[-"))))
def test_hyperscan_and_re_agree(text: str) -> None:
    data = orjson.dumps({"text": text})
    assert HYPERSCAN.scan(data) == PLAIN.scan(data)


def test_re2_agrees() -> None:
    pytest.importorskip("re2", reason="google-re2 is not installed")
    scan = Automaton(PATTERNS, engine="re2").scan
    for text in (
        *ORDINARY.values(),
        "\x1b[1m",
        "\x9b",
        "a\rb",
        "\u202e",
        "\U000e0041",
        "a\ufe0f",
        "12345678901234567890",
    ):
        data = orjson.dumps([text])
        assert scan(data) == HYPERSCAN.scan(data), text


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear(engine: Engine, unit: bytes) -> None:
    if engine == "re2":
        pytest.importorskip("re2", reason="google-re2 is not installed")
    scan = Automaton(PATTERNS, engine=engine).scan

    def seconds(count: int) -> float:
        data = b'"' + unit * count
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            scan(data)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(32_000) < 80 * seconds(1000) + 0.05
