"""`callgate install` as a whole: wrapped, keys moved, locked, hooks; and every byte back."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from callgate.cli.main import main

TOKEN = "q7Xf2Lr9Kd4Wb8Zt3Vn6Yp1Hs5Jm0Gc"
ECHO = """\
import json, os, sys
for line in sys.stdin:
    ask = json.loads(line)
    if "id" in ask:
        caps = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "e", "version": "1"}}
        caps["instructions"] = "token " + str(len(os.environ.get("API_TOKEN", ""))) + " " + os.environ.get("LEVEL", "")
        print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": caps}), flush=True)
"""
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


@pytest.fixture(name="home", autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME", "CLINE_DIR", "OPENCODE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    script = home / "server" / "server.py"
    script.parent.mkdir(parents=True)
    script.write_text(ECHO)
    claude = {"mcpServers": {"echo": {"type": "stdio", "command": sys.executable, "args": [str(script)], "env": env()}}}
    files = {
        ".claude.json": json.dumps(claude, indent=2),
        ".claude/settings.json": '{\n  // mine\n  "model": "x"\n}\n',
        ".cursor/mcp.json": f'{{"mcpServers": {{"echo": {{"env": {json.dumps(env())}, '
        f'"command": "{sys.executable}", "args": ["{script}"], }}}}}}\r\n',
        ".codex/config.toml": f"[mcp_servers.echo]\ncommand = '{sys.executable}' # c\nargs = ['{script}']\n"
        f"env.API_TOKEN = '''{TOKEN}'''\n",
        ".config/goose/config.yaml": f"extensions:\n  echo:\n    cmd: {sys.executable}\n    args: [{script}]\n"
        f"    envs:\n      API_TOKEN: {TOKEN}   # y\n",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(text.encode())
    return home


def env() -> dict[str, str]:
    return {"API_TOKEN": TOKEN, "LEVEL": "debug"}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def started(entry: dict[str, Any], *, key: str = "env") -> dict[str, Any]:
    """The answer of a wrapped server, started as a client starts it."""
    result = subprocess.run(
        [entry["command"], *entry["args"]],
        input=json.dumps(HELLO) + "\n",
        env={**os.environ, **entry.get(key, {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout, result.stderr
    answer = json.loads(result.stdout.splitlines()[0])
    assert "result" in answer, answer
    return dict(answer["result"])


def test_one_diff_and_every_byte_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(home)
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    assert main(["install", "--dry-run", "--secrets-to", "age"]) == 0
    assert everything(home) == before
    assert not (state / "clients.json").exists() and not (state / "secrets").exists()
    assert TOKEN not in capsys.readouterr().out

    assert main(["install", "--yes", "--secrets-to", "age"]) == 0
    out = capsys.readouterr().out
    assert TOKEN not in out
    assert "moves API_TOKEN to age://" in out
    assert "trust" in out  # Codex
    wrapped = everything(home)
    assert {".cursor/hooks.json", ".codex/hooks.json"} == set(wrapped) - set(before)
    for name, data in {**wrapped, **everything(state)}.items():
        assert TOKEN.encode() not in data, name
    servers = json.loads((state / "callgate.lock").read_text())["servers"]
    assert set(servers) == {"echo"}

    assert main(["install", "--yes", "--secrets-to", "age"]) == 0
    assert "nothing to wrap" in capsys.readouterr().out
    assert everything(home) == wrapped
    assert main(["status"]) == 0
    assert "installed        claude-code" in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    hooks = {one["client"]: one["state"] for one in json.loads(capsys.readouterr().out)["hooks"]}
    assert hooks == {"claude-code": "installed", "cursor": "installed", "codex": "not run"}  # nobody trusted it yet

    assert main(["uninstall", "--yes"]) == 0
    out = capsys.readouterr().out
    assert TOKEN not in out
    assert everything(home) == before


def test_keys_and_hooks_can_be_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(home)
    assert main(["install", "--yes", "--keep-secrets", "--no-hooks", "--no-lock"]) == 0
    wrapped = everything(home)
    assert set(wrapped) == set(before)
    assert TOKEN.encode() in wrapped[".cursor/mcp.json"]
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    assert not (state / "callgate.lock").exists() and not (state / "hooks").exists()
    # later, the keys alone
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock"]) == 0
    assert TOKEN.encode() not in b"".join(everything(home).values())
    assert main(["uninstall", "--yes"]) == 0
    assert everything(home) == before
    assert TOKEN not in capsys.readouterr().out


def test_a_lost_store_loses_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(home)
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock"]) == 0
    wrapped = everything(home)
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    shutil.move(state / "secrets", state / "elsewhere")
    capsys.readouterr()
    assert main(["uninstall", "--yes"]) == 1
    assert "cannot be put back" in capsys.readouterr().out
    assert everything(home) == wrapped
    shutil.move(state / "elsewhere", state / "secrets")
    assert main(["uninstall", "--yes"]) == 0
    assert everything(home) == before


def test_a_server_that_cannot_be_locked_stays_wrapped(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".cursor/mcp.json").write_text('{"mcpServers": {"odd": {"command": "sh", "args": ["-c", "a | b"]}}}')
    assert main(["install", "--yes", "--client", "cursor", "--no-hooks"]) == 0
    out = capsys.readouterr().out
    assert "not locked" in out
    assert "callgate trust lock odd -- sh -c 'a | b'" in out
    assert main(["status", "--client", "cursor"]) == 0


def test_servers_work_as_before(home: Path) -> None:
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks"]) == 0
    entry = json.loads((home / ".claude.json").read_text())["mcpServers"]["echo"]
    assert entry["env"]["API_TOKEN"].startswith("age://")
    said = started(entry)["instructions"]
    assert said.endswith(" debug")
    assert int(said.split()[1]) > 0


def test_hooks_of_a_chosen_client(home: Path) -> None:
    assert main(["install", "--yes", "--no-lock", "--keep-secrets", "--client", "cursor"]) == 0
    assert (home / ".cursor/hooks.json").exists()
    assert not (home / ".codex/hooks.json").exists()
    assert main(["uninstall", "--yes", "--client", "codex"]) == 0
    assert (home / ".cursor/hooks.json").exists()
    assert main(["uninstall", "--yes", "--client", "cursor"]) == 0
    assert not (home / ".cursor/hooks.json").exists()


def test_an_installed_hook_answers(home: Path) -> None:
    assert main(["install", "--yes", "--no-lock", "--keep-secrets", "--unknown-servers", "ask"]) == 0
    hooks = json.loads((home / ".claude/settings.json").read_text().replace("// mine", ""))["hooks"]["PreToolUse"]
    (handler,) = hooks[0]["hooks"]
    assert (hooks[0]["matcher"], handler["onFailure"]) == ("*", "block")
    common = {"hook_event_name": "PreToolUse", "cwd": str(home), "tool_input": {}}
    answers = []
    for tool in ("mcp__echo__x", "mcp__unknown__x"):
        question = json.dumps({**common, "tool_name": tool})
        result = subprocess.run(
            ["/bin/sh", "-c", handler["command"]],
            input=question,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        answers.append(result.stdout)
    assert answers[0] == ""
    assert json.loads(answers[1])["hookSpecificOutput"]["permissionDecision"] == "ask"


def test_a_file_of_hooks_that_does_not_parse(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".claude/settings.json").write_text("{ broken")
    assert main(["install", "--yes", "--no-lock", "--keep-secrets"]) == 1
    assert "line 1, column 3" in capsys.readouterr().out
    assert (home / ".claude/settings.json").read_text() == "{ broken"
    assert main(["status", "--client", "cursor"]) == 0


def test_settings_that_only_a_variable_names_stand_in_the_entries(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codex hands its servers a handful of variables; a gate without them would look for locks and keys elsewhere."""
    before = everything(home)
    settings, state = os.environ["CALLGATE_CONFIG"], os.environ["CALLGATE_STATE_DIR"]
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks"]) == 0
    entry = tomllib.loads((home / ".codex/config.toml").read_text())["mcp_servers"]["echo"]
    words = entry["args"]
    assert words[:7] == ["run", "--name", "echo", "--config", settings, "--state", state]
    plain = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **entry["env"]}
    result = subprocess.run(
        [entry["command"], *words],
        input=json.dumps(HELLO) + "\n",
        env=plain,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(result.stdout)["result"]["instructions"].startswith("token "), result.stderr
    assert not (home / ".local").exists()
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks"]) == 0
    assert main(["uninstall", "--yes"]) == 0
    assert everything(home) == before

    # Where no variable says anything, nothing is written: the places are the same for every client.
    monkeypatch.delenv("CALLGATE_CONFIG")
    monkeypatch.delenv("CALLGATE_STATE_DIR")
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert main(["install", "--yes", "--keep-secrets", "--no-hooks", "--no-lock"]) == 0
    entry = tomllib.loads((home / ".codex/config.toml").read_text())["mcp_servers"]["echo"]
    assert entry["args"][:5] == ["run", "--name", "echo", "--env", "API_TOKEN"]


@pytest.mark.parametrize("fate", ["gone", "killed", "broken"])
def test_a_hook_that_cannot_answer_refuses(fate: str, home: Path, tmp_path: Path) -> None:
    """Codex, and older versions of Claude Code, take any end but exit code 2 with a reason for a yes."""
    assert main(["install", "--yes", "--no-lock", "--keep-secrets"]) == 0
    program = tmp_path / "callgate"
    if fate != "gone":
        program.write_text("#!/bin/sh\nkill -9 $$\n" if fate == "killed" else "#!/nonexistent/python\n")
        program.chmod(0o755)
    for name in (".claude/settings.json", ".codex/hooks.json"):
        (handler,) = json.loads((home / name).read_text().replace("// mine", ""))["hooks"]["PreToolUse"][0]["hooks"]
        command = handler["command"]
        done = subprocess.run(
            ["/bin/sh", "-c", f"{program}{command[command.index(' hook ') :]}"],
            input="{}",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, ""), done
        assert "the call is refused" in done.stderr
