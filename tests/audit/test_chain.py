"""The rules of a chain: each way of changing a log is detected and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.audit.keys import signing_key
from callgate.audit.records import canonical, digest_of
from callgate.audit.spool import TAIL_BYTES
from callgate.audit.verify import verify
from tests.audit.evidence import closed_log, codes, fill, lines_of, new_journal, report_of, rewrite

RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CALLS = 6
RECORDS = 2 * CALLS + 2


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State directory with one closed log of 14 records."""
    state = tmp_path_factory.mktemp("original")
    closed_log(state, CALLS)
    return state


@pytest.fixture
def state(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "state"))


def log_of(state: Path) -> Path:
    return next(path for path in (state / "audit").iterdir() if path.is_dir())


def problems(state: Path) -> list[tuple[str, int]]:
    return [(problem.code, problem.seq) for problem in report_of(state).found.problems]


def rechained(lines: list[bytes]) -> list[bytes]:
    """The lines with `seq` and `prev` made right again: what someone without the key can do."""
    fixed: list[bytes] = []
    for number, line in enumerate(lines):
        record = json.loads(line)
        if number:
            record["seq"] = number + 1
            record["prev"] = digest_of(fixed[-1])
        fixed.append(canonical(record))
    return fixed


def test_an_untouched_log_verifies(state: Path) -> None:
    log = report_of(state)
    assert log.verified
    assert log.found.closed
    assert log.found.records == log.found.last_seq == RECORDS
    assert log.found.signed_through == RECORDS - 1
    assert not log.found.unanswered


@RELAXED
@given(place=st.integers(0, 10**9), value=st.integers(0, 255))
def test_any_changed_byte_is_found_and_placed(original: Path, tmp_path: Path, place: int, value: int) -> None:
    state = tmp_path / "state"
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(original, state)
    path = log_of(state) / "000001.jsonl"
    data = bytearray(path.read_bytes())
    place %= len(data)
    if data[place] == value:
        return
    record = data.count(b"\n", 0, place) + 1
    data[place] = value
    path.write_bytes(data)
    report = verify(state)
    assert not report.verified
    assert any(abs(seq - record) <= 1 for _, seq in problems(state))


@pytest.mark.parametrize("seq", range(1, RECORDS + 1))
def test_an_edited_record_is_named(state: Path, seq: int) -> None:
    lines = lines_of(log_of(state))
    record = json.loads(lines[seq - 1])
    record["time"] += 1
    lines[seq - 1] = canonical(record)
    rewrite(log_of(state), lines)
    expected = {("changed", seq)} if seq < RECORDS else {("end-changed", seq)}
    assert expected <= set(problems(state))


@pytest.mark.parametrize("seq", range(1, RECORDS + 1))
def test_a_dropped_record_is_named(state: Path, seq: int) -> None:
    lines = lines_of(log_of(state))
    del lines[seq - 1]
    rewrite(log_of(state), lines)
    assert ("missing" if seq < RECORDS else "truncated", seq) in problems(state)


def test_swapped_records_are_named(state: Path) -> None:
    lines = lines_of(log_of(state))
    lines[4], lines[5] = lines[5], lines[4]
    rewrite(log_of(state), lines)
    assert {("missing", 5), ("out-of-order", 5)} <= set(problems(state))


def test_a_doubled_record_is_named(state: Path) -> None:
    lines = lines_of(log_of(state))
    lines.insert(5, lines[4])
    rewrite(log_of(state), lines)
    assert ("out-of-order", 5) in problems(state)


@pytest.mark.parametrize("kept", range(RECORDS))
def test_a_truncated_log_is_named(state: Path, kept: int) -> None:
    rewrite(log_of(state), lines_of(log_of(state))[:kept])
    found = report_of(state).found
    assert "truncated" in codes(report_of(state))
    assert found.last_seq == kept
    assert not found.closed


def test_a_fork_with_new_digests_does_not_pass_the_signature(state: Path) -> None:
    lines = lines_of(log_of(state))
    record = json.loads(lines[3])
    record["outcome"] = "deny"
    lines[3] = canonical(record)
    rewrite(log_of(state), rechained(lines))
    assert {"checkpoint-mismatch", "end-changed"} <= codes(report_of(state))
    assert report_of(state).found.signed_through == 0


