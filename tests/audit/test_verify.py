"""What verification says of logs that were not closed in good order: killed, torn, in use, without answers."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from callgate.audit import index, reader
from callgate.audit import verify as verification
from callgate.audit.retention import Wanted, prune
from callgate.audit.spool import HEADER_BYTES
from callgate.audit.verify import verify
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, fill, left_by, lines_of, new_journal, report_of, run_python

WRITER = """
import sys
from pathlib import Path
from callgate.audit import open_journal
from callgate.config import AuditConfig
config = AuditConfig(segment_bytes=65536, checkpoint_records=int(sys.argv[2]))
journal = open_journal(Path(sys.argv[1]), config, process="w")
scope = journal.scope(server="files", principal="local", transport="stdio")
print("ready", flush=True)
for number in range(10_000_000):
    seq = scope.decision("call", 0, "tools/call", "t" * (number % 50), number, b"x", {"a": 1}, "allow", (), 0, 0)
    print(seq, flush=True) if number % 64 == 0 else None
    scope.decision("content", 1, "tools/call", "t", number, b"y", {"b": {"c": "d"}}, "allow", (), seq, 5)
"""


@pytest.mark.parametrize("round_", range(12))
def test_a_log_whose_process_was_killed_verifies_to_its_last_record(tmp_path: Path, round_: int) -> None:
    writer = run_python(WRITER, str(tmp_path), "3000")
    assert writer.stdout
    assert writer.stdout.readline() == b"ready\n"
    time.sleep(random.Random(round_).uniform(0.001, 0.15))
    writer.send_signal(signal.SIGKILL)
    said = writer.stdout.read().split()
    writer.wait()
    assert writer.stderr
    writer.stderr.close()
    writer.stdout.close()
    deadline = time.monotonic() + 60
    while (log := report_of(tmp_path)).in_use and time.monotonic() < deadline:
        time.sleep(0.01)  # a signer that was just being started has the lock until it is a program of its own
    assert log.verified, log.found.problems
    assert not log.found.closed
    assert not log.in_use
    assert log.found.last_seq >= max((int(seq) for seq in said), default=1)
    assert len(log.found.unanswered) <= 1
    assert log.torn_bytes < 1000


def killed(state: Path, calls: int, torn: bytes = b"") -> Path:
    """A log as a killed process leaves it, with the beginning of one more record."""
    child = os.fork()
    if not child:
        journal = new_journal(state)
        fill(journal, calls)
        journal.tail[journal.offset : journal.offset + len(torn)] = torn
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return left_by(state, child)


@pytest.mark.parametrize(
    "torn", [b'{"about":0,"chain', b'{"about"\0\0\0:1}', b'\0\0\0"took_us":1}\n', b'{"a":\0}\n'], ids=ascii
)
def test_a_torn_record_is_counted_and_the_rest_verifies(tmp_path: Path, torn: bytes) -> None:
    killed(tmp_path, 2, torn)
    log = report_of(tmp_path)
    assert log.verified
    assert log.found.last_seq == 5
    assert log.torn_bytes == len(torn)


def test_a_kill_between_the_steps_of_a_flush_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Each state that the files can be in while `tail` moves to the segment."""
    directory = killed(tmp_path, 3)
    tail = directory / "tail"
    segment = directory / "000001.jsonl"
    full = tail.read_bytes()
    records = full[HEADER_BYTES:].rstrip(b"\0")
    for written in (0, 1, 100, len(records) - 1, len(records)):
        segment.write_bytes(records[:written])
        tail.write_bytes(full)
        assert report_of(tmp_path).found.last_seq == 7, written
    for zeroed in (1, 300, len(records)):
        tail.write_bytes(full[:HEADER_BYTES] + bytes(zeroed) + full[HEADER_BYTES + zeroed :])
        log = report_of(tmp_path)
        assert (log.found.last_seq, log.torn_bytes, log.verified) == (7, 0, True), zeroed
    mark = (1 << 32 | len(records)).to_bytes(8, "little")
    tail.write_bytes(mark + bytes(len(full) - 8))
    assert report_of(tmp_path).found.last_seq == 7
    (directory / "000002.jsonl").touch()
    tail.write_bytes((2 << 32).to_bytes(8, "little") + bytes(len(full) - 8))
    log = report_of(tmp_path)
    assert (log.found.last_seq, log.verified, log.segments) == (7, True, 2)


def test_a_log_in_use_verifies_while_it_is_written(tmp_path: Path) -> None:
    writer = run_python(WRITER, str(tmp_path), "1000")
    assert writer.stdout
    assert writer.stdout.readline() == b"ready\n"
    os.set_blocking(writer.stdout.fileno(), False)
    seen = 0
    deadline = time.monotonic() + 60
    while seen < 3000 and time.monotonic() < deadline:
        log = report_of(tmp_path)
        assert log.verified, log.found.problems
        assert log.in_use
        assert log.torn_bytes == 0
        assert log.found.last_seq >= seen
        seen = log.found.last_seq
        writer.stdout.read()
    writer.kill()
    writer.communicate()
    assert seen >= 3000


