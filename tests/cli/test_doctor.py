"""`callgate doctor`: what is wrong is found, what is not is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from callgate.cli.main import main
from callgate.clients.formats import parse
from callgate.clients.records import Records
from callgate.clients.tree import canonical

TOKEN = "q7Xf2Lr9Kd4Wb8Zt3Vn6Yp1Hs5Jm0Gc"
SERVER = {"command": sys.executable, "args": ["-m", "callgate.sample_server"]}


@pytest.fixture(name="home", autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME", "CLINE_DIR", "OPENCODE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    (home / ".cursor").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return home


def write(home: Path, servers: dict[str, Any], path: str = ".cursor/mcp.json", mode: int = 0o600) -> Path:
    file = home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"mcpServers": servers}))
    file.chmod(mode)
    return file


def install(*more: str) -> None:
    assert main(["install", "--yes", "--no-lock", "--keep-secrets", *more]) == 0


def checks(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[dict[str, str]]]:
    capsys.readouterr()
    code = main(["doctor", "--json", *more])
    out = capsys.readouterr().out
    assert TOKEN not in out
    return code, json.loads(out)["checks"]


def told(found: list[dict[str, str]], *words: str, level: str = "fail") -> list[dict[str, str]]:
    """The checks of a level that say all these words."""
    return [one for one in found if one["level"] == level and all(word in " ".join(one.values()) for word in words)]


def usable(found: list[dict[str, str]]) -> list[dict[str, str]]:
    """All but what this machine's sandbox says."""
    return [one for one in found if one["area"] != "sandbox"]


def test_a_good_installation(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, {"files": SERVER})
    install()
    _, found = checks(capsys)
    assert told(usable(found)) == []
    assert told(found, "files", "wrapped", level="ok")
    assert told(found, "cursor hooks", "installed", level="ok")
    assert told(found, "is yours alone", level="ok")
    assert all(one["means"] and one["next"] for one in usable(found) if one["level"] != "ok")


