"""callgate's sample server behind `callgate run` in the test machine."""

from __future__ import annotations

import json
from typing import Any

from tests.support.machine import Machine, Ran
from tests.support.machine_image import PERSON, ROOT

SERVER = ROOT / "src" / "callgate" / "sample_server.py"
OPENING = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    '"clientInfo":{"name":"test","version":"1"}}}\n'
    '{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
)
CALL = '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":40}}}\n'


CLIENT = """
import json, subprocess, sys
wanted, lines, *command = sys.argv[1:]
process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
out = b""
try:
    process.stdin.write(lines.encode())
    process.stdin.flush()
    for line in process.stdout:
        out += line
        if json.loads(line).get("id") == int(wanted):
            break
    process.stdin.close()
except BrokenPipeError:
    pass
sys.stdout.buffer.write(out + process.stdout.read())
sys.stdout.flush()
sys.exit(process.wait())
"""
"""Ends its input when it has its last answer, as clients do: what starts slowly is not cut off."""


def ask(machine: Machine, *options: str, user: str = PERSON) -> Ran:
    """One session with it, in a directory of the user's. All of a user's share one state, as a person's do."""
    work = f"/home/{user}/work"
    machine.put({f"{work}/server.py": SERVER.read_bytes()}, owner=user)
    return converse(machine, 2, OPENING + CALL, *options, "--", "python3", "server.py", user=user, cwd=work)


def converse(machine: Machine, last: int, lines: str, *words: str, user: str, cwd: str = "") -> Ran:
    """`callgate run WORDS`, told `lines`, until request `last` is answered."""
    run = ["callgate", "run", "--state", state(user), *words]
    return machine.python(CLIENT, str(last), lines, *run, user=user, cwd=cwd, seconds=240)


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
