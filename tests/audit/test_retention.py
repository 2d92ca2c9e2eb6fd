"""Removing old evidence: what goes, what stays, and that nothing goes without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callgate.audit import Journal, index
from callgate.audit.query import Filter as All
from callgate.audit.query import all_records
from callgate.audit.reader import chains, segment_paths
from callgate.audit.retention import DAY_US, Removal, Result, Wanted, configured, prune
from callgate.audit.retention_lock import reading
from callgate.audit.segments import total_bytes
from callgate.audit.spool import TAIL_BYTES, TAIL_NAME
from callgate.audit.verify import verify
from callgate.config import AuditConfig
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, codes, fill, left_by, new_journal, report_of
from tests.support.kill import killed

SMALL = {"segment_bytes": 65536, "checkpoint_records": 100}
ALL = Wanted(before=1 << 60, reason="test")


def long_log(state: Path, calls: int = 400) -> Path:
    """A closed log of several segments."""
    return closed_log(state, calls, **SMALL)


def ended_by_kill(state: Path, calls: int, **settings: Any) -> Path:
    child = os.fork()
    if not child:
        fill(new_journal(state, **settings), calls)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return left_by(state, child)


def down_to(state: Path, count: int, **more: Any) -> Result:
    return prune(state, Wanted(keep_bytes=count, spare=1 << 60, reason="test"), **more)


def size_of(state: Path) -> int:
    return total_bytes(state / "audit")


def test_within_its_limits_everything_stays(tmp_path: Path) -> None:
    long_log(tmp_path)
    before = size_of(tmp_path)
    assert prune(tmp_path, configured(AuditConfig(keep_days=1), 0)).removals == []
    assert down_to(tmp_path, before).removals == []
    assert size_of(tmp_path) == before
    assert prune(tmp_path / "nothing", ALL).removals == []


def test_the_oldest_segments_go_and_the_rest_verifies_from_there(tmp_path: Path) -> None:
    directory = long_log(tmp_path)
    segments = segment_paths(directory)
    assert len(segments) >= 4
    result = down_to(tmp_path, size_of(tmp_path) - 100_000)
    (removal,) = result.removals
    assert segment_paths(directory) == segments[removal.segment :]
    assert removal.segment == 2
    assert removal.first == 1
    assert not removal.whole
    assert result.records == removal.through
    report = verify(tmp_path)
    assert report.verified, report
    (log,) = report.logs
    assert log.removed
    assert log.removed["through"] == removal.through
    assert log.removed["first_kept"] == removal.through + 1
    assert log.found.closed
    assert log.found.records == log.found.last_seq - removal.through
    again = down_to(tmp_path, size_of(tmp_path) - 100_000)
    assert again.removals[0].first == removal.through + 1
    assert verify(tmp_path).verified


def test_a_whole_log_goes_and_is_not_missing(tmp_path: Path) -> None:
    old, new = closed_log(tmp_path), closed_log(tmp_path)
    older = {old: 0, new: 0}
    for directory in older:
        older[directory] = json.loads(segment_paths(directory)[-1].read_bytes().splitlines()[-1])["time"]
    result = prune(tmp_path, Wanted(before=older[old] + 1, reason="test"))
    assert [one.whole for one in result.removals] == [True]
    assert chains(tmp_path / "audit") == [new.name]
    report = verify(tmp_path)
    assert report.verified
    assert report.missing == []
    assert [statement["chain"] for statement in report.removed] == [old.name]
    assert verify(tmp_path, chain=old.name).verified


def test_the_log_of_a_killed_process_is_sealed_before_it_goes(tmp_path: Path) -> None:
    directory = ended_by_kill(tmp_path, 500, segment_bytes=65536)
    count = len(segment_paths(directory))
    assert count >= 4
    result = down_to(tmp_path, size_of(tmp_path) - 100_000)
    assert result.removals[0].seal
    report = verify(tmp_path)
    assert report.verified, report
    (log,) = report.logs
    assert log.sealed
    assert log.found.signed_through == log.found.last_seq == 1001
    with open(directory / segment_paths(directory)[-1].name, "ab") as file:
        file.write(b"{}\n")
    assert not verify(tmp_path).verified
    os.truncate(segment_paths(directory)[-1], segment_paths(directory)[-1].stat().st_size - 3)
    assert verify(tmp_path).verified
    assert prune(tmp_path, ALL).removals[0].whole
    assert verify(tmp_path).verified
    assert chains(tmp_path / "audit") == []


def test_what_is_cut_off_behind_a_seal_is_missed(tmp_path: Path) -> None:
    directory = ended_by_kill(tmp_path, 500, segment_bytes=65536)
    down_to(tmp_path, size_of(tmp_path) - 70_000)
    segment_paths(directory)[-1].unlink()
    (directory / "tail").unlink()
    assert "truncated" in codes(verify(tmp_path))


def test_of_a_log_in_use_only_what_is_signed_goes(tmp_path: Path) -> None:
    journal = new_journal(tmp_path, segment_bytes=65536, checkpoint_records=1_000_000)
    fill(journal, 500)
    result = prune(tmp_path, ALL)
    assert result.removals == []
    assert result.kept == [(journal.chain, "what is newer is not signed yet")]
    journal.checkpoint()
    fill(journal, 500)
    before = len(segment_paths(journal.path))
    result = prune(tmp_path, ALL)
    (removal,) = result.removals
    assert removal.through <= 1002
    assert len(result.kept) == 1
    assert 4 <= before - len(segment_paths(journal.path)) == removal.segment
    assert report_of(tmp_path).verified
    fill(journal, 200)
    journal.close()
    log = report_of(tmp_path)
    assert log.verified
    assert log.found.last_seq == 2403


def test_an_open_log_keeps_the_segment_it_writes(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    fill(journal, 10)
    journal.checkpoint()
    assert prune(tmp_path, ALL).removals == []
    fill(journal, 10)
    journal.close()
    assert report_of(tmp_path).verified


def test_what_does_not_verify_stays(tmp_path: Path) -> None:
    directory = long_log(tmp_path)
    other = long_log(tmp_path)
    first = segment_paths(directory)[0]
    first.write_bytes(first.read_bytes().replace(b"read_file", b"rEad_file", 1))
    result = prune(tmp_path, ALL)
    assert result.kept == [(directory.name, "it does not verify: see callgate audit verify")]
    assert [one.chain for one in result.removals] == [other.name]
    assert directory.is_dir()


def test_where_one_log_has_to_stay_the_next_one_goes_in_its_place(tmp_path: Path) -> None:
    directory = long_log(tmp_path)
    other = long_log(tmp_path)
    first = segment_paths(directory)[0]
    first.write_bytes(first.read_bytes().replace(b"read_file", b"rEad_file", 1))
    result = down_to(tmp_path, size_of(tmp_path) - 10_000)
    assert [(one.chain, one.segment) for one in result.removals] == [(other.name, 1)]


def test_nothing_goes_where_the_list_of_logs_was_changed(tmp_path: Path) -> None:
    long_log(tmp_path)
    listed = tmp_path / "audit" / "chains.jsonl"
    listed.write_bytes(listed.read_bytes().replace(b'"kind":"closed"', b'"kind":"clOsed"') + b"{}\n")
    with pytest.raises(AuditError, match="nothing is removed"):
        prune(tmp_path, ALL)


def test_a_log_that_is_not_in_the_list_is_left_alone(tmp_path: Path) -> None:
    directory = closed_log(tmp_path)
    stranger = directory.with_name("20000101T000000-1-00000000")
    shutil.copytree(directory, stranger)
    prune(tmp_path, ALL)
    assert chains(tmp_path / "audit") == [stranger.name]


def test_a_flood_does_not_wash_away_what_is_young(tmp_path: Path) -> None:
    directory = long_log(tmp_path)
    now = json.loads(segment_paths(directory)[-1].read_bytes().splitlines()[-1])["time"]
    config = AuditConfig(keep_bytes=1, keep_at_least_days=7)
    assert prune(tmp_path, configured(config, now + 6 * DAY_US)).removals == []
    assert prune(tmp_path, configured(config, now + 8 * DAY_US)).removals[0].whole
    assert configured(config, now).reason == "keep_bytes=1"
    assert configured(replace(config, keep_days=3), now).reason == "keep_days=3, keep_bytes=1"


def test_a_dry_run_says_what_would_go_and_removes_nothing(tmp_path: Path) -> None:
    long_log(tmp_path)
    before = size_of(tmp_path)
    would = down_to(tmp_path, before - 100_000, dry_run=True)
    assert size_of(tmp_path) == before
    assert down_to(tmp_path, before - 100_000).removals == would.removals


def test_what_the_note_refuses_does_not_go(tmp_path: Path) -> None:
    directory = long_log(tmp_path)
    before = segment_paths(directory)

    def refuse(_: Removal) -> None:
        raise AuditError("the disk is full")

    with pytest.raises(AuditError):
        prune(tmp_path, ALL, note=refuse)
    assert segment_paths(directory) == before
    assert report_of(tmp_path).removed is None


# -- every other gap stays an error ----------------------------------------------------------------


def pruned(state: Path) -> Path:
    directory = long_log(state)
    down_to(state, size_of(state) - 100_000)
    return directory


def test_a_segment_more_than_was_stated_is_missing(tmp_path: Path) -> None:
    directory = pruned(tmp_path)
    segment_paths(directory)[0].unlink()
    assert "missing" in codes(verify(tmp_path))


def test_all_that_was_kept_is_missing(tmp_path: Path) -> None:
    directory = pruned(tmp_path)
    for path in segment_paths(directory):
        path.unlink()
    assert "truncated" in codes(verify(tmp_path))
    directory.rmdir()
    assert verify(tmp_path).missing == [directory.name]


def test_a_forged_end_does_not_make_a_log_one_that_was_removed(tmp_path: Path) -> None:
    """Who has no key can write a `closed` line, but cannot say that nothing was kept."""
    directory = ended_by_kill(tmp_path, 300, **SMALL)
    down_to(tmp_path, size_of(tmp_path) - 100_000)
    removed = report_of(tmp_path).removed
    assert removed
    shutil.rmtree(directory)
    end = {"seq": removed["through"], "digest": removed["digest"]}
    index.append(tmp_path / "audit", {"chain": directory.name, "kind": "closed", **end})
    assert verify(tmp_path).missing == [directory.name]


@pytest.mark.parametrize("change", ["through", "digest", "first_kept", "segment", "chain", "signature", "key"])
def test_a_changed_statement_is_not_believed(tmp_path: Path, change: str) -> None:
    directory = long_log(tmp_path)
    other = closed_log(tmp_path)
    statement = {"chain": directory.name, "kind": "pruned", "through": 5, "digest": "0" * 64, "first_kept": 6}
    statement |= {"segment": 1, "time": 1, "key": "ed25519:0", "signature": "AAAA", "reason": "", "removed": 5}
    down_to(tmp_path, size_of(tmp_path) - 100_000)
    listed = index.lines(tmp_path / "audit")
    told = json.loads(listed.pop())
    told[change] = other.name if change == "chain" else statement[change]
    (tmp_path / "audit" / "chains.jsonl").write_bytes(b"".join(listed))
    told.pop("prev")
    index.append(tmp_path / "audit", told)
    report = verify(tmp_path)
    assert "statement" in {problem.code for problem in report.index_problems}
    assert not report_of(tmp_path, directory.name).verified


def test_without_the_statement_the_gap_is_an_error(tmp_path: Path) -> None:
    pruned(tmp_path)
    listed = index.lines(tmp_path / "audit")
    (tmp_path / "audit" / "chains.jsonl").write_bytes(b"".join(listed[:-1]))
    assert "missing" in codes(verify(tmp_path))


def test_a_record_changed_after_the_removal_is_found(tmp_path: Path) -> None:
    first = segment_paths(pruned(tmp_path))[0]
    first.write_bytes(first.read_bytes().replace(b"read_file", b"rEad_file", 1))
    assert "changed" in codes(verify(tmp_path))


def test_a_statement_cannot_be_taken_back_by_an_older_one(tmp_path: Path) -> None:
    pruned(tmp_path)
    older = json.loads(index.lines(tmp_path / "audit")[-1])
    down_to(tmp_path, size_of(tmp_path) - 70_000)
    older.pop("prev")
    index.append(tmp_path / "audit", older)
    assert "statement" in {problem.code for problem in verify(tmp_path).index_problems}


# -- cut short, and at the same time ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed", "killed", "part"])
def test_a_kill_at_any_step_leaves_evidence_that_verifies_and_the_next_run_finishes(tmp_path: Path, how: str) -> None:
    made = tmp_path / "made"
    make = {"closed": long_log, "part": long_log, "killed": lambda state: ended_by_kill(state, 300, **SMALL)}[how]
    make(made)
    total = size_of(made)
    wanted = Wanted(keep_bytes=total - 100_000, spare=1 << 60, reason="test") if how == "part" else ALL
    was_killed = True
    step = unfinished = 0
    while was_killed:
        state = tmp_path / str(step)
        shutil.copytree(made, state)
        was_killed, code = killed(lambda: not prune(state, wanted).removals, step)  # noqa: B023 - called in this turn
        assert code == 0
        report = verify(state)
        assert report.verified, (step, report)
        unfinished += any(log.unfinished for log in report.logs)
        prune(state, wanted)
        report = verify(state)
        assert report.verified, (step, report)
        assert not any(log.unfinished for log in report.logs)
        assert (len(report.logs) == 1) == (how == "part")
        shutil.rmtree(state)
        step += 1
    assert step > 10
    assert unfinished >= 1


def test_files_left_over_that_are_not_what_was_removed_are_found_and_stay(tmp_path: Path) -> None:
    directory = long_log(tmp_path)
    first = segment_paths(directory)[1].read_bytes()
    down_to(tmp_path, size_of(tmp_path) - 100_000)
    planted = directory / "000002.jsonl"
    planted.write_bytes(first)
    assert report_of(tmp_path).verified  # a removal that was cut short looks like this
    planted.write_bytes(first.replace(b"read_file", b"rEad_file", 1))
    assert not report_of(tmp_path).verified
    result = prune(tmp_path, Wanted())
    assert result.kept
    assert planted.exists()
    planted.write_bytes(first[: first.index(b"\n") + 1])
    assert not report_of(tmp_path).verified


def test_while_somebody_verifies_nothing_goes(tmp_path: Path) -> None:
    directory = long_log(tmp_path)
    prune(tmp_path, Wanted())
    with reading(tmp_path / "audit"), pytest.raises(AuditError, match="another process"):
        prune(tmp_path, ALL)
    assert segment_paths(directory)


def test_writers_removers_and_readers_at_the_same_time(tmp_path: Path) -> None:
    """Three processes write while two remove and this one reads and verifies."""
    children = []
    for role in ("write", "write", "write", "remove", "remove"):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            if role == "write":
                for _ in range(4):
                    journal = new_journal(tmp_path, **SMALL)
                    for _ in range(10):
                        fill(journal, 40)
                        journal.checkpoint()
                    journal.close()
            else:
                for _ in range(30):
                    try:
                        down_to(tmp_path, 200_000)
                    except AuditError as error:
                        assert "another process" in error.what
            code = 0
        finally:
            os._exit(code)
    for child in children:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            report = verify(tmp_path)
            assert report.verified, [log.found.problems for log in report.logs]
            list(all_records(tmp_path / "audit", All()))
    down_to(tmp_path, 200_000)
    report = verify(tmp_path)
    assert report.verified, report
    assert report.removed
    assert size_of(tmp_path) < 300_000
    assert len(report.logs) + len(report.removed) == 12


def test_what_a_process_left_that_was_killed_before_its_first_record_goes(tmp_path: Path) -> None:
    closed_log(tmp_path)
    child = os.fork()
    if not child:
        Journal.append_record = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        new_journal(tmp_path)
        os._exit(0)
    os.waitpid(child, 0)
    empty = left_by(tmp_path, child)
    assert (empty / TAIL_NAME).stat().st_size == TAIL_BYTES < size_of(tmp_path), "its place on the disk counts"
    old = Wanted(before=time.time_ns() // 1000 - 86_400_000_000, reason="test")
    assert not prune(tmp_path, old).removals and empty.is_dir(), "it may be of a process that begins just now"
    then = time.time() - 7200
    os.utime(empty, (then, then))
    result = prune(tmp_path, old)
    assert [(one.chain, one.whole) for one in result.removals] == [(empty.name, True)]
    assert (result.records, result.kept) == (0, [])
    assert not empty.exists()
    assert verify(tmp_path).verified
    assert not prune(tmp_path, old).removals


def test_what_killed_processes_left_in_tail_counts(tmp_path: Path) -> None:
    for _ in range(3):
        ended_by_kill(tmp_path, 1)
    closed = closed_log(tmp_path)
    assert size_of(tmp_path) > 3 * TAIL_BYTES
    result = down_to(tmp_path, 2 * TAIL_BYTES)
    assert len(result.removals) == 2 and closed.is_dir()
    assert size_of(tmp_path) < 2 * TAIL_BYTES
