"""Finding records across logs, and following logs that are written."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from callgate.audit import spool
from callgate.audit.query import Filter, Follower, all_records, find, newest_records
from callgate.audit.reader import chains, in_use, read_lines
from callgate.audit.records import canonical
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, fill, lines_of, new_journal, rewrite


def seqs(entries: object) -> list[int]:
    return [record["seq"] for _, record in entries]  # type: ignore[attr-defined]


def test_all_records_come_by_time_whatever_their_log(tmp_path: Path) -> None:
    one, two = new_journal(tmp_path), new_journal(tmp_path)
    for _ in range(3):
        fill(one, 1)
        fill(two, 1)
    times = [record["time"] for _, record in all_records(tmp_path / "audit", Filter())]
    assert times == sorted(times)
    assert len(times) == 14
    one.close()
    two.close()


def test_filters(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    fill(journal, 2)
    other = journal.scope(server="git", principal="local", transport="stdio")
    other.decision("call", 0, "tools/call", "log", 9, b"", {}, "deny", (), 0, 0)
    journal.close()
    directory = tmp_path / "audit"
    assert seqs(all_records(directory, Filter(server="git"))) == [6]
    assert seqs(all_records(directory, Filter(outcome="deny"))) == [6]
    assert seqs(all_records(directory, Filter(decisions_only=True))) == [2, 3, 4, 5, 6]
    middle = [record["time"] for _, record in all_records(directory, Filter())][3]
    assert seqs(all_records(directory, Filter(since=middle))) == [4, 5, 6, 7]
    assert seqs(all_records(directory, Filter(until=middle))) == [1, 2, 3]
    with pytest.raises(AuditError, match="no log"):
        list(all_records(directory, Filter(chain="nowhere")))


def test_the_newest_records(tmp_path: Path) -> None:
    closed_log(tmp_path, 5)
    closed_log(tmp_path, 1)
    directory = tmp_path / "audit"
    assert seqs(newest_records(directory, Filter(), 6)) == [11, 12, 1, 2, 3, 4]
    assert seqs(newest_records(directory, Filter(decisions_only=True), 3)) == [11, 2, 3]
    assert newest_records(tmp_path / "nothing", Filter(), 3) == []


def test_a_record_is_found_with_its_partner(tmp_path: Path) -> None:
    first = closed_log(tmp_path, 3)
    second = closed_log(tmp_path, 1)
    directory = tmp_path / "audit"
    entry, partner = find(directory, f"{first.name}:4")
    assert entry[0] == lines_of(first)[3]
    assert partner
    assert partner[1]["seq"] == 5
    _, request = find(directory, f"{first.name}:5")
    assert request
    assert request[1]["seq"] == 4
    assert find(directory, "2")[0][1]["chain"] == second.name
    assert find(directory, "1")[1] is None
    for reference in ("99", "x", "", "\u00b2", "9" * 5000, f"{first.name}:99", "nowhere:1"):
        with pytest.raises(AuditError):
            find(directory, reference)


def test_following_sees_each_new_record_once(tmp_path: Path) -> None:
    closed_log(tmp_path, 2)
    journal = new_journal(tmp_path, segment_bytes=65536)
    fill(journal, 1)
    follower = Follower(tmp_path / "audit", Filter(decisions_only=True))
    assert follower.poll() == []
    fill(journal, 2)
    assert seqs(follower.poll()) == [4, 5, 6, 7]
    fill(journal, 700)
    assert seqs(follower.poll()) == list(range(8, 1408))
    later = new_journal(tmp_path)
    fill(later, 1)
    journal.close()
    assert seqs(follower.poll()) == [2, 3]
    later.close()
    assert follower.poll() == []
    assert follower.poll() == []


def test_following_waits_for_a_record_to_be_whole(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    follower = Follower(tmp_path / "audit", Filter())
    start, before = journal.offset, follower.poll()
    journal.note("x", {})
    line = journal.tail[start : journal.offset]
    journal.tail[start + 5 : journal.offset - 3] = bytes(len(line) - 8)
    assert before == follower.poll() == []
    journal.tail[start : journal.offset] = line
    assert seqs(follower.poll()) == [2]
    journal.close()


def test_following_goes_on_after_a_damaged_record(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    follower = Follower(tmp_path / "audit", Filter())
    start = journal.offset
    journal.note("x", {})
    journal.tail[start : start + 1] = b"?"
    assert follower.poll() == []
    journal.note("y", {})
    assert seqs(follower.poll()) == [3]
    assert follower.poll() == []
    journal.close()


@pytest.mark.parametrize("made", [(), ("tail.new",), ("tail.new", "000001.jsonl")], ids=len)
def test_a_log_that_is_just_being_opened_is_followed(tmp_path: Path, made: tuple[str, ...]) -> None:
    journal = new_journal(tmp_path)
    hidden = tmp_path / "hidden"
    journal.path.rename(hidden)
    journal.path.mkdir()
    for name in made:
        (journal.path / name).touch()
    follower = Follower(tmp_path / "audit", Filter())
    for name in made:
        (journal.path / name).unlink()
    journal.path.rmdir()
    hidden.rename(journal.path)
    assert seqs(follower.poll()) == [1]
    journal.close()


@pytest.mark.parametrize("about", ["1", {}, [2], 1.5, True, None])
def test_a_record_about_something_odd_is_shown(tmp_path: Path, about: object) -> None:
    directory = closed_log(tmp_path)
    lines = lines_of(directory)
    lines[2] = canonical({**json.loads(lines[2]), "about": about})
    rewrite(directory, lines)
    for number in range(1, len(lines) + 1):
        assert find(tmp_path / "audit", f"{directory.name}:{number}")[0][1]["seq"] == number


def test_a_log_is_in_use_as_long_as_its_process_lives(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        journal = new_journal(tmp_path)
        fill(journal, 1)
        signal.pause()
    directory = tmp_path / "audit"
    for _ in range(500):
        if chains(directory) and in_use(directory / chains(directory)[0]):
            break
        signal.sigtimedwait([], 0.01)
    log = directory / chains(directory)[0]
    assert in_use(log)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not in_use(log)


def test_who_looks_at_a_log_that_is_just_being_opened_does_not_keep_it_from_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks holds a shared lock on `tail` for a moment; here for all the time that it has its name."""
    held: list[int] = []
    allocate = spool._allocate

    def look(descriptor: int, length: int) -> None:
        allocate(descriptor, length)
        for path in (tmp_path / "audit").glob(f"*/{spool.TAIL_NAME}"):
            held.append(os.open(path, os.O_RDONLY))
            fcntl.flock(held[-1], fcntl.LOCK_SH)

    monkeypatch.setattr(spool, "_allocate", look)
    journal = new_journal(tmp_path)
    assert in_use(journal.path)
    journal.close()
    assert not held


def test_reading_from_a_place_on(tmp_path: Path) -> None:
    directory = closed_log(tmp_path, 400, segment_bytes=65536)
    everything = list(read_lines(directory))
    assert [line for line, _ in everything] == lines_of(directory)
    for at in (0, 100, 300, 800):
        assert list(read_lines(directory, everything[at][1])) == everything[at + 1 :]


def test_requests_refused_at_the_door_count_as_denials_of_their_route(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    journal.note("http-refused", {"route": "files", "rule": "http-host", "status": 421, "count": 1})
    journal.note("http-refused", {"rule": "http-path", "status": 404, "count": 1})
    journal.note("reload", {})
    journal.close()

    def rules(**wanted: Any) -> list[str]:
        found = newest_records(tmp_path / "audit", Filter(decisions_only=True, **wanted), 10)
        return [record["fields"]["rule"] for _, record in found]

    assert rules() == ["http-host", "http-path"]
    assert rules(server="files") == rules(server="files", outcome="deny") == ["http-host"]
    assert rules(outcome="allow") == rules(server="other") == []
