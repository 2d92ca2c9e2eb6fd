"""`callgate trust sign | keygen | catalogue | osv | inspect` as a person runs them."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import orjson
import pytest

from callgate.cli import trust_sign
from callgate.errors import ConfigError
from callgate.supply.lock_signature import verify_lock
from tests.supply.test_catalogue import Publisher
from tests.supply.test_mcpb import CLOCK, changed, packed
from tests.supply.test_osv import RECORDS, export
from tests.supply.test_ownership import ENTRY
from tests.supply.test_skills import GOOD, skill

FIXTURES = Path(__file__).parent.parent / "fixtures/supply"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "state"
    place.mkdir()
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(place))
    monkeypatch.delenv("CALLGATE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return place


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err == ""
    assert all(len(line) <= 80 for line in out.splitlines() if "/" not in line and "http" not in line), out
    return out


def test_a_key_a_signature_another(state: Path, tmp_path: Path, capsys) -> None:
    (state / "callgate.lock").write_bytes(orjson.dumps({"servers": {}}))
    assert trust_sign.main_sign([]) == 1
    assert "make one: callgate trust keygen" in capsys.readouterr().err
    assert trust_sign.main_keygen([]) == 0
    out = lines(capsys)
    assert "key      ed25519:" in out and str(state / "keys/lock-ed25519.pub.pem") in out
    assert trust_sign.main_keygen([]) == 1, "never replaced"
    assert "already there" in capsys.readouterr().err
    assert trust_sign.main_sign([]) == 0
    assert "signed " in lines(capsys)
    assert trust_sign.main_keygen([str(tmp_path / "b.pem")]) == 0
    assert trust_sign.main_sign(["--key", str(tmp_path / "b.pem")]) == 0
    keys = [state / "keys/lock-ed25519.pub.pem", tmp_path / "b.pub.pem"]
    assert len(verify_lock(state / "callgate.lock", keys, 2, state).signers) == 2
    capsys.readouterr()
    assert trust_sign.main_sign(["--forget"]) == 0
    assert "is forgotten" in lines(capsys)
    assert trust_sign.main_sign(["--forget"]) == 0
    assert "nothing was known" in lines(capsys)


def test_the_lock_of_a_project(state: Path, tmp_path: Path, capsys) -> None:
    project = tmp_path / "project"
    project.mkdir()
    trust_sign.main_keygen([])
    assert trust_sign.main_sign(["--project", str(project)]) == 1
    assert "there is no lock" in capsys.readouterr().err
    (project / "callgate.lock").write_bytes(orjson.dumps({"servers": {}}))
    assert trust_sign.main_sign(["--project", str(project)]) == 0
    assert os.path.exists(project / "callgate.lock.sig")
    with pytest.raises(ConfigError, match="no directory"):
        trust_sign.main_sign(["--project", str(tmp_path / "none")])


def test_keys_that_are_kept_elsewhere_need_a_place_for_their_public_half(state: Path, tmp_path: Path, capsys) -> None:
    for words in (["keyring:release"], ["transit:transit/team"], ["transit:x/y", "--passphrase", "--public", "p"]):
        with pytest.raises(ConfigError, match="needs --public"):
            trust_sign.main_keygen(words)
    with pytest.raises(ConfigError, match="not in a file"):
        trust_sign.main_keygen([str(tmp_path / "k.pem"), "--public", "p"])
    with pytest.raises(ConfigError, match="on a terminal"):
        trust_sign.main_keygen([str(tmp_path / "k.pem"), "--passphrase"])
    (tmp_path / "there.pem").write_text("x")
    assert trust_sign.main_keygen(["keyring:release", "--public", str(tmp_path / "there.pem")]) == 1
    assert "already there" in capsys.readouterr().err


def test_catalogues(state: Path, tmp_path: Path, capsys) -> None:
    publisher = Publisher(tmp_path / "published")
    publisher.publish()
    assert trust_sign.main_catalogue(["list"]) == 0
    assert "no catalogue" in lines(capsys)
    add = ["add", "team", publisher.url, "--root", str(publisher.root_file)]
    assert trust_sign.main_catalogue(add) == 0
    assert "1 servers approved, 4 packages denied" in lines(capsys)
    assert trust_sign.main_catalogue(add) == 1
    assert "already" in capsys.readouterr().err
    assert trust_sign.main_catalogue(["check", "team", "pkg:npm/left-pad@1.0.0"]) == 0
    assert trust_sign.main_catalogue(["check", "team", "pkg:npm/postmark-mcp@1.0.16", "pkg:npm/x@1.0.0"]) == 1
    out = lines(capsys)
    assert "denied: sends copies of mail" in out and "pkg:npm/x@1.0.0  not denied" in out
    publisher.publish(days=-1)
    assert trust_sign.main_catalogue(["update"]) == 1
    assert "has expired" in capsys.readouterr().err
    publisher.publish(version=9)
    assert trust_sign.main_catalogue(["update", "team"]) == 0
    assert "version 9" in lines(capsys)
    (state / "catalogue/team/verified.json").write_bytes(b"{}")
    assert trust_sign.main_catalogue(["list"]) == 1
    assert "is damaged" in lines(capsys)
    assert trust_sign.main_catalogue(["remove", "team"]) == 0
    assert trust_sign.main_catalogue(["update", "team"]) == 1
    with pytest.raises(SystemExit) as usage:
        trust_sign.main_catalogue([])
    assert usage.value.code == 2


def test_osv(state: Path, tmp_path: Path, capsys) -> None:
    assert trust_sign.main_osv(["check", "pkg:npm/x@1.0.0"]) == 1
    assert "no OSV index" in capsys.readouterr().err
    (tmp_path / "all.zip").write_bytes(export(*RECORDS, b"{"))
    assert trust_sign.main_osv(["load", str(tmp_path / "all.zip")]) == 0
    out = lines(capsys)
    assert "8 records about 8 packages" in out and "1 could not be read" in out
    assert trust_sign.main_osv(["check", "pkg:npm/express@4.0.0"]) == 0
    assert "nothing known" in lines(capsys)
    assert trust_sign.main_osv(["check", "pkg:npm/postmark-mcp@1.0.16"]) == 1
    assert "MAL-2025-1: malicious package" in lines(capsys)


def test_inspecting_bundles(state: Path, tmp_path: Path, capsys) -> None:
    good = tmp_path / "good.mcpb"
    good.write_bytes(packed(CLOCK))
    assert trust_sign.main_inspect([str(good)]) == 0
    out = lines(capsys)
    assert "bundle clock 1.0.0" in out and "not signed" in out and out.endswith("nothing found\n")
    assert trust_sign.main_inspect([str(FIXTURES / "clock-signed.mcpb")]) == 0
    assert "a key nobody named" in lines(capsys)
    bad = tmp_path / "bad.mcpb"
    bad.write_bytes(packed(changed(server__mcp_config__command="bash", name="clock\x1b[2J")))
    assert trust_sign.main_inspect([str(bad)]) == 1
    out = capsys.readouterr().out
    assert (
        "refuse  mcpb-command  server.mcp_config\n        it starts 'bash'" in out
        and "clock\\x1b[2J" in out
        and "\x1b" not in out
    )
    signed = bytearray((FIXTURES / "clock-signed.mcpb").read_bytes())
    at = signed.index(b"process.stdin") if b"process.stdin" in signed else 40
    bad.write_bytes(bytes(signed[:at]) + b"X" + bytes(signed[at + 1 :]))
    assert trust_sign.main_inspect([str(bad)]) == 1
    bad.write_bytes(packed(CLOCK, {"../x": b""}))
    assert trust_sign.main_inspect([str(bad)]) == 1
    assert "climbs out" in capsys.readouterr().err


def test_inspecting_skills(state: Path, tmp_path: Path, capsys) -> None:
    place = skill(tmp_path, files={"run.py": "print()"})
    assert trust_sign.main_inspect([str(place)]) == 0
    assert "1 note (--notes)" in lines(capsys)
    assert trust_sign.main_inspect([str(place), "--notes"]) == 0
    assert "skill-script" in lines(capsys)
    (place / "SKILL.md").write_text(GOOD + "\u200b\u200b", encoding="utf-8")
    assert trust_sign.main_inspect([str(place)]) == 1
    assert "skill-hidden-characters" in lines(capsys)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("weather/SKILL.md", GOOD)
    assert trust_sign.main_inspect([str(tmp_path / "s.zip")]) == 0
    assert trust_sign.main_inspect([str(tmp_path / "none")]) == 1


def test_inspecting_entries(state: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "server.json"
    path.write_text(json.dumps(ENTRY))
    assert trust_sign.main_inspect([str(path)]) == 0
    path.write_text(json.dumps({**ENTRY, "version": "latest"}))
    assert trust_sign.main_inspect([str(path)]) == 1
    assert "entry-version" in capsys.readouterr().out


def test_help_is_narrow(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for action in (trust_sign.main_sign, trust_sign.main_keygen, trust_sign.main_catalogue, trust_sign.main_osv):
        with pytest.raises(SystemExit):
            action(["--help"])
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())
