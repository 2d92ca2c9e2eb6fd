"""callgate's sample server behind `callgate run` in the test machine."""

from __future__ import annotations

import json
from typing import Any

from tests.support.machine import PERSON, ROOT, Machine, Ran

SERVER = ROOT / "src" / "callgate" / "sample_server.py"
OPENING = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    '"clientInfo":{"name":"test","version":"1"}}}\n'
    '{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
)
CALL = '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":40}}}\n'


def ask(machine: Machine, *options: str, user: str = PERSON) -> Ran:
    """One session with it, in a directory of the user's. All of a user's share one state, as a person's do."""
    work = f"/home/{user}/work"
    machine.put({f"{work}/server.py": SERVER.read_bytes()}, owner=user)
    run = ["callgate", "run", "--state", state(user), *options, "--", "python3", "server.py"]
    return machine.run(run, user=user, fed=(OPENING + CALL).encode(), cwd=work, seconds=180)


def state(user: str) -> str:
    return f"/home/{user}/state"


def answered(ran: Ran) -> bool:
    """Whether the call came through to the server, and its answer back."""
    said = [json.loads(line) for line in ran.out.splitlines()]
    results = {one.get("id"): one.get("result") for one in said}
    return ran.code == 0 and [one["text"] for one in (results.get(2) or {}).get("content", [])] == ["42"]


def launch(machine: Machine, user: str = PERSON) -> dict[str, Any]:
    """What the evidence says of the user's last launch."""
    script = f"grep -a -h '\"launch\"' {state(user)}/audit/*/*.jsonl | tail -n 1"
    fields: dict[str, Any] = json.loads(machine.check(["sh", "-c", script]))["fields"]
    return fields
