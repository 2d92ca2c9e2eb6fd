"""Journal: what a log looks like on disk, and what happens around the records."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from callgate.audit import writer
from callgate.audit.records import COVER_WINDOW
from callgate.audit.retention import Wanted, prune
from callgate.audit.signer import Signer
from callgate.audit.spool import HEADER_BYTES, TAIL_BYTES
from callgate.audit.verify import verify
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, fill, new_journal, records_in, report_of


def test_a_log_starts_with_open_and_ends_with_a_signed_close(tmp_path: Path) -> None:
    records = records_in(closed_log(tmp_path, 2))
    assert [record["kind"] for record in records] == ["open", *["decision"] * 4, "close"]
    assert [record["seq"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert records[0]["format"] == 1
    assert records[0]["pid"] == os.getpid()
    assert records[-1]["covers"] == 5
    assert records[-1]["signature"]
    assert records[-1]["lost"] == 0


def test_files_are_for_the_user_only(tmp_path: Path) -> None:
    directory = closed_log(tmp_path)
    for path in (directory, directory.parent, *directory.iterdir(), directory.parent / "chains.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_closed_log_keeps_no_tail_and_refuses_more(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="s", principal="p", transport="stdio")
    journal.close()
    journal.close()
    assert not (journal.path / "tail").exists()
    with pytest.raises(AuditError, match="closed"):
        scope.decision("call", 0, "ping", "", 1, b"", {}, "allow", (), 0, 0)
    with pytest.raises(AuditError, match="closed"):
        journal.note("late", {})


def test_two_logs_of_one_process_are_apart(tmp_path: Path) -> None:
    one, two = new_journal(tmp_path), new_journal(tmp_path)
    fill(one, 1)
    fill(two, 2)
    one.close()
    two.close()
    assert one.path != two.path
    assert report_of(tmp_path, one.chain).found.last_seq == 4
    assert report_of(tmp_path, two.chain).found.last_seq == 6


def test_the_log_goes_on_in_segments(tmp_path: Path) -> None:
    directory = closed_log(tmp_path, 1200, segment_bytes=65536)
    sizes = [path.stat().st_size for path in sorted(directory.glob("*.jsonl"))]
    assert len(sizes) > 2
    assert all(65536 <= size <= 65536 + TAIL_BYTES for size in sizes[:-1])
    log = report_of(tmp_path)
    assert log.verified
    assert log.found.last_seq == 2402


def test_a_note_says_what_and_keeps_its_fields(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    assert journal.note("launch", {"server": "files", "pid": 5}) == journal.last_seq == 2
    journal.close()
    note = records_in(journal.path)[1]
    assert (note["kind"], note["what"], note["fields"]) == ("note", "launch", {"pid": 5, "server": "files"})


def test_a_note_too_large_for_a_record_loses_its_fields(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    journal.note("launch", {"text": "x" * 100_000})
    journal.close()
    assert records_in(journal.path)[1]["fields"] == {"omitted": "too large"}
    assert report_of(tmp_path).verified


def test_the_watcher_sees_every_line_and_can_leave(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    seen: list[bytes] = []
    journal.watch = seen.append
    fill(journal, 2)
    journal.watch = None
    fill(journal, 1)
    journal.close()
    assert [json.loads(line)["seq"] for line in seen] == [2, 3, 4, 5]
    assert report_of(tmp_path).verified


def test_a_checkpoint_signs_for_what_is_there(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    fill(journal, 1)
    seq = journal.checkpoint()
    log = report_of(tmp_path)
    assert seq == 4
    assert log.verified
    assert log.in_use
    assert log.found.signed_through == 3
    assert not log.found.closed


def test_checkpoints_come_by_number_from_another_process(tmp_path: Path) -> None:
    journal = new_journal(tmp_path, checkpoint_records=10)
    fill(journal, 10)
    deadline = time.monotonic() + 60
    while not report_of(tmp_path).found.checkpoints and time.monotonic() < deadline:
        time.sleep(0.05)
        journal.tick()
    fill(journal, 1)
    log = report_of(tmp_path)
    assert log.verified
    assert log.found.checkpoints == 1
    assert log.found.signed_through >= 10


def test_a_signature_that_came_too_late_is_asked_for_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who verifies knows the digests of so many records, and would take a checkpoint for an older one for a forgery."""
    journal = new_journal(tmp_path, checkpoint_records=1000)
    fill(journal, 1000)
    journal.tick()
    with monkeypatch.context() as patch:
        patch.setattr(Signer, "take", lambda self: None)
        fill(journal, COVER_WINDOW)
    deadline = time.monotonic() + 60
    while not report_of(tmp_path).found.checkpoints and time.monotonic() < deadline:
        time.sleep(0.05)
        journal.tick()
    journal.close()
    log = report_of(tmp_path)
    assert log.verified, log.found.problems
    assert log.found.checkpoints >= 1


