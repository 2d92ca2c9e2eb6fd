"""Whether the server of a tool call is behind the gate, from the client's files as they are now."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate.clients import hook_snapshot
from callgate.clients.hook_servers import judge_command, judge_server, judge_tool, judge_url
from callgate.clients.hook_snapshot import HookError, Snapshot
from callgate.clients.launcher import heedless
from callgate.clients.machine import Machine

GATE = "/opt/callgate/bin/callgate"
WRAPPED = {"command": GATE, "args": ["run", "--name", "x", "--", "npx", "x"]}
OPEN = {"command": "npx", "args": ["x"]}


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "state").mkdir(parents=True)
    (home / ".codex").mkdir()
    return home


@pytest.fixture(name="snapshot")
def _snapshot(home: Path) -> Snapshot:
    machine = Machine("linux", str(home), {})
    own = str(home / ".config/callgate/callgate.toml")
    hook_snapshot.write(home / "state", machine, (GATE,), gateways=("http://127.0.0.1:8484/",), configuration=own)
    return hook_snapshot.load(str(home / "state"))


def claude(home: Path, snapshot: Snapshot, tool: str, cwd: str = "/work") -> str:
    found = judge_tool("claude-code", tool, cwd, snapshot)
    return found[0] if found else ""


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        (WRAPPED, ""),
        ({"command": "callgate", "args": ["run", "--", "x"]}, ""),
        ({"command": "env", "args": ["A=b", GATE, "run", "--", "x"]}, ""),
        ({"command": f"{GATE} run -- x"}, ""),
        ({"type": "http", "url": "http://127.0.0.1:8484/files/mcp"}, ""),
        (OPEN, "hook-open-server"),
        ({"type": "http", "url": "http://127.0.0.1:9999/mcp"}, "hook-open-server"),
        ({"url": "http://127.0.0.1:84841.evil.example/"}, "hook-open-server"),
        ({"command": "/tmp/callgate", "args": ["run", "--", "x"]}, "hook-open-server"),
        ({"command": GATE, "args": ["status"]}, "hook-open-server"),
        ({"command": "sh", "args": ["-c", f"x; {GATE} run -- x"]}, "hook-open-server"),
        (WRAPPED | {"env": {"PATH": "/p", "PYTHONUNBUFFERED": "1", "KEY": "x"}}, ""),
        (WRAPPED | {"env": {"PYTHONPATH": "/tmp/evil"}}, "hook-open-server"),
        (WRAPPED | {"env": {"LD_PRELOAD": "/tmp/evil.so"}}, "hook-open-server"),
        (WRAPPED | {"env": {"CALLGATE_CONFIG": "/tmp/evil.toml"}}, "hook-open-server"),
        (WRAPPED | {"env": {"HOME": "/tmp/evil"}}, "hook-open-server"),
        (
            {
                "command": GATE,
                "args": ["run", "--name", "x", "--config", "/c", "--state", "/s", "--", "x"],
                "env": {"HOME": "/h"},
            },
            "",
        ),
        (
            {"command": GATE, "args": ["run", "--", "x", "--config", "/c", "--state", "/s"], "env": {"HOME": "/h"}},
            "hook-open-server",
        ),
        (  # --name is called "--config" there, and no settings are named
            {
                "command": GATE,
                "args": ["run", "--name", "--config", "--name", "--state", "--", "x"],
                "env": {"HOME": "/h"},
            },
            "hook-open-server",
        ),
        ({"command": "callgate", "args": ["run", "--", "x"], "env": {"PATH": "/tmp"}}, "hook-open-server"),
        ({"command": "env", "args": ["PATH=/tmp", "callgate", "run", "--", "x"]}, "hook-open-server"),
        ({"command": "env", "args": ["PYTHONPATH=/tmp", GATE, "run", "--", "x"]}, "hook-open-server"),
        ({"command": "/tmp/python3", "args": ["-m", "callgate.cli.main", "run", "--", "x"]}, "hook-open-server"),
        ({"command": sys.executable, "args": [*heedless()[1:], "run", "--", "x"], "env": {"PYTHONPATH": "/s"}}, ""),
        (
            {
                "command": sys.executable,
                "args": ["-m", "callgate.cli.main", "run", "--", "x"],
                "env": {"PYTHONPATH": "/s"},
            },
            "hook-open-server",
        ),
        ({"command": sys.executable, "args": ["-m", "callgate.cli.main", "run", "--", "x"]}, "hook-open-server"),
        ({"command": "callgate run x/evil"}, "hook-open-server"),
        ({"command": f"{GATE} run -- x; evil"}, "hook-open-server"),
        ({"command": f"{GATE} run -- x > f"}, "hook-open-server"),
        ({"command": 5}, "hook-open-server"),
        ({}, "hook-unknown-server"),
    ],
)
def test_one_server(entry: Any, rule: str, home: Path, snapshot: Snapshot) -> None:
    write(home / ".claude.json", {"mcpServers": {"my server": entry}})
    assert claude(home, snapshot, "mcp__my_server__read") == rule


def test_a_server_nobody_declared(home: Path, snapshot: Snapshot) -> None:
    assert claude(home, snapshot, "mcp__files__read") == "hook-unknown-server"
    write(home / ".claude.json", {"mcpServers": {"files": WRAPPED}})
    assert claude(home, snapshot, "mcp__files__read") == ""
    assert claude(home, snapshot, "mcp__file__read") == "hook-unknown-server"
    assert claude(home, snapshot, "mcp__filesystem__read") == "hook-unknown-server"


def test_it_is_read_anew_each_time(home: Path, snapshot: Snapshot) -> None:
    write(home / ".claude.json", {"mcpServers": {"files": WRAPPED}})
    assert claude(home, snapshot, "mcp__files__read") == ""
    write(home / ".claude.json", {"mcpServers": {"files": OPEN}})
    assert claude(home, snapshot, "mcp__files__read") == "hook-open-server"


def test_a_name_that_could_mean_two_servers(home: Path, snapshot: Snapshot) -> None:
    write(home / ".claude.json", {"mcpServers": {"files": WRAPPED, "files__evil": OPEN}})
    assert claude(home, snapshot, "mcp__files__evil__read") == "hook-open-server"
    assert claude(home, snapshot, "mcp__files__read") == ""
    write(home / ".claude.json", {"mcpServers": {"files": WRAPPED}})
    assert claude(home, snapshot, "mcp__files__issues__list") == ""  # a tool may have __ in its name


def test_a_project_cannot_take_a_name_over(home: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    write(home / ".claude.json", {"mcpServers": {"files": WRAPPED}})
    project = tmp_path / "project"
    (project / "deep").mkdir(parents=True)
    for document, rule in (
        ({"mcpServers": {"files": OPEN}}, "hook-open-server"),
        ({"mcpServers": {"files": WRAPPED}}, ""),
        ('{"mcpServers": {"files": /* c */ {"command": "x"},}}', "hook-open-server"),
    ):
        write(project / ".mcp.json", document)
        assert claude(home, snapshot, "mcp__files__read", str(project / "deep")) == rule
        assert claude(home, snapshot, "mcp__files__read", str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("said", "judged"),
    [
        (["--sandbox", "none"], True),
        (["--sandbox=none"], True),
        (["--sandbox", "auto", "--sandbox", "none"], True),
        (["--name", "--", "--sandbox", "none"], True),  # its name is "--"
        (["--env", "--sandbox", "--sandbox", "none"], True),
        (["--mode", "observe"], True),
        (["--config", "/tmp/evil.toml"], True),
        (["--config", "callgate.toml"], True),
        (["--config", "{home}/.config/callgate/callgate.toml", "--config=/tmp/evil.toml"], True),
        (["--state", "/tmp/state"], True),
        (["--state", "{home}/state/../other"], True),
        (["--sandbox", "none", "--sandbox", "landlock"], False),
        (["--env", "--sandbox", "--env", "none"], False),
        (["--mode", "enforce", "--sandbox", "podman", "--network", "a.example"], False),
        (["--config", "{home}/.config/callgate/callgate.toml", "--state", "{home}/state"], False),
        (["--state", "{home}/state/../state/"], False),
        (["--", "x", "--sandbox", "none"], False),
    ],
)
def test_what_a_project_says_of_the_gate(
    said: list[str], judged: bool, home: Path, snapshot: Snapshot, tmp_path: Path
) -> None:
    words = [word.replace("{home}", str(home)) for word in said]
    entry = {"command": GATE, "args": ["run", *words, "--", "npx", "x"]}
    project = tmp_path / "project"
    write(project / ".mcp.json", {"mcpServers": {"files": entry}})
    assert claude(home, snapshot, "mcp__files__read", str(project)) == ("hook-project-options" if judged else "")
    found = judge_server("claude-code", "files", str(project), snapshot)
    assert (found is not None) == judged
    line = " ".join([GATE, *entry["args"]])
    assert (judge_command(line, snapshot) is not None) == judged
    # In a file of the user's own it is the user who says it.
    write(home / ".claude.json", {"mcpServers": {"files": entry}})
    assert claude(home, snapshot, "mcp__files__read", str(tmp_path)) == ""
    assert (claude(home, snapshot, "mcp__files__read", str(project)) != "") == judged
    write(home / ".cursor/mcp.json", {"mcpServers": {"files": entry}})
    assert judge_command(line, snapshot) is None


def test_a_project_may_not_say_it_by_way_of_a_url_either(home: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    entry = {"command": GATE, "args": ["run", "--mode", "observe", "--url", "https://x.example/mcp"]}
    write(tmp_path / ".mcp.json", {"mcpServers": {"far": entry}})
    assert claude(home, snapshot, "mcp__far__read", str(tmp_path)) == "hook-project-options"


def test_local_scope_counts_in_its_project_alone(home: Path, snapshot: Snapshot) -> None:
    projects = {"/work/a": {"mcpServers": {"files": OPEN}}, "/work/b": {"mcpServers": {"files": WRAPPED}}}
    write(home / ".claude.json", {"projects": projects})
    assert claude(home, snapshot, "mcp__files__read", "/work/a/sub") == "hook-open-server"
    assert claude(home, snapshot, "mcp__files__read", "/work/b") == ""
    assert claude(home, snapshot, "mcp__files__read", "/work/bb") == "hook-unknown-server"


def test_servers_of_plugins(home: Path, snapshot: Snapshot) -> None:
    write(home / ".claude/plugins/cache/shop/plugin/.mcp.json", {"mcpServers": {"p": OPEN}})
    assert claude(home, snapshot, "mcp__p__x") == "hook-open-server"


def test_codex_reads_toml(home: Path, snapshot: Snapshot) -> None:
    path = home / ".codex/config.toml"
    write(path, f'[mcp_servers.a]\ncommand = "{GATE}"\nargs = ["run", "--", "x"]\n[mcp_servers.b]\ncommand = "x"\n')
    assert judge_tool("codex", "mcp__a__t", "/", snapshot) is None
    assert judge_tool("codex", "mcp__b__t", "/", snapshot) is not None


@pytest.mark.parametrize("text", ["{ broken", '{"a": 1, "a": 2}', "\xff", '{"mcpServers": ' + "[" * 5000])
def test_a_file_that_cannot_be_read_refuses(text: str, home: Path, snapshot: Snapshot) -> None:
    (home / ".claude.json").write_bytes(text.encode("latin-1"))
    if '"a"' in text:
        assert claude(home, snapshot, "mcp__files__read") == "hook-unknown-server"
    else:
        with pytest.raises(HookError):
            claude(home, snapshot, "mcp__files__read")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_refuses(home: Path, snapshot: Snapshot) -> None:
    write(home / ".claude.json", {})
    (home / ".claude.json").chmod(0)
    with pytest.raises(HookError):
        claude(home, snapshot, "mcp__files__read")


@pytest.mark.parametrize(
    ("command", "behind"),
    [
        (f"{GATE} run --name a -- npx x", True),
        (f"'{GATE}' run --url https://x", True),
        (f"{GATE} run --name a --url https://x/<age://a>/m?a=b&c=<age://d>", True),
        (f"{GATE} run --name a --url https://x/?a=b&evil", False),
        (f"{GATE} run --name a --url https://x/?a=b;evil", False),
        (f"{GATE} run --name a --url https://x/?a=b&c=d evil", False),
        ("/tmp/evil run --url https://x/?a=b&c=d", False),
        ("callgate run -- x", True),
        (f"{sys.executable} -m callgate.cli.main run -- x", False),
        (f"{' '.join(heedless())} run -- x", True),
        ("/opt/py/bin/python3 -m callgate.cli.main run -- x", False),
        ("npx callgate run", False),
        ("npx x # callgate run", False),
        (f"x && {GATE} run -- y", False),
        (f"{GATE}2 run -- y", False),
        ("", False),
        ("'", False),
    ],
)
def test_a_command_line(command: str, behind: bool, snapshot: Snapshot) -> None:
    assert (judge_command(command, snapshot) is None) == behind


def test_urls(home: Path, snapshot: Snapshot) -> None:
    assert judge_url("http://127.0.0.1:8484/a/mcp", snapshot) is None
    assert judge_url("https://x.example/mcp?token=hunter2", snapshot) == (
        "hook-open-server",
        "the server at https://x.example/mcp is not behind the gate",
    )
    hook_snapshot.write(home / "state", Machine("linux", str(home), {}), (GATE,))
    assert judge_url("http://127.0.0.1:8484/a/mcp", hook_snapshot.load(str(home / "state"))) is not None


def test_a_snapshot_others_may_change_is_not_believed(home: Path, snapshot: Snapshot) -> None:
    path = home / "state/hooks/snapshot.json"
    for spoil in (lambda: path.chmod(0o666), lambda: path.write_text("{}"), path.unlink):
        spoil()
        with pytest.raises(HookError):
            hook_snapshot.load(str(home / "state"))
    path.symlink_to("/dev/null")
    with pytest.raises(HookError):
        hook_snapshot.load(str(home / "state"))
