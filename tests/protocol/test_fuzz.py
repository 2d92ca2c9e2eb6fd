"""The fuzz targets run, hold on their corpus, and notice a broken invariant."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed (dependency group fuzz)"
)


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"fuzz_of_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runner():
    return load(FUZZ / "run.py")


def test_every_target_has_a_corpus(runner):
    assert {path.name for path in (FUZZ / "corpus").iterdir()} == set(runner.TARGETS)
    assert {path.stem for path in FUZZ.glob("fuzz_*.py")} == {f"fuzz_{name}" for name in runner.TARGETS}
    assert all(any((FUZZ / "corpus" / name).iterdir()) for name in runner.TARGETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decode", "sse", "headers", "lane", "forms"])
def test_no_invariant_breaks_in_seconds(runner, name, tmp_path):
    """The corpus, and a few thousand inputs made from it. `make fuzz` looks for minutes."""
    seeds = FUZZ / "corpus" / name
    assert runner.run(FUZZ / f"fuzz_{name}.py", seeds, tmp_path / "findings", 4, runner.TARGETS[name]) == 0
    assert list((tmp_path / "findings").iterdir()) == []


BROKEN = """
import sys
import atheris
from callgate.protocol.sse import SseParser

def one_input(data):
    assert not any(event.id == b"1" for event in SseParser().feed(data[1:])), "the planted fault"

if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
"""


def test_a_broken_invariant_is_noticed(runner, tmp_path, capsys):
    script = tmp_path / "fuzz_broken.py"
    script.write_text(BROKEN)
    assert runner.run(script, FUZZ / "corpus" / "sse", tmp_path / "findings", 5) != 0
    assert "the planted fault" in capsys.readouterr().err
    assert list((tmp_path / "findings").iterdir())


def test_without_the_fuzzer_it_says_so(runner, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--seconds", "1"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert runner.main() == 2
    assert "atheris" in capsys.readouterr().err
