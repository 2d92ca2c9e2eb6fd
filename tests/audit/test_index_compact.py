"""A list of logs that became long is shortened by what it says of removed logs, and by nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callgate.audit import index, index_compact
from callgate.audit.index import INDEX_NAME, append, lines
from callgate.audit.index_compact import compact
from callgate.audit.records import canonical
from callgate.audit.retention import Result, Wanted, prune
from callgate.audit.statements import signed
from callgate.audit.verify import signature_verifier, verify
from callgate.cli.audit_text import report_lines
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, codes, fill, new_journal

ALL = Wanted(before=1 << 60, reason="test")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_compact, "COMPACT_BYTES", 4000)
    monkeypatch.setattr(index_compact, "KEPT_BYTES", 1000)


def listed(state: Path) -> Path:
    return state / "audit" / INDEX_NAME


def logs(state: Path, count: int) -> list[Path]:
    return [closed_log(state, 1) for _ in range(count)]


def removed(state: Path) -> Result:
    return prune(state, ALL)


def shortened(state: Path) -> dict[str, Any]:
    """The statement a list begins with."""
    first: dict[str, Any] = json.loads(lines(listed(state).parent)[0])
    assert first["kind"] == "compacted"
    return first


def test_lines_of_removed_logs_go_with_a_signed_statement(tmp_path: Path) -> None:
    logs(tmp_path, 12)
    before = lines(listed(tmp_path).parent)
    result = removed(tmp_path)
    after = lines(listed(tmp_path).parent)
    statement = shortened(tmp_path)
    assert result.list_lines == statement["lines"] > 20
    assert (statement["logs"], statement["carried"], statement["torn"]) == (12, 0, 0)
    assert len(after) < len(before) and listed(tmp_path).stat().st_size < 2500
    assert listed(tmp_path).stat().st_mode & 0o777 == 0o600
    report = verify(tmp_path)
    assert report.verified and report.compacted == statement
    assert report.removed, "the newest removals are still named one by one"
    assert any(f"{statement['lines']} lines about 12 removed logs" in line for line in report_lines(report))
    closed_log(tmp_path)
    assert verify(tmp_path).verified


def test_logs_that_are_here_keep_their_lines_byte_for_byte(tmp_path: Path) -> None:
    kept = closed_log(tmp_path, 1)
    serving = new_journal(tmp_path)  # a long-running process holds its place in the list, and not that of all others
    fill(serving, 2)
    own = [
        line for line in lines(listed(tmp_path).parent) if kept.name.encode() in line or serving.chain.encode() in line
    ]
    logs(tmp_path, 12)
    first = kept / "000001.jsonl"
    first.write_bytes(first.read_bytes().replace(b"read_file", b"rEad_file", 1))  # what does not verify stays
    removed(tmp_path)
    statement = shortened(tmp_path)
    assert statement["carried"] == 3 and lines(listed(tmp_path).parent)[1:4] == own
    fill(serving, 2)
    serving.close()
    found = {log.chain: log for log in verify(tmp_path).logs}
    assert found[serving.chain].verified and found[serving.chain].found.closed
    assert codes(found[kept.name]) == {"changed"}
    assert not verify(tmp_path).index_problems
    shutil.rmtree(kept)
    assert verify(tmp_path).missing == [kept.name], "who is carried is missed"


def test_again_and_again(tmp_path: Path) -> None:
    serving = new_journal(tmp_path)
    counted = []
    for _ in range(4):
        logs(tmp_path, 12)
        removed(tmp_path)
        assert verify(tmp_path).verified
        counted.append((shortened(tmp_path)["logs"], shortened(tmp_path)["carried"]))
        assert listed(tmp_path).stat().st_size < 4000
    assert [carried for _, carried in counted] == [1, 1, 1, 1]
    assert [number for number, _ in counted] == sorted({number for number, _ in counted}) and counted[-1][0] >= 40
    serving.close()
    removed(tmp_path)
    logs(tmp_path, 12)
    removed(tmp_path)
    assert shortened(tmp_path)["carried"] == 0
    assert verify(tmp_path).verified


def test_tears_go_with_the_rest_and_are_counted(tmp_path: Path) -> None:
    logs(tmp_path, 6)
    with open(listed(tmp_path), "ab") as file:
        file.write(b'{"chain":"2026')
    logs(tmp_path, 8)
    assert verify(tmp_path).tears
    removed(tmp_path)
    assert shortened(tmp_path)["torn"] == len(b'{"chain":"2026')
    report = verify(tmp_path)
    assert report.verified and not report.tears
    assert any("torn bytes were dropped" in line for line in report_lines(report))


def test_a_list_that_is_short_or_full_of_logs_that_are_here_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs(tmp_path, 12)
    before = lines(listed(tmp_path).parent)
    assert compact(tmp_path, signature_verifier(tmp_path)) == 0
    monkeypatch.setattr(index_compact, "COMPACT_BYTES", 1 << 20)
    assert removed(tmp_path).list_lines == 0
    assert lines(listed(tmp_path).parent)[: len(before)] == before


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    logs(tmp_path, 12)
    before = listed(tmp_path).read_bytes()
    assert prune(tmp_path, ALL, dry_run=True).removals
    assert listed(tmp_path).read_bytes() == before


def _drop_statement(found: list[bytes]) -> list[bytes]:
    return found[1:]


def _drop_carried(found: list[bytes]) -> list[bytes]:
    return [found[0], *found[2:]]


def _change_carried(found: list[bytes]) -> list[bytes]:
    return [found[0], found[1].replace(b'"process":"test"', b'"process":"evil"'), *found[2:]]


def _drop_next(found: list[bytes]) -> list[bytes]:
    return [*found[:2], *found[3:]]


def _move_statement(found: list[bytes]) -> list[bytes]:
    return [*found[1:3], found[0], *found[3:]]


def _reshaped(**changed: Any) -> Callable[[list[bytes]], list[bytes]]:
    return lambda found: [canonical({**json.loads(found[0]), **changed}), *found[1:]]


DAMAGE = {
    "the statement dropped": _drop_statement,
    "a carried line dropped": _drop_carried,
    "a carried line changed": _change_carried,
    "the next line dropped": _drop_next,
    "the statement moved": _move_statement,
    "more lines counted": _reshaped(lines=1),
    "another end": _reshaped(digest="0" * 64),
    "none carried": _reshaped(carried=0),
    "minus one carried": _reshaped(carried=-1),
    "no number carried": _reshaped(carried="1"),
    "no signature": _reshaped(signature=""),
    "another key": _reshaped(key="ed25519:0"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_was_not_signed_does_not_pass(tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]]) -> None:
    serving = new_journal(tmp_path)
    logs(tmp_path, 12)
    removed(tmp_path)
    serving.close()
    assert verify(tmp_path).verified
    listed(tmp_path).write_bytes(b"".join(damage(lines(listed(tmp_path).parent))))
    assert codes(verify(tmp_path)) & {"statement", "index-changed"}
    before = listed(tmp_path).read_bytes()
    with pytest.raises(AuditError, match="does not verify"):
        removed(tmp_path)
    assert compact(tmp_path, signature_verifier(tmp_path)) == 0 and listed(tmp_path).read_bytes() == before


def test_a_second_statement_in_the_middle_is_an_error(tmp_path: Path) -> None:
    logs(tmp_path, 12)
    removed(tmp_path)
    again = {name: value for name, value in shortened(tmp_path).items() if name not in ("key", "signature")}
    append(listed(tmp_path).parent, signed(tmp_path, again))
    assert "index-changed" in codes(verify(tmp_path))


def test_who_waits_for_the_list_writes_into_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs(tmp_path, 12)
    waiting = threading.Event()
    begun: list[threading.Thread] = []
    flock, replace = index.fcntl.flock, index_compact._replace

    def watched(file: Any, kind: int) -> None:
        if threading.current_thread() in begun:
            waiting.set()
        flock(file, kind)

    def while_somebody_waits(audit_dir: Path, new: list[bytes]) -> None:
        thread = threading.Thread(target=append, args=(audit_dir, {"chain": "late", "kind": "note"}))
        begun.append(thread)
        thread.start()
        assert waiting.wait(60)
        time.sleep(0.05)
        replace(audit_dir, new)

    monkeypatch.setattr(index.fcntl, "flock", watched)
    monkeypatch.setattr(index_compact, "_replace", while_somebody_waits)
    assert removed(tmp_path).list_lines
    begun[0].join(60)
    assert json.loads(lines(listed(tmp_path).parent)[-1])["chain"] == "late"
    assert verify(tmp_path).verified


@pytest.mark.parametrize("step", ["unlink", "open", "fsync", "replace"])
def test_killed_at_any_step_the_one_list_or_the_other_is_there(tmp_path: Path, step: str) -> None:
    logs(tmp_path, 12)
    child = os.fork()
    if not child:
        real = getattr(os, step)

        def dies(*arguments: Any, **more: Any) -> Any:
            if any(f"{INDEX_NAME}.new" in str(one) for one in arguments) or step == "fsync":
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        setattr(os, step, dies)
        removed(tmp_path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert verify(tmp_path).verified
    closed_log(tmp_path)
    removed(tmp_path)
    assert verify(tmp_path).verified and shortened(tmp_path)["logs"] >= 12
    assert not listed(tmp_path).with_name(f"{INDEX_NAME}.new").exists()
