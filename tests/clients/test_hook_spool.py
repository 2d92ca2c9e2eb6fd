"""The evidence of hooks: appended, taken over once, kept when nobody could write it down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate.cli.main import main
from callgate.clients.hook_snapshot import HookError
from callgate.clients.hook_spool import MAX_BYTES, MAX_LINE, append, take_over, waiting


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> str:
    (tmp_path / "hooks").mkdir()
    return str(tmp_path)


def line(number: int) -> bytes:
    return json.dumps({"id": f"{number}", "outcome": "allow"}).encode() + b"\n"


def test_lines_are_taken_over_once(state: str) -> None:
    assert not waiting(state)
    for number in range(3):
        append(state, line(number))
    assert waiting(state)
    assert (Path(state) / "hooks/spool.jsonl").stat().st_mode & 0o777 == 0o600
    taken: list[Any] = []
    assert take_over(state, lambda kind, fields: taken.append((kind, fields["id"]))) == 3
    assert taken == [("hook", "0"), ("hook", "1"), ("hook", "2")]
    assert not waiting(state)
    assert take_over(state, lambda kind, fields: taken.append(kind)) == 0


def test_what_could_not_be_noted_stays(state: str) -> None:
    append(state, line(1))

    def full(kind: str, fields: Any) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        take_over(state, full)
    append(state, line(2))
    taken: list[str] = []
    assert take_over(state, lambda kind, fields: taken.append(fields["id"])) == 2
    assert sorted(taken) == ["1", "2"]


def test_damaged_lines_are_counted(state: str) -> None:
    path = Path(state) / "hooks/spool.jsonl"
    long = json.dumps({"id": "x" * MAX_LINE}).encode() + b"\n"
    path.write_bytes(b"garbage\n" + line(1) + b'{"id": 5}\n[]\n' + long + b'{"id": "torn')
    found: list[Any] = []
    assert take_over(state, lambda kind, fields: found.append((kind, fields))) == 1
    assert found[-1] == ("hook-evidence-damaged", {"lines": 5})


def test_a_full_spool_refuses(state: str) -> None:
    append(state, line(1))
    os.truncate(Path(state) / "hooks/spool.jsonl", MAX_BYTES + 1)
    with pytest.raises(HookError, match="taken over"):
        append(state, line(2))


def test_without_a_place_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="cannot be written"):
        append(str(tmp_path / "none"), line(1))
    assert not waiting(str(tmp_path / "none"))
    assert take_over(str(tmp_path / "none"), lambda kind, fields: None) == 0


def test_no_line_is_lost_between_writers_and_takers(state: str) -> None:
    code = (
        "import sys; from callgate.clients.hook_spool import append\n"
        'for n in range(200): append(sys.argv[1], b\'{"id":"%s-%d"}\\n\' % (sys.argv[2].encode(), n))\n'
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, state, str(number)]) for number in range(3)]
    taken: list[str] = []
    while any(writer.poll() is None for writer in writers):
        take_over(state, lambda kind, fields: taken.append(fields["id"]))
    take_over(state, lambda kind, fields: taken.append(fields["id"]))
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sorted(taken) == sorted(f"{writer}-{number}" for writer in range(3) for number in range(200))


def test_audit_takes_them_over(state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CALLGATE_STATE_DIR", state)
    append(state, line(7))
    assert main(["audit", "export"]) == 0
    notes = [one for one in map(json.loads, capsys.readouterr().out.splitlines()) if one["kind"] == "note"]
    assert [(one["what"], one["fields"]) for one in notes] == [("hook", {"id": "7", "outcome": "allow"})]
    assert not waiting(state)
    assert main(["audit", "verify"]) == 0
