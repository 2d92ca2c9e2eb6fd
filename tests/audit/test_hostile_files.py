"""Files of the evidence that were removed, cut, put there or are no files: named at once, and never held for whole."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from callgate.audit.query import Filter, all_records
from callgate.audit.reader import LONGEST
from callgate.audit.retention import Wanted, prune
from callgate.audit.spool import HEADER_BYTES
from callgate.audit.verify import verify
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, codes, fill, left_by, lines_of, new_journal, report_of

FOREVER = 1 << 60


def killed(state: Path, calls: int) -> Path:
    """The log of a process that was killed; with 60 calls and more there is something in its segment."""
    child = os.fork()
    if not child:
        fill(new_journal(state), calls)
        os._exit(0)
    os.waitpid(child, 0)
    return left_by(state, child)


def without_tail(directory: Path) -> None:
    (directory / "tail").unlink()


def without_anything(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def short_tail(directory: Path) -> None:
    os.truncate(directory / "tail", 1000)


def long_tail(directory: Path) -> None:
    os.truncate(directory / "tail", 1 << 40)


def short_segment(directory: Path) -> None:
    """And nothing in `tail` that would not follow any more."""
    mark = (directory / "tail").read_bytes()[:8]
    (directory / "tail").write_bytes(mark + bytes((directory / "tail").stat().st_size - 8))
    (directory / "000001.jsonl").write_bytes(b"".join(lines_of(directory)[:10]))


CUTS = (without_tail, without_anything, short_tail, long_tail, short_segment)


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
def test_a_log_of_which_a_file_is_gone_or_cut_is_not_verified(tmp_path: Path, cut: Callable[[Path], None]) -> None:
    directory = killed(tmp_path, 100)
    assert report_of(tmp_path).verified and len(lines_of(directory)) > 10
    cut(directory)
    log = report_of(tmp_path)
    assert not log.verified and codes(log) == {"truncated"}
    result = prune(tmp_path, Wanted(before=FOREVER))
    assert directory.is_dir() and not result.removals, "what is missing was sealed as the end"


def test_a_file_put_behind_the_last_segment_hides_no_record(tmp_path: Path) -> None:
    directory = killed(tmp_path, 100)
    (directory / "000099.jsonl").touch()
    (directory / "\u00b2\u00b2.jsonl").touch()
    log = report_of(tmp_path)
    assert log.verified and log.found.last_seq == 201
    assert sum(1 for _ in all_records(tmp_path / "audit", Filter())) == 201


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
@pytest.mark.parametrize("name", ["tail", "000001.jsonl"])
def test_what_is_no_file_is_named_and_the_other_logs_are_verified(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    good, directory = closed_log(tmp_path), killed(tmp_path, 100)
    (directory / name).unlink()
    make(directory / name)
    report = verify(tmp_path)
    assert {log.chain: log.verified for log in report.logs} == {good.name: True, directory.name: False}
    assert codes(report) in ({"unreadable"}, {"missing"})
    prune(tmp_path, Wanted(before=FOREVER))
    assert (directory / name).exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_a_list_that_is_no_file_ends_verification_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    closed_log(tmp_path)
    (tmp_path / "audit" / "chains.jsonl").unlink()
    make(tmp_path / "audit" / "chains.jsonl")
    with pytest.raises(AuditError, match="list of logs"):
        verify(tmp_path)


def test_a_pipe_for_the_lock_holds_nobody_up(tmp_path: Path) -> None:
    closed_log(tmp_path)
    os.mkfifo(tmp_path / "audit" / "retention.lock")
    assert verify(tmp_path).verified


@pytest.mark.parametrize("content", [b"\0", b"x"], ids=["a hole", "one line"])
def test_a_huge_line_is_read_in_pieces(tmp_path: Path, content: bytes) -> None:
    directory = closed_log(tmp_path)
    size = 200 * LONGEST
    with open(directory / "000001.jsonl", "ab") as file:
        if content == b"\0":
            file.truncate(size)
        else:
            file.writelines(content * LONGEST for _ in range(200))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log = report_of(tmp_path)
    assert not log.verified and "malformed" in codes(log)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < size // 1024 // 4


def test_more_logs_are_exported_than_files_may_be_open(tmp_path: Path) -> None:
    for _ in range(40):
        closed_log(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 12, hard))
        assert sum(1 for _ in all_records(tmp_path / "audit", Filter())) == 40 * 4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_tail_of_a_log_in_use_is_nobodys_to_miss(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    fill(journal, 300)
    assert journal.offset > HEADER_BYTES and report_of(tmp_path).verified
    journal.close()
    assert not (journal.path / "tail").exists() and report_of(tmp_path).verified
