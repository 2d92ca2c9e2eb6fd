"""`callgate run` where its terminal is closed: it ends, unless who started it had that ignored, as nohup does."""

from __future__ import annotations

import json
import shutil
import signal
import sys

import pytest

from tests.support.processes import CALLGATE, Pipe, free_port

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not (shutil.which("nohup") and shutil.which("env")), reason="needs nohup and env (coreutils)"),
]

KINDS = ["stdio", "url"]
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def line(kind: str) -> list[str]:
    if kind == "url":  # nobody is there: its errors are answers, too
        return [CALLGATE, "run", "--url", f"http://127.0.0.1:{free_port()}/mcp"]
    return [CALLGATE, "run", "--", sys.executable, "-m", "callgate.sample_server"]


def ask(pipe: Pipe, number: int) -> None:
    message = {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": HELLO}
    pipe.send(json.dumps(message).encode())
    assert json.loads(pipe.read())["id"] == number


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends(kind: str) -> None:
    with Pipe(["env", "--default-signal=HUP", *line(kind)]) as pipe:
        ask(pipe, 1)
        pipe.process.send_signal(signal.SIGHUP)
        assert pipe.wait() == 128 + signal.SIGHUP


@pytest.mark.parametrize("kind", KINDS)
def test_under_nohup_it_goes_on(kind: str) -> None:
    with Pipe(["nohup", *line(kind)]) as pipe:
        ask(pipe, 1)
        pipe.process.send_signal(signal.SIGHUP)
        for number in range(2, 5):
            ask(pipe, number)
        pipe.process.send_signal(signal.SIGTERM)
        assert pipe.wait() == 128 + signal.SIGTERM