def test_an_idle_log_is_signed_and_then_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_SIGN_AFTER_S", 0.01)
    journal = new_journal(tmp_path, sync_ms=10)
    fill(journal, 1)
    deadline = time.monotonic() + 60
    while journal.tick() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not journal.tick()
    assert report_of(tmp_path).found.signed_through == 3
    assert journal.last_seq == 4
    time.sleep(0.1)
    assert not journal.tick()
    assert journal.last_seq == 4


def test_without_a_usable_key_the_log_goes_on_unsigned(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "audit-ed25519.pem").write_text("not a key")
    log = report_of(closed_log(tmp_path).parent.parent)
    assert log.verified
    assert log.found.signed_through == 0
    assert log.found.unsigned_checkpoints == 1


def test_sync_each_record_writes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal = new_journal(tmp_path, sync_ms=0)
    before = len(synced)
    fill(journal, 2)
    assert len(synced) - before == 2 * 4


def test_a_failed_sync_refuses_until_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = new_journal(tmp_path, sync_ms=1)
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", _io_error)
    fill(journal, 1)
    deadline = time.monotonic() + 60
    while journal.limit > 0 and time.monotonic() < deadline:
        journal.tick()
        time.sleep(0.01)
    with pytest.raises(AuditError, match="cannot be written"):
        fill(journal, 1)
    assert journal.lost == 1
    monkeypatch.setattr(os, "fdatasync", real)
    fill(journal, 1)
    journal.close()
    log = report_of(tmp_path)
    assert log.verified
    assert log.found.lost == 1


def test_an_interrupt_at_any_moment_leaves_a_chain(tmp_path: Path) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    journal = new_journal(tmp_path)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for round_ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + round_ * 1e-6)
                while True:
                    fill(journal, 1)
            except Interrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    journal.close()
    assert interrupted == 300
    log = report_of(tmp_path)
    assert log.verified, log.found.problems


def test_without_free_descriptors_the_log_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_SIGN_AFTER_S", 0.0)
    journal = new_journal(tmp_path, sync_ms=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", _too_many)
        patch.setattr(os, "pipe", _too_many)
        for _ in range(3):
            fill(journal, 1)
            time.sleep(0.005)
            assert journal.tick()
    journal.close()
    log = report_of(tmp_path)
    assert log.verified
    assert (log.found.last_seq, log.found.lost) == (8, 0)


def test_a_log_closed_while_records_are_lost_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = new_journal(tmp_path, checkpoint_records=1)
    with monkeypatch.context() as patch:
        patch.setattr(type(journal._spool), "flush", _disk_full)
        with pytest.raises(AuditError, match="No space"):
            fill(journal, 1000)
        with pytest.raises(AuditError, match="No space"):
            fill(journal, 1)
        with pytest.raises(AuditError, match="No space"):
            journal.note("big", {"x": "y" * 60_000})
    assert journal.lost == 3
    journal.close()
    log = report_of(tmp_path)
    assert log.verified, log.found.problems
    assert log.found.closed
    assert log.found.lost == 3


def _disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def _too_many(*_: int) -> int:
    raise OSError(24, "Too many open files")


def _io_error(_: int) -> None:
    raise OSError(5, "Input/output error")


def test_memory_and_descriptors_do_not_grow_with_the_log(tmp_path: Path) -> None:
    journal = new_journal(tmp_path, segment_bytes=65536)
    fill(journal, 100)
    descriptors = len(os.listdir("/proc/self/fd"))
    fill(journal, 20_000)  # some full segments may wait for the disk, and a sync may be under way
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 16
    assert len(journal.tail) == TAIL_BYTES
    assert HEADER_BYTES <= journal.offset <= TAIL_BYTES


def test_an_unwritable_place_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("in the way")
    with pytest.raises(AuditError) as caught:
        new_journal(tmp_path)
    assert "state_dir" in caught.value.diagnostics()


def test_a_log_that_retention_takes_at_its_last_step_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of its lock and the removal of `tail` it is nobody's."""
    journal = new_journal(tmp_path)
    fill(journal, 2)
    close, tail_file = os.close, journal._spool.tail_file

    def closing(descriptor: int) -> None:
        close(descriptor)
        if descriptor == tail_file:
            monkeypatch.undo()
            assert len(prune(tmp_path, Wanted(before=1 << 60)).removals) == 1

    monkeypatch.setattr(os, "close", closing)
    journal.close()
    report = verify(tmp_path)
    assert report.verified and len(report.removed) == 1 and not report.logs


def test_all_is_the_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        closed_log(tmp_path / "state")
        journal = new_journal(tmp_path / "state")
    finally:
        os.umask(before)
    everything = [tmp_path / "state", *(tmp_path / "state").rglob("*")]
    open_to_others = {path.name for path in everything if stat.S_IMODE(path.stat().st_mode) & 0o077}
    assert journal.path / "tail" in everything
    assert open_to_others == {"audit-ed25519.pub.pem"}
    journal.close()
