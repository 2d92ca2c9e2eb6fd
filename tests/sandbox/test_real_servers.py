"""Real servers start and work inside the default sandbox, without a word of configuration."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from callgate.config import SandboxConfig
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.defaults import spec_for
from callgate.sandbox.landlock import LandlockBackend
from tests.sandbox.boxes import needs_bubblewrap, needs_landlock, start, stop
from tests.support.real_servers import REAL_SERVERS, RealServer

SECONDS = 90.0
CALLS = 2

BACKENDS = [
    pytest.param(BubblewrapBackend, id="bubblewrap", marks=needs_bubblewrap),
    pytest.param(LandlockBackend, id="landlock", marks=needs_landlock),
]


class Client:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._text = b""
        self._number = 0

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        assert self._process.stdout
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            line, found, rest = self._text.partition(b"\n")
            if found:
                self._text = rest
                message = json.loads(line)
                if message.get("id") == self._number and "method" not in message:
                    return message
                continue
            if select.select([self._process.stdout], [], [], 1.0)[0]:
                chunk = os.read(self._process.stdout.fileno(), 1 << 20)
                if not chunk:
                    break
                self._text += chunk
        raise AssertionError(f"no answer to {method}; status {self._process.poll()}")


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("server", REAL_SERVERS, ids=lambda server: server.name)
def test_works_by_default(server: RealServer, backend: Any, tmp_path: Path) -> None:
    work = tmp_path / "work"
    server.fresh(work)
    spec, argv = spec_for(
        server.name,
        server.command(work),
        environment={"PATH": os.environ["PATH"], **server.environment(work)},
        cwd=str(work),
        state=tmp_path / "state",
        # what the git server is asked about is not in its arguments
        config=SandboxConfig(write=(str(work),) if server.name == "git" else ()),
    )
    box = start(backend(), spec, argv)
    try:
        client = Client(box.process)
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        assert "serverInfo" in client.ask("initialize", hello)["result"]
        client.send({"method": "notifications/initialized"})
        assert client.ask("tools/list", {})["result"]["tools"]
        if server.name == "fetch":  # it has the network only through the egress gate, and that has its own tests
            return
        for tool, arguments in server.calls(work, "")[:CALLS]:
            answer = client.ask("tools/call", {"name": tool, "arguments": arguments})
            assert not answer["result"].get("isError"), answer
    finally:
        stop(box)
