from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from callgate.clients.launcher import heedless, launcher, wrapper_missing
from callgate.clients.records import FILE_NAME, Record, Records
from callgate.clients.tree import ClientFileError
from callgate.errors import ConfigError

RECORD = Record(
    client="cursor",
    file="/h/é\ud800.json".replace("\ud800", "x"),
    where=("mcpServers", 'a"b'),
    gate_name="a-b",
    format="json",
    before_text='"command": "x"',
    after_text='"command": "callgate"',
    touched=("command", "args"),
    original={"command": "sx\ud800", "n": "=1e5", "deep": {"l": ["s", {}]}},
    wrapped={"command": "scallgate"},
).sealed()


def test_records_are_kept_and_read_again(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.save(add=[RECORD, replace(RECORD, file="/other")])
    again = Records(tmp_path)
    assert again.get(RECORD.file, RECORD.where) == RECORD
    assert [record.file for record in again.all()] == [RECORD.file, "/other"]
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    again.save(drop=[RECORD])
    assert [record.file for record in Records(tmp_path).all()] == ["/other"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"sx', '"sy'),
        lambda text: text.replace('\\"x\\"', '\\"y\\"'),
        lambda text: text.replace('"original_sha256"', '"other"'),
        lambda text: text[:-5],
        lambda text: text.replace('"version": 2', '"version": 3'),
        lambda text: "[]",
        lambda text: json.dumps({"version": 1, "records": [1]}),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: object) -> None:
    Records(tmp_path).save(add=[RECORD])
    path = tmp_path / FILE_NAME
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ClientFileError):
        Records(tmp_path)


def test_the_launcher_is_absolute_and_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = launcher()
    assert Path(found[0]).is_absolute()
    assert Path(found[0]).exists()
    ours = tmp_path / "callgate"
    ours.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(ours), "install"])
    assert launcher() == (str(ours),)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["./callgate"])
    assert launcher() == (str(ours),)


def test_a_launcher_that_will_be_cleaned_up_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cached = tmp_path / "uv/archive-v0/x/bin/callgate"
    cached.parent.mkdir(parents=True)
    cached.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(cached)])
    with pytest.raises(ConfigError, match="cache"):
        launcher()


def test_a_wrapper_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "callgate"
    there.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not wrapper_missing((str(there), "run", "--", "x"))
    assert not wrapper_missing(("callgate", "run", "--", "x"))
    assert not wrapper_missing((f"{there} run -- x",))
    there.chmod(0o644)
    assert wrapper_missing((str(there), "run", "--", "x"))
    there.unlink()
    assert wrapper_missing((str(there), "run", "--", "x"))
    assert wrapper_missing(("callgate", "run", "--", "x"))
    assert wrapper_missing(("/no/python", "-m", "callgate.cli.main", "run", "--", "x"))
    assert wrapper_missing(("/no/python", "-E", "-P", "-m", "callgate.cli.main", "run", "--", "x"))
    assert not wrapper_missing((*heedless(), "run", "--", "x"))