def test_what_is_said_of_entries(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(home, dict.fromkeys(("kept", "edited", "moved"), SERVER))
    install("--no-hooks")
    document = json.loads(file.read_text())
    servers = document["mcpServers"]
    servers["edited"]["args"].append("--more")
    servers["moved"]["command"] = "/nowhere/callgate"
    servers["open"] = SERVER
    servers["twice"] = {**servers["kept"], "args": ["run", "--", *[servers["kept"]["command"], "run", "--", "sh"]]}
    servers["none"] = {"command": "no-such-program-here"}
    other = home / "other/callgate"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    servers["another"] = {"command": str(other), "args": ["run", "--", "sh"]}
    file.write_text(json.dumps(document))
    code, found = checks(capsys)
    assert code == 1
    assert told(found, "edited in", "drifted")
    assert told(found, "moved in", "drifted")
    assert told(found, "open in", "not wrapped", level="warn")
    assert told(found, "twice in", "two gates", level="warn")
    assert told(found, "none in", "no program")
    assert told(found, "another in", "another callgate", level="warn")
    assert not told(found, "kept in") and not told(found, "kept in", level="warn")


def test_variables_that_act_on_the_gate(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = str(Path(sys.executable).with_name("callgate"))
    wrapped = {"command": gate, "args": ["run", "--name", "x", "--env", "E", "--", sys.executable]}
    named = {**wrapped, "args": ["run", "--config", "/c", "--state", "/s", "--", sys.executable]}
    write(
        home,
        {
            "loaded": {**wrapped, "env": {"LD_PRELOAD": "/x.so"}},
            "own": {**wrapped, "env": {"CALLGATE_CONFIG": "/x.toml"}},
            "older": {**wrapped, "env": {"PYTHONPATH": "/x"}},
            "moved": {**wrapped, "env": {"HOME": "/x"}},
            "named": {**named, "env": {"HOME": "/x"}},
            "called": {  # --config and --state are names here
                **wrapped,
                "args": ["run", "--name", "--config", "--name", "--state", "--", sys.executable],
                "env": {"HOME": "/x"},
            },
            "plain": {**wrapped, "env": {"PYTHONUNBUFFERED": "1", "LDFLAGS": "x", "PATH": "/x"}},
        },
    )
    found = checks(capsys)[1]
    assert told(found, "loaded in", "LD_PRELOAD") and told(found, "own in", "CALLGATE_CONFIG")
    assert told(found, "older in", "older way") and told(found, "moved in", "settings")
    assert told(found, "called in", "settings")
    assert not told(found, "named in") and not told(found, "plain in")


def test_what_a_project_says_of_the_gate(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = str(Path(sys.executable).with_name("callgate"))
    state = os.environ["CALLGATE_STATE_DIR"]
    said = {
        "bare": ["--sandbox", "none"],
        "watched": ["--mode=observe"],
        "settled": ["--config", "/tmp/theirs.toml"],
        "kept": ["--state", "/tmp/theirs"],
        "plain": ["--state", state, "--config", os.environ["CALLGATE_CONFIG"], "--sandbox", "auto"],
    }
    servers = {name: {"command": gate, "args": ["run", *one, "--", sys.executable]} for name, one in said.items()}
    project = tmp_path / "project"
    (project / ".cursor").mkdir(parents=True)
    write(project, servers)
    found = checks(capsys, "--project", str(project))[1]
    for name in ("bare", "watched", "settled", "kept"):
        assert told(found, f"{name} in", "starts callgate with", said[name][0].partition("=")[0])
    assert not told(found, "plain in", "starts callgate")
    (project / ".cursor/mcp.json").unlink()
    write(home, servers)
    assert not told(checks(capsys)[1], "starts callgate with"), "in a file of the user's own it is the user who says it"


def test_an_older_launcher_is_written_anew(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.dumps({"mcpServers": {"s": {"command": sys.executable, "args": ["x.py"], "env": {"A": "b"}}}})
    path = home / ".cursor/mcp.json"
    path.write_text(before)
    install()
    # As an older callgate wrote it: without -E -P, the record saying the same.
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    records = Records(state)
    (record,) = records.all()
    text = path.read_text().replace('"A"', '"PYTHONPATH"')
    path.write_text(text)
    changed = json.loads(json.dumps(asdict(record)).replace('"A"', '"PYTHONPATH"'))
    wrapped = canonical(parse("json", text))["mcpServers"]["s"]
    after = record.after_text.replace('"A"', '"PYTHONPATH"')
    older = replace(record, original=changed["original"], wrapped=wrapped, after_text=after).sealed()
    records.save(add=[older])
    assert told(checks(capsys)[1], "s in", "older way")
    install()
    assert not told(checks(capsys)[1], "older way")
    assert "-E" in json.loads(path.read_text())["mcpServers"]["s"]["args"]
    assert main(["uninstall", "--yes"]) == 0
    assert path.read_text() == before.replace('"A"', '"PYTHONPATH"')


def test_credentials_on_command_lines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        home,
        {
            "image": {"command": "docker", "args": ["run", "-e", f"API_TOKEN={TOKEN}", "image"]},
            "bridge": {
                "command": "npx",
                "args": ["mcp-remote", "https://x", "--header", f"Authorization:Bearer {TOKEN}"],
            },
            "option": {"command": "server", "args": ["--api-key", TOKEN]},
            "joined": {"command": "server", "args": [f"--api-key={TOKEN}", "--verbose"]},
            "fine": {"command": "server", "args": ["--api-key-file", "/run/key", "--port", "8080"]},
        },
    )
    found = checks(capsys)[1]
    assert told(found, "image in", "API_TOKEN", "write -e API_TOKEN there", level="warn")
    assert told(found, "bridge in", "Authorization:${TOKEN}", level="warn")
    assert told(found, "option in", ": --api-key", "from a variable", level="warn")
    assert told(found, "joined in", ": --api-key", "from a variable", level="warn")
    assert not told(found, "fine in", "command line", level="warn")
    capsys.readouterr()
    main(["install", "--yes", "--no-lock", "--no-hooks", "--secrets-to", "age"])
    out = " ".join(capsys.readouterr().out.split())
    assert "leaves the credential of API_TOKEN on the command line: write -e API_TOKEN there" in out
    assert TOKEN not in out


def test_copies_that_hold_credentials(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, {"files": {**SERVER, "env": {"API_TOKEN": TOKEN}}})
    install("--no-hooks")  # --keep-secrets
    found = checks(capsys)[1]
    assert told(found, "copies that hold credentials", level="warn")
    assert told(found, "clients.json", "holds credentials", level="warn")
    assert main(["install", "--yes", "--no-lock", "--no-hooks", "--secrets-to", "age"]) == 0
    found = checks(capsys)[1]
    assert not told(found, "hold credentials", level="warn") and not told(found, "holds credentials", level="warn")
    assert told(found, "no credential", level="ok")


def test_codex_hands_on_a_few_variables(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = Path(sys.executable).with_name("callgate")
    line = f'command = "{gate}"\nargs = ["run", "--env", "T", "--", "{sys.executable}"]\n'
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text(
        f'[mcp_servers.a]\n{line}env.T = "vault://kv/a#b"\n'
        f'[mcp_servers.b]\n{line}env.T = "vault://kv/a#b"\nenv_vars = ["VAULT_ADDR"]\n'
        f'[mcp_servers.c]\n{line}env.T = "age://c"\n'
    )
    found = checks(capsys)[1]
    assert told(found, "a in", "VAULT_ADDR", level="warn")
    assert not told(found, "b in", "VAULT_ADDR", level="warn") and not told(found, "c in", "VAULT_ADDR", level="warn")


def test_secrets_that_were_not_granted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = str(Path(sys.executable).with_name("callgate"))
    entry = {"command": gate, "args": ["run", "--env", "T", "--", sys.executable], "env": {"T": "age://a"}}
    write(home, {"hand": entry, "plain": {**entry, "env": {"T": "x"}}, "mine": {**SERVER, "env": {"T": "age://b"}}})
    install("--no-hooks")
    found = checks(capsys)[1]
    assert told(found, "hand in", "names secrets that were not granted to it: age://a", level="warn")
    assert len(told(found, "not granted", level="warn")) == 1
    assert told(found, "secrets granted to servers: 1", level="ok")
    assert main(["secrets", "grant", "age://a", "--as", "T", "--", sys.executable]) == 0
    assert not told(checks(capsys)[1], "not granted", level="warn")
    (Path(os.environ["CALLGATE_STATE_DIR"]) / "grants.json").write_text("{")
    code, found = checks(capsys)
    assert code == 1 and told(found, "grants.json", "it is damaged", level="fail")
    assert told(found, "hand in", "not granted", level="warn")  # the others go on


def test_a_file_that_does_not_parse(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".cursor/mcp.json").write_text("{ broken")
    code, found = checks(capsys)
    assert code == 1
    assert told(found, "cannot be read", "line 1")


@pytest.mark.parametrize(
    ("mode", "env", "level", "words"),
    [
        (0o640, {"API_TOKEN": TOKEN}, "fail", ("your group can read",)),
        (0o604, {"API_TOKEN": TOKEN}, "fail", ("everybody can read",)),
        (0o600, {"API_TOKEN": TOKEN}, "warn", ("credentials in plain text", "files.API_TOKEN")),
        (0o622, {}, "fail", ("others can write",)),
    ],
)
def test_modes(
    mode: int, env: dict[str, str], level: str, words: tuple[str, ...], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, {"files": {**SERVER, "env": env}}, mode=mode)
    _, found = checks(capsys)
    assert told(found, *words, level=level)


def test_ordinary_modes_without_credentials(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"LOG_LEVEL": "debug", "API_TOKEN": "keyring://callgate/x", "OTHER": "${input:token}"}
    write(home, {"files": {**SERVER, "env": env}}, mode=0o644)
    _, found = checks(capsys)
    assert not told(found, "mode") and not told(found, "plain text", level="warn")


def test_projects_that_others_get(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project"
    write(project, {"p": {**SERVER, "env": {"API_TOKEN": TOKEN}}}, ".mcp.json")
    for arguments in (["init", "-q"], ["add", ".mcp.json"]):
        subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True)
    _, found = checks(capsys, "--project", str(project))
    assert told(found, "git tracks it", "holds credentials")
    write(project, {"p": SERVER}, ".mcp.json")
    assert not told(checks(capsys, "--project", str(project))[1], "git tracks it")
    install("--no-hooks", "--project", str(project))
    assert told(checks(capsys, "--project", str(project))[1], "git tracks it", "this machine", level="warn")


def test_a_program_that_is_not_on_the_desktops_path(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = tmp_path / "bin/mine"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    write(home, {"short": {"command": "mine"}, "own": {"command": "mine", "env": {"PATH": str(tool.parent)}}})
    write(home, {"terminal": {"command": "mine"}}, ".gemini/settings.json")
    _, found = checks(capsys)
    assert [one["subject"].split()[0] for one in told(found, "desktop", level="warn")] == ["short"]


def test_hooks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, {"files": SERVER})
    assert told(checks(capsys)[1], "cursor hooks", "missing", level="warn")
    install()
    path = home / ".cursor/hooks.json"
    path.write_text(path.read_text().replace('"failClosed": true', '"failClosed": false', 1))
    code, found = checks(capsys)
    assert code == 1
    assert told(found, "cursor hooks", "fails open")
    install()
    snapshot = Path(os.environ["CALLGATE_STATE_DIR"]) / "hooks/snapshot.json"
    assert json.loads(snapshot.read_text())["configurations"] == [os.path.realpath(os.environ["CALLGATE_CONFIG"])]
    snapshot.unlink()
    assert told(checks(capsys)[1], "snapshot", "every tool call is refused")


def test_codex_is_said_to_need_trust(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".codex").mkdir()
    install()
    assert told(checks(capsys)[1], "codex hooks", "trust", level="warn")


def test_the_state_directory(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    write(home, {"files": SERVER})
    install()
    main(["audit", "tail"])
    state.chmod(0o755)
    (state / "hooks/snapshot.json").chmod(0o644)
    _, found = checks(capsys)
    assert told(found, "state", "mode 0755")
    assert told(found, "snapshot.json", "mode 0644")


def test_evidence_that_was_changed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from callgate.audit import open_journal
    from callgate.config import AuditConfig

    state = Path(os.environ["CALLGATE_STATE_DIR"])
    journal = open_journal(state, AuditConfig(), process="test")
    journal.note("reload", {"source": "x"})
    journal.close()
    assert told(checks(capsys)[1], "logs that verify: 1", level="ok")
    (segment,) = (state / "audit").glob("*/000001.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"source":"x"', b'"source":"y"'))
    code, found = checks(capsys)
    assert code == 1
    assert told(found, "evidence", "changed or missing")


@pytest.mark.parametrize("text", ["nonsense = 1", "[launch]\nsandbox = 'none'\n"])
def test_the_configuration(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "callgate.toml"
    path.write_text(text)
    monkeypatch.setenv("CALLGATE_CONFIG", str(path))
    code, found = checks(capsys)
    assert code == 1
    assert told(found, "all your rights" if "sandbox" in text else "nonsense")


def test_a_damaged_lock(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(os.environ["CALLGATE_STATE_DIR"]) / "callgate.lock").write_text("{")
    code, found = checks(capsys)
    assert code == 1
    assert [one for one in told(found) if one["area"] == "lock"]


def test_what_is_printed(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, {"bad\u202e\x1b[2Jname": {"command": "no-such-program"}})
    capsys.readouterr()
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "\\u202e" in out and "\u202e" not in out and "\x1b" not in out
    assert "next:" in out
    assert out.splitlines()[-1].endswith("failed")
    assert all(len(line) <= 80 or "/" in line for line in out.splitlines())
    assert main(["doctor", "--client", "nobody"]) == 2


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ('private_networks = ["10.20.0.0/16"]', "ok", "hosts it names in 10.20.0.0/16"),
        ('private_networks = ["127.0.0.0/8"]', "fail", "'127.0.0.0/8' cannot be a private network"),
        ('egress_proxy = "http://proxy.example.com:3128"', "ok", "proxy.example.com:3128"),
        ('egress_proxy = "http://u:S3cr3tValue@proxy.example.com:3128"', "fail", "egress_proxy cannot be used"),
    ],
)
def test_ways_out_that_the_user_opened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: str,
    level: str,
    words: str,
) -> None:
    path = tmp_path / "callgate.toml"
    command = '[servers.gitlab]\ncommand = ["/usr/bin/true"]\n'
    path.write_text(f'{command}[servers.gitlab.sandbox]\nnetwork = ["gitlab.example.internal"]\n{settings}\n')
    monkeypatch.setenv("CALLGATE_CONFIG", str(path))
    _, found = checks(capsys)
    assert told(found, "servers.gitlab", words, level=level)
    assert "S3cr3tValue" not in json.dumps(found)