def test_a_fork_that_moves_the_checkpoint_too_has_a_bad_signature(state: Path) -> None:
    lines = lines_of(log_of(state))
    record = json.loads(lines[3])
    record["outcome"] = "deny"
    lines[3] = canonical(record)
    lines = rechained(lines)
    close = json.loads(lines[-1])
    close["digest"] = close["prev"]
    lines[-1] = canonical(close)
    rewrite(log_of(state), lines)
    assert {"bad-signature", "end-changed"} <= codes(report_of(state))


def test_a_dropped_record_with_new_digests_is_found(state: Path) -> None:
    lines = lines_of(log_of(state))
    del lines[4:6]
    rewrite(log_of(state), rechained(lines))
    assert {"checkpoint-mismatch", "truncated"} <= codes(report_of(state))


def test_a_checkpoint_signed_by_another_key_is_named(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    closed_log(other, 1)
    shutil.rmtree(state / "keys")
    shutil.copytree(other / "keys", state / "keys")
    assert codes(report_of(state)) == {"unknown-key"}


def test_a_record_after_the_end_is_named(state: Path) -> None:
    lines = lines_of(log_of(state))
    extra = json.loads(lines[2]) | {"seq": RECORDS + 1, "prev": digest_of(lines[-1])}
    rewrite(log_of(state), [*lines, canonical(extra)])
    assert ("after-close", RECORDS + 1) in problems(state)


def test_rubbish_between_records_is_named(state: Path) -> None:
    lines = lines_of(log_of(state))
    lines[4] = b"not a record\n"
    rewrite(log_of(state), lines)
    assert problems(state) == [("malformed", 5)]


@pytest.mark.parametrize(
    "form",
    [
        lambda line: line.replace(b'":', b'": ', 1),
        lambda line: line.replace(b'"kind":"decision"', b'"kind":"decision","kind":"decision"'),
        lambda line: line.replace(b"tools", b"\\u0074ools"),
    ],
    ids=["space", "duplicate-key", "escape"],
)
def test_another_spelling_of_the_same_record_is_named(state: Path, form: object) -> None:
    lines = lines_of(log_of(state))
    lines[4] = form(lines[4])  # type: ignore[operator]
    rewrite(log_of(state), lines)
    assert ("not-canonical", 5) in problems(state)


@pytest.mark.parametrize("about", [5, 99, -1])
def test_a_reference_forward_is_named(state: Path, about: int) -> None:
    lines = lines_of(log_of(state))
    lines[4] = canonical(json.loads(lines[4]) | {"about": about})
    rewrite(log_of(state), lines)
    assert ("bad-reference", 5) in problems(state)


def segmented(state: Path) -> Path:
    return closed_log(state, 1200, segment_bytes=65536)


@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "middle", "last"])
def test_a_dropped_segment_is_named(tmp_path: Path, which: int) -> None:
    directory = segmented(tmp_path)
    sorted(directory.glob("*.jsonl"))[which].unlink()
    assert codes(report_of(tmp_path)) & {"missing", "truncated"}


def test_swapped_segments_are_named(tmp_path: Path) -> None:
    directory = segmented(tmp_path)
    one, two = sorted(directory.glob("*.jsonl"))[:2]
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert {"missing", "out-of-order"} <= codes(report_of(tmp_path))


def two_logs(state: Path) -> tuple[Path, Path]:
    return closed_log(state, 2), closed_log(state, 3)


def test_a_dropped_log_is_named(tmp_path: Path) -> None:
    one, two = two_logs(tmp_path)
    shutil.rmtree(one)
    report = verify(tmp_path)
    assert not report.verified
    assert report.missing == [one.name]
    assert [log.chain for log in report.logs if log.verified] == [two.name]


def test_swapped_logs_are_named(tmp_path: Path) -> None:
    one, two = two_logs(tmp_path)
    for name in ("000001.jsonl",):
        first, second = (one / name).read_bytes(), (two / name).read_bytes()
        (one / name).write_bytes(second)
        (two / name).write_bytes(first)
    report = verify(tmp_path)
    assert [log.verified for log in report.logs] == [False, False]
    assert {"foreign-record", "not-announced"} <= codes(report)