def test_requests_without_an_answer_are_listed(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="s", principal="p", transport="stdio")
    one = scope.decision("call", 0, "tools/call", "t", 1, b"", {}, "allow", (), 0, 0)
    two = scope.decision("call", 0, "tools/call", "t", 2, b"", {}, "rewrite", (), 0, 0)
    scope.decision("call", 0, "tools/call", "t", 3, b"", {}, "deny", (), 0, 0)
    scope.decision("call", 0, "notifications/cancelled", "", None, b"", {}, "allow", (), 0, 0)
    scope.decision("content", 1, "notifications/progress", "", None, b"", {}, "allow", (), two, 0)
    scope.decision("content", 1, "tools/call", "t", 1, b"", {}, "allow", (), one, 0)
    journal.close()
    assert report_of(tmp_path).found.unanswered == {two}


def test_a_crash_before_the_first_record_is_no_damage(tmp_path: Path) -> None:
    directory = killed(tmp_path, 0)
    lines = directory / "tail"
    lines.write_bytes(lines.read_bytes()[:HEADER_BYTES] + bytes(lines.stat().st_size - HEADER_BYTES))
    log = report_of(tmp_path)
    assert log.verified
    assert log.found.records == 0


def test_only_the_named_public_key_is_trusted(tmp_path: Path) -> None:
    closed_log(tmp_path / "one")
    closed_log(tmp_path / "two")
    mine = tmp_path / "one" / "keys" / "audit-ed25519.pub.pem"
    assert verify(tmp_path / "one", public_key=mine).verified
    assert not verify(tmp_path / "two", public_key=mine).verified
    with pytest.raises(AuditError):
        verify(tmp_path / "one", public_key=tmp_path / "no.pem")


def test_verification_changes_nothing(tmp_path: Path) -> None:
    directory = killed(tmp_path, 3, b"{")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()}
    verify(tmp_path)
    assert before == {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()
    }
    assert lines_of(directory) == []


def test_nothing_at_all_verifies(tmp_path: Path) -> None:
    assert verify(tmp_path).verified
    with pytest.raises(AuditError, match="there is no log"):
        verify(tmp_path, chain="none")


def test_a_log_that_grows_by_two_segments_while_it_is_looked_at_has_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new_journal(tmp_path, segment_bytes=65536)
    fill(journal, 50)
    look = reader.segment_paths

    def look_and_grow(directory: Path) -> list[Path]:
        found = list(look(directory))
        fill(journal, 600)
        return found

    monkeypatch.setattr(reader, "segment_paths", look_and_grow)
    numbers = [json.loads(line)["seq"] for line, _ in reader.read_lines(journal.path)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 50
    journal.close()


def test_a_log_that_is_announced_while_the_list_is_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory is there; its line, and then its first record, come after the list was read."""
    journal = new_journal(tmp_path)
    fill(journal, 2)
    read, look = index.lines, verification.check_log
    looked: list[Path] = []

    def check_log(directory: Path, *rest: Any) -> Any:
        looked.append(directory)
        return look(directory, *rest)

    monkeypatch.setattr(index, "lines", lambda audit_dir: read(audit_dir) if looked else [])
    monkeypatch.setattr(verification, "check_log", check_log)
    report = verify(tmp_path)
    assert report.verified, report
    journal.close()


def test_what_is_removed_in_good_order_while_it_is_verified_for_the_first_time_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was ever removed there is no lock to hold, so that verification writes nothing."""
    closed_log(tmp_path, 2000, segment_bytes=65536)
    read = index.lines
    removed: list[Any] = []

    def lines(audit_dir: Path) -> list[bytes]:
        known = read(audit_dir)
        if not removed:
            removed.append(None)
            removed.append(prune(tmp_path, Wanted(keep_bytes=100_000, spare=1 << 60, reason="test")))
        return known

    monkeypatch.setattr(index, "lines", lines)
    report = verify(tmp_path)
    assert removed[1].removals
    assert report.verified, report
    assert report.logs[0].removed


def test_no_half_line_of_the_list_is_read(tmp_path: Path) -> None:
    closed_log(tmp_path)
    path = tmp_path / "audit" / index.INDEX_NAME
    with open(path, "ab") as file:  # as `append` does, in the middle of its line
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b'{"chain":')
        file.flush()
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(index.lines, path.parent)
            with pytest.raises(TimeoutError):
                found.result(0.2)
            file.write(b'"x","kind":"opened"}\n')
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)
            assert found.result(10) == path.read_bytes().splitlines(keepends=True)
