"""`callgate hook` as clients start it: one question on standard input, one answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.clients import hook_shapes, hook_snapshot
from callgate.clients.machine import Machine

GATE = "/opt/callgate/bin/callgate"
SLOW = ("argparse", "asyncio", "dataclasses", "json", "re", "pathlib", "tomllib", "subprocess", "inspect", "glob")
"""Modules an answer must not wait for: each costs milliseconds."""


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "state").mkdir(parents=True)
    (home / "work").mkdir()
    servers = {"good": {"command": GATE, "args": ["run", "--", "x"]}, "bad": {"command": "npx"}}
    (home / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
    hook_snapshot.write(home / "state", Machine("linux", str(home), {}), (GATE,))
    return home


def ask(home: Path, client: str, question: Any, *more: str, state: str = "") -> tuple[int, dict[str, Any] | None, str]:
    """Exit code, the answer, and what was said on standard error."""
    text = question if isinstance(question, bytes) else json.dumps(question).encode()
    result = subprocess.run(
        [sys.executable, "-m", "callgate.cli.main", "hook", client, "--state", state or str(home / "state"), *more],
        input=text,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return result.returncode, json.loads(result.stdout) if result.stdout else None, result.stderr.decode()


def claude(tool: str, cwd: str = "/work", **given: Any) -> dict[str, Any]:
    return {
        "session_id": "s1",
        "transcript_path": "/t",
        "cwd": cwd,
        "permission_mode": "default",
        "hook_event_name": "PreToolUse",
        "tool_name": tool,
        "tool_input": given,
        "tool_use_id": "u",
    }


def spool(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "state/hooks/spool.jsonl").read_text().splitlines()]


def test_claude_code(home: Path) -> None:
    assert ask(home, "claude-code", claude("mcp__good__read", x="hunter2")) == (0, None, "")
    code, answer, _ = ask(home, "claude-code", claude("mcp__bad__read"))
    assert code == 0 and answer is not None
    said = answer["hookSpecificOutput"]
    assert (said["hookEventName"], said["permissionDecision"]) == ("PreToolUse", "ask")
    assert "callgate install" in said["permissionDecisionReason"]
    _, answer, _ = ask(home, "claude-code", claude("mcp__nobody__read"))
    assert answer is not None and answer["hookSpecificOutput"]["permissionDecision"] == "deny"
    _, answer, _ = ask(home, "claude-code", claude("Bash", command="callgate uninstall --yes"))
    assert answer is not None and answer["hookSpecificOutput"]["permissionDecision"] == "deny"
    _, answer, _ = ask(home, "claude-code", claude("Write", str(home), file_path=".mcp.json", content="{}"))
    assert answer is not None and answer["hookSpecificOutput"]["permissionDecision"] == "ask"
    assert ask(home, "claude-code", claude("Bash", command="ls"))[1] is None
    assert ask(home, "claude-code", claude("WebFetch", url="https://x"))[1] is None
    lines = spool(home)
    assert [one["outcome"] for one in lines] == ["allow", "ask", "deny", "deny", "ask", "allow", "allow"]
    assert lines[1]["rule"] == "hook-open-server"
    assert lines[0]["session"] == "s1"
    assert "hunter2" not in (home / "state/hooks/spool.jsonl").read_text()
    assert len({one["id"] for one in lines}) == len(lines)


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        ("Monitor", {"command": "callgate uninstall", "description": "d", "timeout_ms": 1}, "deny"),
        ("Monitor", {"ws": {"url": "ws://127.0.0.1/"}, "description": "d", "timeout_ms": 1}, ""),
        ("SomeNewShell", {"cmd": ["sh", "-c", "rm .mcp.json"]}, "ask"),
        ("SomeNewShell", {"command": "ls"}, ""),
        ("SomeNewEditor", {"file_path": ".mcp.json"}, "ask"),
        ("SomeNewEditor", {"file_paths": ["a.py", ".mcp.json"]}, "ask"),
        ("SomeNewEditor", {"path": "a.py"}, ""),
        ("Grep", {"pattern": "x", "path": ".mcp.json"}, ""),
        ("Grep", {"pattern": "x", "path": "{home}/state/keys"}, "deny"),
        ("Grep", {"pattern": "x", "path": "{home}/state"}, "deny"),
        ("Glob", {"pattern": "x", "path": "{home}/state"}, ""),
        ("TaskStop", {"command": ""}, ""),
        ("ReadMcpResourceTool", {"server": "bad", "uri": "x://y"}, "ask"),
        ("ReadMcpResourceTool", {"server": "good", "uri": "x://y"}, ""),
        ("ListMcpResourcesTool", {}, ""),
        ("read_mcp_resource", {"server": "nobody", "uri": "x://y"}, "deny"),
    ],
)
def test_tools_of_no_known_name_are_judged_by_what_they_are_given(
    tool: str, given: dict[str, Any], said: str, home: Path
) -> None:
    """Seen live: the Monitor tool of Claude Code runs a shell command, and the resources of servers have tools too."""
    filled = {key: value.replace("{home}", str(home)) if type(value) is str else value for key, value in given.items()}
    code, answer, _ = ask(home, "claude-code", claude(tool, str(home), **filled))
    assert code == 0
    assert (answer["hookSpecificOutput"]["permissionDecision"] if answer else "") == said


@pytest.mark.parametrize(
    ("mode", "decision"),
    [
        ("default", "ask"),
        ("acceptEdits", "ask"),
        (None, "ask"),
        ("bypassPermissions", "deny"),  # seen live: what a hook asks about passes there
        ("auto", "deny"),  # a model decides
        ("dontAsk", "deny"),
        ("of tomorrow", "deny"),
    ],
)
def test_where_nobody_is_asked_a_question_is_a_refusal(mode: str | None, decision: str, home: Path) -> None:
    question = {**claude("Write", str(home), file_path=".mcp.json", content="{}"), "permission_mode": mode}
    if mode is None:
        del question["permission_mode"]
    answer = ask(home, "claude-code", question)[1]
    assert answer is not None and answer["hookSpecificOutput"]["permissionDecision"] == decision
    assert spool(home)[0]["outcome"] == decision
    assert ask(home, "claude-code", {**claude("Bash", command="ls"), "permission_mode": mode})[1] is None


def test_claude_code_tells_the_server(home: Path) -> None:
    """Without that, `a__b__c` may be of server `a` or of `a__b`, and both must be behind the gate."""
    servers = {"a": {"command": GATE, "args": ["run", "--", "x"]}, "a__b": {"command": "npx", "args": ["x"]}}
    (home / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
    question = claude("mcp__a__b__c")
    assert ask(home, "claude-code", question)[1] is not None
    told = {**question, "mcp_server": {"name": "a", "source": "user"}}
    assert ask(home, "claude-code", told) == (0, None, "")
    for name in ("a__b", "elsewhere", "", None, 5):
        assert ask(home, "claude-code", {**question, "mcp_server": {"name": name}})[1] is not None, name


def test_cursor(home: Path) -> None:
    common = {"conversation_id": "c", "workspace_roots": [str(home / "work")]}
    mcp = {**common, "hook_event_name": "beforeMCPExecution", "tool_name": "t", "tool_input": "{}"}
    assert ask(home, "cursor", {**mcp, "command": f"{GATE} run -- x"}) == (0, {"permission": "allow"}, "")
    _, answer, _ = ask(home, "cursor", {**mcp, "command": "npx x"})
    assert answer is not None
    assert answer["permission"] == "ask"
    assert answer["user_message"] == answer["agent_message"]
    assert ask(home, "cursor", {**mcp, "url": "https://x.example"})[1]["permission"] == "ask"  # type: ignore[index]
    shell = {**common, "hook_event_name": "beforeShellExecution", "cwd": str(home / "work")}
    assert ask(home, "cursor", {**shell, "command": "ls"})[1] == {"permission": "allow"}
    assert ask(home, "cursor", {**shell, "command": "rm .mcp.json"})[1]["permission"] == "ask"  # type: ignore[index]
    tool = {**common, "hook_event_name": "preToolUse"}
    for name, values, permission in (
        ("Shell", {"command": "rm .mcp.json"}, "allow"),  # judged at its own event
        ("MCP:x", {}, "allow"),
        ("Write", {"file_path": ".mcp.json"}, "deny"),  # the client does not ask there
        ("Write", {"file_path": "x.py"}, "allow"),
    ):
        answer = ask(home, "cursor", {**tool, "tool_name": name, "tool_input": values})[1]
        assert answer is not None and answer["permission"] == permission, name


def test_codex(home: Path) -> None:
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text(f'[mcp_servers.good]\ncommand = "{GATE}"\nargs = ["run", "--", "x"]\n')
    assert ask(home, "codex", claude("mcp__good__x")) == (0, None, "")
    assert ask(home, "codex", claude("mcp__other__x"))[1] is not None
    for tool, values, refused in (
        ("Bash", {"command": "ls"}, False),
        ("shell", {"command": ["bash", "-lc", "rm .mcp.json"]}, True),
        ("shell_command", {"command": "callgate uninstall"}, True),
        ("apply_patch", {"command": "*** Begin Patch\n*** Update File: .codex/config.toml\n"}, True),
        ("apply_patch", {"command": "*** Begin Patch\n*** Add File: a.py\n*** Move to: b.py\n"}, False),
        ("apply_patch", {"command": "*** Add File: a.py\n+x\n \t*** Update File: .codex/config.toml\n"}, True),
    ):
        code, answer, _ = ask(home, "codex", claude(tool, str(home / "work"), **values))
        assert code == 0
        assert (answer is not None) == refused, tool
        if answer is not None:  # this client lets a question pass: it is a refusal
            assert answer["hookSpecificOutput"]["permissionDecision"] == "deny"


@pytest.mark.parametrize("client", ["claude-code", "cursor", "codex"])
@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"hook_event_name": "PreToolUse", "hook_event_name": "PreToolUse", "tool_name": "x"}',
        b'{"hook_event_name": "Stop"}',
        b'{"hook_event_name": "PreToolUse"}',
        b'{"hook_event_name": "PreToolUse", "tool_name": 5}',
        b'{"hook_event_name": "PreToolUse", "tool_name": "Bash"}',
        b'{"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": {"a": 1}}}',
        b'{"hook_event_name": "PreToolUse", "tool_name": "Write", "tool_input": {"content": "x"}}',
        b'{"hook_event_name": "PreToolUse", "tool_name": "apply_patch", "tool_input": {"command": "x"}}',
        b'{"hook_event_name": "beforeMCPExecution", "tool_name": "x"}',
        b'{"a": ' + b"[" * 5000,
    ],
)
def test_what_is_not_understood_is_refused(client: str, question: bytes, home: Path) -> None:
    code, answer, said = ask(home, client, question)
    assert code == 2
    assert answer is None
    assert "callgate refuses" in said
    assert spool(home)[-1]["outcome"] == "deny"


def test_what_is_too_long_is_refused(home: Path) -> None:
    question = b'{"x": "' + b"a" * hook_shapes.MAX_BYTES + b'"}'
    code, _, said = ask(home, "claude-code", question)
    assert (code, "longer than" in said) == (2, True)


def test_a_question_that_never_ends_is_refused(home: Path) -> None:
    read, write = os.pipe()
    os.write(write, b'{"hook_event_name"')
    command = [sys.executable, "-m", "callgate.cli.main", "hook", "claude-code", "--state", str(home / "state")]
    result = subprocess.run(command, stdin=read, capture_output=True, timeout=30, check=False)
    os.close(read)
    os.close(write)
    assert result.returncode == 2
    assert b"in time" in result.stderr


def test_without_what_it_needs_it_refuses(home: Path, tmp_path: Path) -> None:
    good = claude("mcp__good__read")
    assert ask(home, "claude-code", good, state=str(tmp_path / "none"))[0] == 2
    assert ask(home, "claude-code", good, "--more")[0] == 2
    assert ask(home, "nobody", good)[0] == 2
    (home / "state/hooks/snapshot.json").write_text("{}")
    assert ask(home, "claude-code", good)[0] == 2


def test_evidence_comes_before_the_answer(home: Path) -> None:
    """Where nothing can be written down, nothing is allowed."""
    (home / "state/hooks/spool.jsonl").mkdir()
    code, answer, said = ask(home, "claude-code", claude("mcp__good__read"))
    assert (code, answer) == (2, None)
    assert "evidence" in said


def test_an_unforeseen_error_refuses(home: Path) -> None:
    (home / ".claude.json").unlink()
    os.mkfifo(home / ".claude.json")
    assert ask(home, "claude-code", claude("mcp__good__read"))[1] is not None  # no regular file: not declared
    code = (
        "import sys; from callgate.cli import hook; hook._judge = lambda *a: 1 / 0\n"
        f"sys.exit(hook.main(['claude-code', '--state', {str(home / 'state')!r}]))"
    )
    text = json.dumps(claude("mcp__good__read")).encode()
    result = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"ZeroDivisionError" in result.stderr


def test_hostile_names_are_shown_escaped(home: Path) -> None:
    _, answer, _ = ask(home, "claude-code", claude("mcp__bad__\u202e\x1b[2J"))
    assert answer is not None
    reason = answer["hookSpecificOutput"]["permissionDecisionReason"]
    assert "\\u202e\\x1b[2J" in reason
    assert "\x1b" not in reason


@pytest.mark.parametrize("tool", ["mcp__good__read", "Bash"])
def test_only_what_an_answer_needs_is_imported(tool: str, home: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); from callgate.cli import main\n"
        f"code = main.main(['hook', 'claude-code', '--state', {str(home / 'state')!r}])\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    text = json.dumps(claude(tool, command="cd x && ls")).encode()
    result = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, timeout=30, check=True)
    loaded = result.stderr.decode().split()
    assert "callgate.cli.hook" in loaded
    assert not [name for name in loaded if name.split(".")[0] in SLOW]
    ours = {name for name in loaded if name.startswith("callgate.")}
    assert {name.split(".")[1] for name in ours} <= {"cli", "clients", "errors"}


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    from callgate.cli.hook import main

    assert main(["--help"]) == 0
    assert "callgate hook CLIENT" in capfd.readouterr().out
    assert main([]) == 2


@pytest.mark.parametrize(("policy", "said"), [("deny", "deny"), ("ask", "ask"), ("allow", "")])
def test_servers_past_the_gate_by_policy(policy: str, said: str, home: Path) -> None:
    machine = Machine("linux", str(home), {})
    hook_snapshot.write(home / "state", machine, (GATE,), chosen={"open": policy})
    answer = ask(home, "claude-code", claude("mcp__bad__read"))[1]
    assert (answer["hookSpecificOutput"]["permissionDecision"] if answer else "") == said
    assert spool(home)[-1]["rule"] == "hook-open-server"  # in the evidence all the same


def test_what_a_project_says_of_the_gate_is_asked_about(home: Path, tmp_path: Path) -> None:
    entry = {"command": GATE, "args": ["run", "--sandbox", "none", "--", "npx", "x"]}
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"theirs": entry}}))
    answer = ask(home, "claude-code", {**claude("mcp__theirs__read"), "cwd": str(tmp_path)})[1]
    assert answer is not None
    said = answer["hookSpecificOutput"]
    assert said["permissionDecision"] == "ask"
    assert "--sandbox none" in said["permissionDecisionReason"]
    assert "take that out of the project's file" in said["permissionDecisionReason"]
    assert spool(home)[-1]["rule"] == "hook-project-options"


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ("hook_event_name", "tool_name", "tool_input", "command", "url", "cwd", "workspace_roots", "session_id")
VALUES = st.sampled_from([*hook_shapes.EVENTS["cursor"], "PreToolUse", "mcp__a__b", "Bash", "Write", "apply_patch"])


@given(st.sampled_from(hook_snapshot.CLIENTS), JSON | st.dictionaries(st.sampled_from(MEMBERS), VALUES | JSON))
def test_any_question_is_read_or_refused(client: str, document: Any) -> None:
    try:
        question = hook_shapes.read(client, document)
    except hook_shapes.ShapeError:
        return
    assert question.event in hook_shapes.EVENTS[client]
    for outcome in ("allow", "ask", "deny"):
        text = hook_shapes.answer(client, question, outcome, 'é\U0001f600"\n')
        assert outcome == "allow" or json.loads(text)