def test_a_record_moved_from_another_log_is_named(tmp_path: Path) -> None:
    one, two = two_logs(tmp_path)
    lines = lines_of(one)
    lines[2] = lines_of(two)[2]
    rewrite(one, lines)
    assert "foreign-record" in codes(report_of(tmp_path, one.name))


def test_a_log_under_another_name_is_named(tmp_path: Path) -> None:
    directory = closed_log(tmp_path)
    directory.rename(directory.with_name("20200101T000000-1-00000000"))
    report = verify(tmp_path)
    assert report.missing == [directory.name]
    assert {"foreign-record", "not-announced"} <= codes(report)


@pytest.mark.parametrize("line", range(4))
def test_a_line_dropped_from_the_index_is_named(tmp_path: Path, line: int) -> None:
    two_logs(tmp_path)
    index = tmp_path / "audit" / "chains.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    del lines[line]
    index.write_bytes(b"".join(lines))
    report = verify(tmp_path)
    if line < 3:
        assert not report.verified
        assert codes(report) & {"index-changed", "not-announced"}
    else:  # the last line of the list: a log that was closed looks like one that is not announced as closed
        assert report.logs[-1].found.closed


def test_an_edited_index_is_named(tmp_path: Path) -> None:
    two_logs(tmp_path)
    index = tmp_path / "audit" / "chains.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"seq":6', b'"seq":4', 1))
    assert {"end-changed", "index-changed"} <= codes(verify(tmp_path))


def test_all_of_the_index_gone_is_named(tmp_path: Path) -> None:
    two_logs(tmp_path)
    (tmp_path / "audit" / "chains.jsonl").unlink()
    assert codes(verify(tmp_path)) == {"not-announced"}


def test_what_no_rule_can_see_is_what_the_documentation_says(tmp_path: Path) -> None:
    """Unsigned records at the end of a log that is not closed can be cut off; signed ones cannot be rewritten."""
    journal = new_journal(tmp_path)
    fill(journal, 2)
    journal.checkpoint()
    fill(journal, 2)
    text = journal.tail[64 : journal.offset]
    (journal.path / "tail").unlink()
    (journal.path / "tail").write_bytes((1 << 32).to_bytes(8, "little") + bytes(TAIL_BYTES - 8))  # it has to be there
    lines = text.splitlines(keepends=True)
    rewrite(journal.path, lines[:-2])
    assert report_of(tmp_path).verified
    assert report_of(tmp_path).found.signed_through == 5
    lines[1] = lines[1].replace(b'"outcome":"allow"', b'"outcome":"error"')
    rewrite(journal.path, rechained(lines))
    assert codes(report_of(tmp_path)) == {"checkpoint-mismatch"}


def test_someone_with_the_key_can_rewrite_everything(tmp_path: Path) -> None:
    """The limit that no chain removes: keep the public key and the digests elsewhere."""
    directory = closed_log(tmp_path)
    assert signing_key(tmp_path).public_key()
    shutil.rmtree(directory.parent)
    closed_log(tmp_path)
    assert verify(tmp_path).verified


@pytest.mark.parametrize("later", [False, True])
def test_the_end_of_a_closed_log_can_be_cut_only_with_its_line_and_while_nothing_came_later(
    tmp_path: Path, later: bool
) -> None:
    directory = closed_log(tmp_path)
    if later:
        closed_log(tmp_path)
    rewrite(directory, lines_of(directory)[:3])
    assert not verify(tmp_path, chain=directory.name).verified
    (directory / "tail").write_bytes((1 << 32).to_bytes(8, "little") + bytes(TAIL_BYTES - 8))
    index = tmp_path / "audit" / "chains.jsonl"
    prev, kept = "0" * 64, []
    for number, line in enumerate(index.read_bytes().splitlines(keepends=True), 1):
        if number != 2:
            kept.append(canonical({**json.loads(line), "prev": prev}))
            prev = digest_of(kept[-1])
    index.write_bytes(b"".join(kept))
    report = verify(tmp_path)
    assert report.verified is not later
    assert codes(report) == ({"not-announced"} if later else set())
