"""A server for the machine: it answers as MCP does, tries what its AppArmor profile says, and tells what came of it.

`apparmor_inside.py serve PROJECT` is the server, `drive WORDS` the client of `callgate run WORDS` that asks it, and reads
from outside, while the server runs, under which profile that is.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

LOADER = "/lib64/ld-linux-x86-64.so.2"


def tried(action: Callable[[], object]) -> str:
    try:
        return f"yes {action()}"[:80]
    except (OSError, subprocess.SubprocessError) as error:
        return f"no {error}"[:80]


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.strip() or str(done.returncode))
    return done.stdout.strip()


def read(path: str) -> int:
    with open(path, "rb") as file:
        return len(file.read())


def wrote(path: str) -> str:
    with open(path, "w") as file:
        file.write("written")
    return str(read(path))


def attempts(project: str) -> dict[str, str]:
    dropped = os.path.join(project, "dropped")
    with open("/bin/echo", "rb") as program, open(os.open(dropped, os.O_WRONLY | os.O_CREAT, 0o755), "wb") as copy:
        copy.write(program.read())
    return {
        # attacks
        "dropped": tried(lambda: run(dropped, "x")),
        "dropped through the loader": tried(lambda: run(LOADER, dropped, "x")),
        "internet socket": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).fileno()),
        "its first environment": tried(lambda: read("/proc/self/environ")),
        "another profile": tried(lambda: wrote("/proc/self/attr/current")),
        # what a server needs
        "program through the loader": tried(lambda: run(LOADER, "/bin/echo", "x")),
        "project": tried(lambda: wrote(os.path.join(project, "notes"))),
        "home": tried(lambda: wrote(os.path.expanduser("~/notes"))),
        "temporary": tried(lambda: wrote(os.path.join(os.environ.get("TMPDIR", "/tmp"), "notes"))),
        "a child": tried(lambda: run("/bin/sh", "-c", "echo x | cat")),
        "a pair of sockets": tried(lambda: len(socket.socketpair())),
    }


def serve(project: str) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") == "initialize":
            result: dict[str, object] = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "attempts", "version": "1"},
            }
        elif message.get("method") == "tools/call":
            result = {"content": [{"type": "text", "text": json.dumps(attempts(project))}]}
        else:
            continue
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\n")
        sys.stdout.flush()


def labels() -> list[str]:
    """Of the programs that run under a profile of callgate's now."""
    found = set()
    for pid in os.listdir("/proc"):
        try:
            with open(f"/proc/{pid}/attr/current") as file:
                found.add(file.read().strip())
        except OSError:
            continue
    return sorted(label for label in found if label.startswith("callgate-"))


def drive(words: list[str]) -> None:
    """Be the client of `callgate run WORDS`; one JSON object."""
    process = subprocess.Popen(["callgate", "run", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout

    def ask(number: int, method: str, parameters: dict[str, object]) -> dict[str, Any]:
        assert process.stdin
        assert process.stdout
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        found: dict[str, Any] = json.loads(process.stdout.readline())["result"]
        return found

    client = {"name": "driver", "version": "1"}
    ask(1, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
    now = labels()
    text = ask(2, "tools/call", {"name": "attempts", "arguments": {}})["content"][0]["text"]
    process.stdin.close()
    process.wait(timeout=60)
    print(json.dumps({"labels": now, "tried": json.loads(text)}))


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        drive(sys.argv[2:])
    else:
        serve(sys.argv[2])
