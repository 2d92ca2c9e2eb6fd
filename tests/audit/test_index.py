"""The list of logs: what a loss of power leaves of its last line is no damage, and anything else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.index import INDEX_NAME, append, lines
from callgate.audit.records import canonical, digest_of
from callgate.audit.retention import Wanted, prune
from callgate.audit.spool import Spool
from callgate.audit.verify import verify
from callgate.cli.audit_text import report_lines
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, codes, lines_of, new_journal, report_of, rewrite


def listed(state: Path) -> Path:
    return state / "audit" / INDEX_NAME


def tear(state: Path, left: Callable[[bytes], bytes]) -> bytes:
    """Leave of the last line what `left` makes of it; the line."""
    path = listed(state)
    *before, last = lines(path.parent)
    path.write_bytes(b"".join(before) + left(last))
    return last


def cut_at(count: int) -> Callable[[bytes], bytes]:
    return lambda line: line[:count]


LEFT = {
    "one byte": cut_at(1),
    "half": cut_at(120),
    "all but the end": lambda line: line[:-2],
    "zeros for the end": lambda line: line[:40] + bytes(len(line) - 40),
    "zeros for the start": lambda line: bytes(80) + line[80:],
    "zeros alone": lambda line: bytes(len(line)),
    "with carriage returns": lambda line: b"\r" * 9 + line[:30],
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_a_torn_last_line_is_said_and_the_rest_goes_on(tmp_path: Path, left: Callable[[bytes], bytes]) -> None:
    first = closed_log(tmp_path)
    second = closed_log(tmp_path)
    tear(tmp_path, left)
    torn = listed(tmp_path).read_bytes().rpartition(b'"opened"')[2].partition(b"\n")[2]
    report = verify(tmp_path)
    assert report.verified and len(report.logs) == 2
    (found,) = report.tears
    assert (found.line, found.bytes, found.stated) == (4, len(torn), 0)
    assert found.about in ("", second.name)
    said = "\n".join(report_lines(report))
    assert f"torn: {len(torn)} bytes at line 4" in said and "what it said is missing" in said

    third = closed_log(tmp_path)  # the next process: it goes on, and states what it found
    assert torn in listed(tmp_path).read_bytes(), "the torn bytes stay"
    report = verify(tmp_path)
    assert report.verified and {log.chain for log in report.logs} == {first.name, second.name, third.name}
    (found,) = report.tears
    assert (found.line, found.bytes, found.stated > 0) == (4, len(torn), True)
    assert any("noted on 20" in line for line in report_lines(report))
    stated = next(entry for line in lines(listed(tmp_path).parent) if (entry := _entry(line)).get("kind") == "torn")
    assert stated["sha256"] == sha256(torn).hexdigest() and stated["bytes"] == len(torn)
    assert prune(tmp_path, Wanted(before=1 << 60, reason="test")).records > 0, "and old evidence can be removed again"
    assert verify(tmp_path).verified


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return entry


def test_at_whichever_byte_it_was_torn(tmp_path: Path) -> None:
    closed_log(tmp_path)
    path = listed(tmp_path)
    *before, last = lines(path.parent)
    for count in range(1, len(last)):
        path.write_bytes(b"".join(before) + last[:count])
        whole = count == len(last) - 1  # nothing but the newline is missing, so nothing is
        report = verify(tmp_path)
        assert report.verified and bool(report.tears) != whole, count
        append(path.parent, {"chain": "x", "kind": "note"})
        report = verify(tmp_path)
        assert report.verified and bool(report.tears) != whole, count
        assert all(one.stated for one in report.tears)


def test_power_that_goes_again_and_again(tmp_path: Path) -> None:
    closed_log(tmp_path)
    path = listed(tmp_path)
    for number in range(5):
        append(path.parent, {"chain": f"x{number}", "kind": "note"})
        append(path.parent, {"chain": f"y{number}", "kind": "note"})
        tear(tmp_path, cut_at(20 + number))
    with open(path, "ab") as file:  # in the middle of stating it
        file.write(b'\n{"bytes":24,"chain"')
    report = verify(tmp_path)
    assert report.verified and len(report.tears) == 5
    append(path.parent, {"chain": "z", "kind": "note"})
    assert verify(tmp_path).verified


def test_the_line_that_announces_a_log_may_be_the_torn_one(tmp_path: Path) -> None:
    closed_log(tmp_path)
    begun = tmp_path / "audit" / "20260101T000000-1-00000000"
    begun.mkdir()
    append(begun.parent, {"chain": begun.name, "kind": "opened"})
    tear(tmp_path, cut_at(60))
    report = verify(tmp_path)
    assert report.verified and report.tears[0].about == begun.name
    assert any(f"about log {begun.name}" in line for line in report_lines(report))


def test_what_it_names_is_shown_with_care(tmp_path: Path) -> None:
    closed_log(tmp_path)
    with open(listed(tmp_path), "ab") as file:
        file.write(b'{"chain":"\x1b]0;evil\x07\xe2\x80\xae' + b"x" * 500 + b'","kin')
    said = report_lines(verify(tmp_path))
    assert any("about log \\" in line for line in said)
    assert all(line.isprintable() and len(line) < 1000 for line in said)


def test_what_an_older_callgate_left_after_a_tear_is_readable(tmp_path: Path) -> None:
    """It began a new line, chained to the last whole one, and stated nothing."""
    first = closed_log(tmp_path)
    path = listed(tmp_path)
    prev = digest_of(lines(path.parent)[-1])
    opened = canonical({"chain": "20260101T000000-1-00000000", "kind": "opened", "prev": prev})
    with open(path, "ab") as file:
        file.write(b'{"chain":"torn\n' + opened)
    (path.parent / "20260101T000000-1-00000000").mkdir()
    Spool(path.parent / "20260101T000000-1-00000000")
    report = verify(tmp_path)
    assert report.verified and report_of(tmp_path, first.name).verified
    assert [(one.line, one.stated) for one in report.tears] == [(3, 0)]


@pytest.mark.parametrize("line", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "left", [cut_at(50), lambda line: line[:50] + b"\n", lambda line: bytes(len(line) - 1) + b"\n"]
)
def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path, line: int, left: Callable[[bytes], bytes]) -> None:
    for _ in range(3):
        closed_log(tmp_path)
    found = lines(listed(tmp_path).parent)
    found[line] = left(found[line])
    listed(tmp_path).write_bytes(b"".join(found))
    assert codes(verify(tmp_path)) & {"index-malformed", "index-changed"}
    closed_log(tmp_path)
    assert not verify(tmp_path).verified, "and no later line makes it good"


def test_torn_bytes_that_were_stated_may_not_change(tmp_path: Path) -> None:
    closed_log(tmp_path)
    tear(tmp_path, cut_at(60))
    closed_log(tmp_path)
    path = listed(tmp_path)
    good = path.read_bytes()
    torn = good.splitlines()[1]
    for other in (torn[:-1] + b"x", torn[:-1], b""):
        path.write_bytes(good.replace(torn + b"\n", other + b"\n" if other else b"", 1))
        assert "index-changed" in codes(verify(tmp_path)), other
    path.write_bytes(good)
    assert verify(tmp_path).verified


def test_a_line_that_was_changed_and_stated_to_be_torn_does_not_pass(tmp_path: Path) -> None:
    """Who has no key cannot make a tear of a line that later ones are chained to."""
    for _ in range(2):
        closed_log(tmp_path)
    found = lines(listed(tmp_path).parent)
    torn = found[1][:40] + b"\n"
    digest = sha256(torn[:-1]).hexdigest()
    stated = {"bytes": 40, "chain": "", "kind": "torn", "prev": digest_of(found[0]), "sha256": digest, "time": 1}
    listed(tmp_path).write_bytes(b"".join([found[0], torn, canonical(stated), *found[2:]]))
    assert "index-changed" in codes(verify(tmp_path))


def test_more_than_one_write_could_leave_is_no_tear_to_be_mended(tmp_path: Path) -> None:
    closed_log(tmp_path)
    with open(listed(tmp_path), "ab") as file:
        file.write(b"x" * 70_000 + b"\n")
    closed_log(tmp_path)
    assert {"index-malformed", "index-changed"} <= codes(verify(tmp_path))


def test_a_list_that_is_nothing_but_torn(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    audit.mkdir()
    (audit / INDEX_NAME).write_bytes(b'{"chain":"2026')
    closed_log(tmp_path)
    report = verify(tmp_path)
    assert report.verified and report.tears[0].line == 1


def test_nobody_moves_the_end_of_a_closed_log_with_another_line(tmp_path: Path) -> None:
    first = closed_log(tmp_path)
    closed_log(tmp_path)
    kept = lines_of(first)[:3]
    rewrite(first, kept)
    end = {"chain": first.name, "digest": digest_of(kept[-1]), "kind": "closed", "seq": 3, "time": 1}
    append(tmp_path / "audit", end)
    report = verify(tmp_path)
    assert not report.verified and codes(report) == {"statement", "truncated"}
    assert "closes a log that had another end" in "\n".join(report_lines(report))


def test_nobody_begins_a_log_anew_with_another_line(tmp_path: Path) -> None:
    first = closed_log(tmp_path)
    closed_log(tmp_path)
    opened = append(tmp_path / "audit", {"chain": first.name, "kind": "opened", "process": "run", "time": 1})
    rewrite(first, [canonical({**json.loads(lines_of(first)[0]), "prev": opened})])
    report = verify(tmp_path)
    assert not report.verified and {"index-changed", "not-announced", "truncated"} <= codes(report)
    assert "opens a log that was opened before" in "\n".join(report_lines(report))


@pytest.mark.parametrize("name", ["x" * 300, "../keys", "/etc", "a\0b", "."])
def test_a_line_that_names_no_log_is_an_error_and_nothing_is_looked_for_elsewhere(tmp_path: Path, name: str) -> None:
    closed_log(tmp_path)
    append(tmp_path / "audit", {"chain": name, "kind": "opened", "process": "run", "time": 1})
    report = verify(tmp_path)
    assert not report.verified and codes(report) == {"index-malformed"} and not report.missing
    with pytest.raises(AuditError, match="does not verify"):
        prune(tmp_path, Wanted(before=1))


@pytest.mark.parametrize("seq", [0, -1, "3", None])
def test_a_log_is_closed_at_a_record(tmp_path: Path, seq: object) -> None:
    journal = new_journal(tmp_path)
    append(
        tmp_path / "audit", {"chain": journal.chain, "digest": journal.prev, "kind": "closed", "seq": seq, "time": 1}
    )
    assert codes(verify(tmp_path)) == {"statement"}
    journal.close()
