"""The question before something is changed: only a person's yes, or --yes, is one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from callgate.cli.asked import agreed, confirmed
from callgate.errors import ConfigError


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """A terminal on which a person answers."""
    keyboard, terminal = os.openpty()
    with open(terminal, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield lambda words: os.write(keyboard, words.encode() + b"\n")
    os.close(keyboard)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No terminal, and yet a yes."""
    reading, writing = os.pipe()
    os.write(writing, b"yes\n")
    os.close(writing)
    with open(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield


def options(*, dry_run: bool = False, yes: bool = False) -> argparse.Namespace:
    return argparse.Namespace(dry_run=dry_run, yes=yes)


def sure(*, yes: bool = False) -> bool:
    return confirmed("Take it?", yes=yes, effect="nothing was taken", next_step="look at it")


@pytest.mark.parametrize(
    ("answer", "meant"),
    [("y", True), (" YES ", True), ("", False), ("n", False), ("yes please", False), ("j", False)],
)
def test_only_a_yes_is_a_yes(
    typed: Callable[[str], int], capsys: pytest.CaptureFixture[str], answer: str, meant: bool
) -> None:
    typed(answer)
    assert agreed("Write 2 files?", options()) is meant
    said = capsys.readouterr().out
    assert said.startswith("Write 2 files? [y/N] ") and ("nothing was written" in said) is not meant
    typed(answer)
    assert sure() is meant


def test_a_yes_that_no_person_typed_is_none(nobody: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert not agreed("Write?", options())
    assert "nobody is there to agree" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no terminal to ask on") as caught:
        sure()
    assert "nothing was taken" in caught.value.diagnostics() and "look at it" in caught.value.diagnostics()


def test_options_answer_for_the_person_and_a_dry_run_before_all(
    nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agreed("Write?", options(yes=True)) and sure(yes=True)
    assert capsys.readouterr().out == ""
    assert not agreed("Write?", options(dry_run=True, yes=True))
    assert capsys.readouterr().out == "dry run: nothing was written\n"
