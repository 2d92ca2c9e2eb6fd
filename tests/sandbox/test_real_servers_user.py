"""Real servers work in the default sandbox for an unprivileged user too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sandbox import boxes_user
from tests.sandbox.boxes import needs_landlock
from tests.support.programs import npm_script

pytestmark = [pytest.mark.network, pytest.mark.slow]
NPM = "@modelcontextprotocol/server-"

SCRIPT = """
import json, os, sys
from pathlib import Path
from callgate.config import SandboxConfig
from callgate.sandbox.choose import choose
from callgate.sandbox.defaults import spec_for
from tests.sandbox.boxes import start, stop

backend, tool, arguments, *argv = sys.argv[1:]
work = Path("work")
work.mkdir()
(work / "hello.txt").write_text("hello")
argv = [word.replace("{work}", str(work.resolve())) for word in argv]
arguments = json.loads(arguments.replace("{work}", str(work.resolve())))
spec, argv = spec_for("it", argv, environment={"PATH": os.environ["PATH"]}, cwd=os.getcwd(), state=Path("state"), config=SandboxConfig())
box = start(choose(backend, Path("state")), spec, argv)
hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
messages = [{"id": 1, "method": "initialize", "params": hello}, {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list", "params": {}}, {"id": 3, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}]
for message in messages:
    box.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\\n")
    box.process.stdin.flush()
    while "id" in message:
        answer = json.loads(box.process.stdout.readline())
        if answer.get("id") == message["id"] and "method" not in answer:
            break
print(json.dumps([answer["result"].get("isError", False), answer["result"]["content"][0]["text"]]))
stop(box)
"""


def _readable(path: str) -> bool:
    return all(os.stat(one).st_mode & 0o005 == 0o005 for one in Path(path).resolve().parents)


@pytest.mark.parametrize(
    "backend",
    [pytest.param("bubblewrap", marks=boxes_user.needs_bubblewrap), pytest.param("landlock", marks=needs_landlock)],
)
@pytest.mark.parametrize(
    ("server", "words", "tool", "arguments", "expected"),
    [
        ("filesystem", ["{work}"], "read_text_file", '{"path": "{work}/hello.txt"}', "hello"),
        ("everything", ["stdio"], "echo", '{"message": "there"}', "there"),
        ("memory", [], "read_graph", "{}", "entities"),
    ],
)
def test_works_for_an_unprivileged_user(
    backend: str, server: str, words: list[str], tool: str, arguments: str, expected: str
) -> None:
    command = npm_script(NPM + server)
    if not os.getuid() and not all(_readable(path) for path in command):
        pytest.skip("the installed servers lie in a directory that only root may read")
    found = boxes_user.run(SCRIPT, backend, tool, arguments, *command, *words)
    assert found.stdout.startswith("[false") and expected in found.stdout, found
