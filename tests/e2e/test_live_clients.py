"""Real clients, started as their users start them: wrapped by `callgate install`, seen by their hooks, and put back.

A stand-in plays the model, in a network namespace in which nothing else answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.query import Filter, all_records
from callgate.clients.hook_trust import state_key, trusted_hash
from tests.support.live_clients import CODEX, FREE, Desk, LiveClient, files_with
from tests.support.processes import FIXTURES

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(400)]

TOKEN = "q7Xf2Lr9Kd4Wb8Zt3Vn6Yp1Hs5Jm0Gc"
ADD = [{"tool": "add_up", "arguments": {"a": 2, "b": 3}}]


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def configured(desk: Desk, *clients: LiveClient) -> None:
    """Each client with the adding server and a token in plain text."""
    script = desk.home / "adder" / "adding_server.py"
    script.parent.mkdir()
    script.write_bytes((FIXTURES / "servers" / "adding_server.py").read_bytes())
    for client in clients:
        path = desk.home / client.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(client.settings(sys.executable, str(script), TOKEN))


def contents(desk: Desk) -> dict[str, bytes]:
    return {client.file: (desk.home / client.file).read_bytes() for client in FREE}


def records(desk: Desk) -> list[dict[str, Any]]:
    return [record for _, record in all_records(desk.state / "audit", Filter())]


def test_three_clients_work_as_before_behind_the_gate(desk: Desk) -> None:
    configured(desk, *FREE)
    for client in FREE:
        answer = desk.ask(client, ADD)
        assert "the sum is 5, with a token of 31" in answer.told, (client.name, answer.out)
    before = contents(desk)  # with what a client itself wrote into its file
    assert not desk.state.exists()

    installed = desk.callgate("install", "--yes", "--secrets-to", "age")
    assert installed.code == 0, installed.out
    assert TOKEN not in installed.out
    assert files_with(desk.home, TOKEN) == []
    assert set(json.loads((desk.state / "callgate.lock").read_text())["servers"]) == {"adder"}

    for client in FREE:
        calls = sum(one.get("method") == "tools/call" for one in records(desk))
        answer = desk.ask(client, ADD)
        assert "the sum is 5, with a token of" in answer.told, (client.name, answer.out)
        assert "with a token of 0" not in answer.told
        assert sum(one.get("method") == "tools/call" for one in records(desk)) > calls, client.name
    assert files_with(desk.home, TOKEN) == []
    launches = [one["fields"] for one in records(desk) if one.get("what") == "launch"]
    assert len(launches) >= len(FREE)
    assert all(one["sandbox"] not in ("", "none") for one in launches), launches
    assert desk.callgate("audit", "verify").code == 0

    gone = desk.callgate("uninstall", "--yes")
    assert gone.code == 0, gone.out
    assert contents(desk) == before
    assert not (desk.home / ".codex/hooks.json").exists()


def trust(desk: Desk) -> None:
    """What Codex writes when its user trusts the hook."""
    path = desk.home / ".codex/hooks.json"
    (group,) = json.loads(path.read_text())["hooks"]["PreToolUse"]
    name = json.dumps(state_key(str(path), 0, 0))
    with open(desk.home / CODEX.file, "a") as file:
        file.write(f'\n[hooks.state.{name}]\ntrusted_hash = "{trusted_hash(group, group["hooks"][0])}"\n')


def test_the_hook_of_codex_fires_and_its_refusal_stops_the_call(desk: Desk) -> None:
    configured(desk, CODEX)
    assert desk.callgate("install", "--yes", "--secrets-to", "age").code == 0
    command = f"rm -rf {desk.state}; echo gone > made.txt"
    harmful = [{"tool": "exec_command", "arguments": {"cmd": command}}]

    # Codex passes over a hook that nobody trusted; callgate says so.
    answer = desk.ask(CODEX, ADD)
    assert "the sum is 5" in answer.told
    assert not (desk.state / "hooks/spool.jsonl").exists()
    assert "not trusted" in desk.callgate("doctor", "--client", "codex").out

    trust(desk)
    assert "not trusted" not in desk.callgate("doctor", "--client", "codex").out
    answer = desk.ask(CODEX, ADD)
    assert "the sum is 5" in answer.told, answer.out
    answer = desk.ask(CODEX, harmful)
    assert "callgate's state directory" in answer.told, answer.out
    assert not (desk.home / "project/made.txt").exists()
    assert (desk.state / "callgate.lock").exists()

    assert desk.callgate("audit", "verify").code == 0
    hooks = [one["fields"] for one in records(desk) if one.get("what") == "hook"]
    assert [(one["tool"], one["outcome"]) for one in hooks] == [("mcp__adder__add_up", "allow"), ("Bash", "deny")]
    assert hooks[1]["rule"] == "hook-state"

    # A server that another hand adds goes past the gate: the hook stops that call, too.
    with open(desk.home / CODEX.file, "a") as file:
        script = desk.home / "adder" / "adding_server.py"
        file.write(f'\n[mcp_servers.late]\ncommand = "{sys.executable}"\nargs = ["{script}"]\n')
    answer = desk.ask(CODEX, [{"tool": ["mcp__lateadd_up", "mcp__late__add_up"], "arguments": {"a": 2, "b": 3}}])
    assert "not behind the gate" in answer.told, answer.out
    assert "the sum is" not in answer.told
