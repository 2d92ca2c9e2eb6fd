"""When a running gate looks for old evidence, and that it leaves a record of what went."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from callgate.audit import Journal, retention_timer
from callgate.audit.reader import chains
from callgate.audit.retention_lock import LOCK_NAME, look_is_due, reading
from callgate.audit.verify import verify
from callgate.cli.removal import say
from tests.audit.evidence import closed_log, fill, new_journal, records_in

REMOVE = {"keep_bytes": 1, "keep_at_least_days": 0}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_timer, "FIRST_S", 0.0)


def aged(state: Path) -> None:
    """Somebody looked eleven minutes ago."""
    path = state / "audit" / LOCK_NAME
    path.touch()
    then = time.time() - 660
    os.utime(path, (then, then))


def tick_until_quiet(journal: Journal) -> None:
    deadline = time.monotonic() + 60
    journal.tick()
    while journal._retention.busy and time.monotonic() < deadline:
        time.sleep(0.01)
        journal.tick()
    assert not journal._retention.busy


def test_what_is_too_much_goes_and_the_running_log_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = closed_log(tmp_path)
    aged(tmp_path)
    journal = new_journal(tmp_path, **REMOVE)
    journal.on_removal = say
    fill(journal, 1)
    tick_until_quiet(journal)
    journal.close()
    said = capsys.readouterr().err
    assert said.startswith("callgate: old evidence removed (keep_bytes=1): 8 records, ")
    assert chains(tmp_path / "audit") == [journal.chain]
    (note,) = [record["fields"] for record in records_in(journal.path) if record.get("what") == "evidence-removed"]
    assert (note["logs"], note["records"], note["chains"]) == (1, 8, [old.name])
    assert note["reason"] == "keep_bytes=1"
    report = verify(tmp_path)
    assert report.verified
    assert [statement["reason"] for statement in report.removed] == ["keep_bytes=1"]


@pytest.mark.parametrize("settings", [{"keep_bytes": 0}, {"keep_bytes": 0, "keep_at_least_days": 0}])
def test_where_everything_is_kept_nobody_looks(tmp_path: Path, settings: dict[str, int]) -> None:
    closed_log(tmp_path)
    aged(tmp_path)
    journal = new_journal(tmp_path, **settings)
    journal.tick()
    assert not journal._retention.busy
    journal.close()


def test_one_look_in_ten_minutes_is_enough_for_all_processes(tmp_path: Path) -> None:
    closed_log(tmp_path)
    audit = tmp_path / "audit"
    assert not look_is_due(audit, 600)  # the time begins to run
    assert (audit / LOCK_NAME).stat().st_mode & 0o777 == 0o600
    assert not look_is_due(audit, 600)
    aged(tmp_path)
    assert look_is_due(audit, 600)
    first, second = new_journal(tmp_path, **REMOVE), new_journal(tmp_path, **REMOVE)
    tick_until_quiet(first)
    second.tick()
    assert not second._retention.busy
    first.close()
    second.close()


def test_a_clock_that_was_ahead_does_not_put_looking_off(tmp_path: Path) -> None:
    closed_log(tmp_path)
    aged(tmp_path)
    os.utime(tmp_path / "audit" / LOCK_NAME, (time.time() + 1e8,) * 2)
    assert look_is_due(tmp_path / "audit", 600)


def test_who_finds_another_one_at_work_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed_log(tmp_path)
    aged(tmp_path)
    journal = new_journal(tmp_path, **REMOVE)
    journal.on_removal = say
    with reading(tmp_path / "audit"):
        tick_until_quiet(journal)
    journal.close()
    assert len(chains(tmp_path / "audit")) == 2
    assert not [record for record in records_in(journal.path) if record.get("what") == "evidence-removed"]
    assert not capsys.readouterr().err


def test_what_cannot_go_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = closed_log(tmp_path)
    path = directory / "000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"read_file", b"rEad_file"))
    journal = new_journal(tmp_path, **REMOVE)
    journal.on_removal = say
    for _ in range(2):
        aged(tmp_path)
        journal._retention._due = 0.0
        tick_until_quiet(journal)
    journal.close()
    notes = [record["fields"] for record in records_in(journal.path) if record.get("what") == "evidence-removed"]
    assert notes == [{"kept": {directory.name: "it does not verify: see callgate audit verify"}}]
    assert capsys.readouterr().err.count("old evidence was not removed") == 1
