"""`callgate install`, `uninstall`, `status`, as a person meets them; the home directory is always a made one."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.cli import install
from callgate.cli import main as cli
from callgate.cli.main import main

CURSOR = """{
\t// c
\t"mcpServers": {
\t\t"files": { "command": "npx", "args": ["-y", "pkg"], "env": { "KEY": "hunter2" } },
\t\t"bad\\u202ename": { "command": "uvx" },
\t\t"signed": { "url": "https://x.example/mcp", "headers": { "A": "Bearer hunter2" } }
\t}
}
"""
PLAIN = ("--no-lock", "--no-hooks", "--keep-secrets")
"""Wrap, and nothing else."""
CODEX = '[mcp_servers.git]\r\ncommand = "uvx" # é\r\nargs = ["git"]\r\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME", "CLINE_DIR", "OPENCODE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    made = tmp_path / "home"
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for path, text in ((".cursor/mcp.json", CURSOR), (".codex/config.toml", CODEX)):
        (made / path).parent.mkdir(parents=True)
        (made / path).write_bytes(text.encode())
    return made


def files(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_there_and_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(home)
    assert main(["install", *PLAIN, "--yes"]) == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert "\u202e" not in out
    assert "\x1b" not in out
    assert "  wrap     bad\\u202ename" in out
    assert "signs in" in out
    wrapped = files(home)
    assert set(wrapped) == set(before)
    assert wrapped != before
    assert b'"KEY": "hunter2"' in wrapped[".cursor/mcp.json"]

    assert main(["install", *PLAIN, "--yes"]) == 0
    assert "nothing to wrap" in capsys.readouterr().out
    assert files(home) == wrapped

    assert main(["status"]) == 1  # `signed` is not behind the gate
    out = capsys.readouterr().out
    assert "not wrapped" in out
    assert "ChatGPT" in out
    assert all(len(line) <= 80 for line in out.splitlines())

    assert main(["uninstall", "--yes"]) == 0
    assert "hunter2" not in capsys.readouterr().out
    assert files(home) == before
    assert main(["uninstall", "--yes"]) == 0
    assert "nothing to put back" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "code"), [(["--dry-run"], 0), ([], 1), (["--yes", "--dry-run"], 0)])
def test_nothing_is_written_unless_someone_agrees(
    home: Path, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(home)
    assert main(["install", *PLAIN, *options]) == code
    out = capsys.readouterr().out
    assert "+++" in out
    assert "nothing was written" in out
    assert files(home) == before
    assert not (Path(os.environ["CALLGATE_STATE_DIR"]) / "clients.json").exists()


@pytest.mark.parametrize(("answer", "done"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_terminal_is_asked(home: Path, answer: str, done: bool) -> None:
    leader, follower = pty.openpty()
    os.write(leader, answer.encode())
    result = subprocess.run(
        [sys.executable, "-m", "callgate.cli.main", "install", *PLAIN],
        stdin=follower,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(leader)
    os.close(follower)
    assert "Wrap 3 servers in 2 files? [y/N]" in result.stdout
    assert result.returncode == (0 if done else 1)
    assert (b"callgate" in files(home)[".codex/config.toml"]) == done


def test_chosen_clients_and_servers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(home)
    assert main(["install", *PLAIN, "--yes", "--client", "codex"]) == 0
    assert files(home)[".cursor/mcp.json"] == before[".cursor/mcp.json"]
    assert main(["install", *PLAIN, "--yes", "--server", "files"]) == 0
    assert b'"uvx"' in files(home)[".cursor/mcp.json"]
    assert main(["uninstall", "--yes", "--client", "codex"]) == 0
    assert files(home)[".codex/config.toml"] == before[".codex/config.toml"]
    assert files(home) != before
    assert main(["uninstall", "--yes", "--server", "files"]) == 0
    assert files(home) == before
    assert main(["install", *PLAIN, "--yes", "--server", "nobody"]) == 1
    assert "no server 'nobody'" in capsys.readouterr().out
    for command in ("install", "uninstall", "status"):
        assert main([command, *(PLAIN if command == "install" else ()), "--client", "nobody"]) == 2
    assert "claude-code" in capsys.readouterr().err


def test_one_broken_file_stops_nobody_else(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".cursor/mcp.json").write_text("{ broken")
    assert main(["install", *PLAIN, "--yes"]) == 1
    assert "line 1, column 3" in capsys.readouterr().out
    assert b"callgate" in files(home)[".codex/config.toml"]
    assert main(["status"]) == 1
    assert "not readable: line 1" in capsys.readouterr().out


def test_links_are_followed_and_stay(home: Path) -> None:
    real = home / "dotfiles/cursor.json"
    real.parent.mkdir()
    (home / ".cursor/mcp.json").rename(real)
    (home / ".cursor/mcp.json").symlink_to(real)
    real.chmod(0o600)
    assert main(["install", *PLAIN, "--yes"]) == 0
    assert (home / ".cursor/mcp.json").is_symlink()
    assert b"callgate" in real.read_bytes()
    assert real.stat().st_mode & 0o777 == 0o600
    assert main(["uninstall", "--yes"]) == 0
    assert real.read_bytes() == CURSOR.encode()


def test_projects_and_git(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project"
    project.mkdir()
    marker = tmp_path / "ran"
    (project / ".mcp.json").write_text('{"mcpServers": {"p": {"command": "x"}}}')
    (project / "opencode.json").write_text('{"mcp": {"q": {"type": "local", "command": ["x"]}}}')
    for arguments in (["init", "-q"], ["add", ".mcp.json"], ["config", "core.fsmonitor", f"touch {marker}"]):
        subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True)
    assert (
        main(["install", *PLAIN, "--yes", "--project", str(project), "--client", "claude-code", "--client", "opencode"])
        == 0
    )
    out = capsys.readouterr().out
    assert out.count("git tracks this file") == 1
    assert not marker.exists()
    assert main(["status", "--json"]) == 1
    found = {one["path"]: one for one in json.loads(capsys.readouterr().out)["files"]}
    assert found[str(project / ".mcp.json")]["scope"] == "elsewhere"
    assert found[str(project / ".mcp.json")]["servers"][0]["state"] == "wrapped"
    assert main(["uninstall", "--yes"]) == 0
    assert (project / ".mcp.json").read_text() == '{"mcpServers": {"p": {"command": "x"}}}'
    assert main(["install", *PLAIN, "--project", str(project / "none")]) == 2


def test_every_state(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    servers = {name: {"command": "x", "args": [name]} for name in ("kept", "edited", "unwrapped", "broken", "gone")}
    path = home / ".cursor/mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    (home / ".codex/config.toml").unlink()
    assert main(["install", *PLAIN, "--yes"]) == 0
    now = json.loads(path.read_text())["mcpServers"]
    now["edited"]["args"].append("--token=hunter2")
    now["unwrapped"] = {"command": "past the gate"}
    now["broken"] = {"command": "/nowhere/callgate", "args": ["run", "--", "x"]}
    del now["gone"]
    now["new"] = {"command": "y"}
    now["odd"] = {"note": "nothing to start"}
    path.write_text(json.dumps({"mcpServers": now}))
    capsys.readouterr()
    assert main(["status", "--json"]) == 1
    out = capsys.readouterr().out
    assert "hunter2" not in out
    document = json.loads(out)
    states = {server["server"]: server["state"] for one in document["files"] for server in one["servers"]}
    assert states == {
        "kept": "wrapped",
        "edited": "drifted",
        "unwrapped": "drifted",
        "broken": "drifted",
        "gone": "gone",
        "new": "not wrapped",
        "odd": "not a server",
    }
    assert {one["client"] for one in document["outside"]} >= {"Claude Desktop", "claude.ai", "ChatGPT"}

    now["broken"]["args"][2] = "z"
    (Path(os.environ["CALLGATE_STATE_DIR"]) / "clients.json").unlink()
    assert main(["status", "--json"]) == 1
    states = {s["server"]: s["state"] for one in json.loads(capsys.readouterr().out)["files"] for s in one["servers"]}
    assert states["broken"] == "wrapper missing"


def test_everything_behind_the_gate(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".cursor/mcp.json").unlink()
    assert main(["install", *PLAIN, "--yes"]) == 0
    assert main(["status"]) == 0
    assert main(["status", "--client", "codex"]) == 0
    capsys.readouterr()
    assert main(["status", "--client", "zed"]) == 0
    assert "no server in any client's file" in capsys.readouterr().out


def test_an_edited_entry_is_refused_and_others_go_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["install", *PLAIN, "--yes"])
    path = home / ".cursor/mcp.json"
    path.write_bytes(path.read_bytes().replace(b"hunter2", b"hunter3", 1))
    capsys.readouterr()
    assert main(["uninstall", "--yes"]) == 1
    out = capsys.readouterr().out
    assert "hunter" not in out
    assert "(changed)" in out
    assert "--keep-edits" in out
    assert files(home)[".codex/config.toml"] == CODEX.encode()
    assert main(["uninstall", "--yes", "--keep-edits"]) == 0
    assert path.read_bytes() == CURSOR.encode().replace(b"hunter2", b"hunter3", 1)


def test_a_wrapped_server_works(home: Path) -> None:
    entry = {"command": sys.executable, "args": ["-m", "callgate.sample_server"], "env": {"X": "1"}}
    path = home / ".cursor/mcp.json"
    path.write_text(json.dumps({"mcpServers": {"sample": entry}}))
    assert main(["install", *PLAIN, "--yes", "--client", "cursor"]) == 0
    wrapped = json.loads(path.read_text())["mcpServers"]["sample"]
    assert wrapped["env"] == {"X": "1"}
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    result = subprocess.run(
        [wrapped["command"], *wrapped["args"]],
        input=json.dumps(hello) + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    answer = json.loads(result.stdout.splitlines()[0])
    assert answer["result"]["protocolVersion"] == "2025-06-18", result.stderr


def test_a_damaged_record_stops_before_anything_is_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["install", *PLAIN, "--yes"])
    wrapped = files(home)
    record = Path(os.environ["CALLGATE_STATE_DIR"]) / "clients.json"
    record.write_text(record.read_text().replace("uvx", "xxx", 1))
    for command in (["uninstall", "--yes"], ["install", *PLAIN, "--yes"], ["status"]):
        assert main(command) == 3
        assert "damaged" in capsys.readouterr().err
    assert files(home) == wrapped


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("callgate.clients.machine.sys.platform", "win32")
    assert main(["install", *PLAIN, "--yes"]) == 2
    assert "Windows" in capsys.readouterr().err


def test_other_commands_do_not_load_this() -> None:
    code = "import sys, callgate.cli.main, callgate.cli.run\n"
    code += "print([m for m in sys.modules if 'clients' in m or m == 'yaml'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_yaml_is_loaded_for_yaml_only(home: Path) -> None:
    code = "import sys; from callgate.cli.main import main; main(['status']); print('yaml' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"


def test_state_is_where_the_configuration_says(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLGATE_STATE_DIR")
    settings = tmp_path / "callgate.toml"
    settings.write_text(f'state_dir = "{tmp_path / "chosen"}"\n')
    monkeypatch.setenv("CALLGATE_CONFIG", str(settings))
    before = files(home)
    assert main(["install", *PLAIN, "--yes"]) == 0
    assert (tmp_path / "chosen/clients.json").exists()
    assert main(["uninstall", "--yes"]) == 0
    assert files(home) == before


def test_help_names_the_commands() -> None:
    assert {"install", "uninstall", "status"} <= set(cli.COMMANDS)
    assert all(len(line) <= 80 for line in install.DESCRIPTION.splitlines())


def test_a_servers_modules_are_not_loaded_into_the_gate(home: Path, tmp_path: Path) -> None:
    hostile, witness = tmp_path / "server", tmp_path / "ran"
    hostile.mkdir()
    for name in ("sitecustomize", "jiter", "callgate"):
        (hostile / f"{name}.py").write_text(f"open({str(witness)!r}, 'w')\n")
    entry = {"command": "server", "env": {"PYTHONPATH": str(hostile)}}
    before = json.dumps({"mcpServers": {"files": entry}})
    (home / ".cursor/mcp.json").write_text(before)
    assert main(["install", *PLAIN, "--yes", "--client", "cursor"]) == 0
    wrapped = json.loads((home / ".cursor/mcp.json").read_text())["mcpServers"]["files"]
    at = wrapped["args"].index("run")
    command = [wrapped["command"], *wrapped["args"][:at], "--version"]
    done = subprocess.run(
        command, env={**os.environ, **wrapped["env"]}, cwd=hostile, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("callgate ")
    assert not witness.exists()
    assert main(["uninstall", "--yes", "--client", "cursor"]) == 0
    assert (home / ".cursor/mcp.json").read_text() == before
