"""`callgate run --url`: an HTTP server, on stdin and stdout, looks as it does over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import StdioServerParameters

from tests.support.processes import CALLGATE, FIXTURES, Pipe, free_port, running
from tests.support.real_servers import Call
from tests.support.transcripts import record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CALLS: list[Call] = [
    ("test_simple_text", {}),
    ("test_multiple_content_types", {}),
    ("test_error_handling", {}),
    ("test_tool_with_progress", {}),
    ("test_mirrored_headers", {"region": "Österreich", "priority": 7, "verbose": True}),
    ("no_such_tool", {}),
]
PROMPTS: tuple[Call, ...] = (("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"}),)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    port = free_port()
    with running([sys.executable, str(FIXTURES / "servers" / "conformance_server.py"), str(port)], port):
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_an_http_server_on_stdin_and_stdout_looks_as_over_http(mode: str, url: str) -> None:
    direct = await record(url, mode, CALLS, PROMPTS)
    environment = dict(os.environ)
    parameters = StdioServerParameters(command=CALLGATE, args=["run", "--url", url], env=environment)
    assert await record(parameters, mode, CALLS, PROMPTS) == direct


def test_a_server_that_is_not_there_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    command = [CALLGATE, "run", "--url", f"http://127.0.0.1:{free_port()}/mcp"]
    with Pipe(command, stderr=tmp_path / "log") as pipe:
        pipe.send(json.dumps(message).encode())
        answer = json.loads(pipe.read())
        assert answer["id"] == 1
        assert "error" in answer
        pipe.close_input()
        pipe.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_client_that_reads_no_stderr_is_answered_all_the_same() -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    read, write = os.pipe()
    command = [CALLGATE, "run", "--url", f"http://127.0.0.1:{free_port()}/mcp"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=write) as gate:
        os.close(read)
        os.close(write)
        assert gate.stdin is not None and gate.stdout is not None
        try:
            for number in (1, 2, 3):
                message = {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": hello}
                gate.stdin.write(json.dumps(message).encode() + b"\n")
                gate.stdin.flush()
                answer = json.loads(gate.stdout.readline())
                assert answer["id"] == number and "error" in answer
            gate.stdin.close()
            assert gate.wait(60) == 0
        finally:
            gate.kill()


def test_the_headers_of_a_server_do_not_go_to_another_url(tmp_path: Path) -> None:
    settings = tmp_path / "callgate.toml"
    settings.write_text(
        '[servers.mine]\nurl = "https://mine.test/mcp"\nheaders = { Authorization = "Bearer s3cret" }\n'
    )
    command = [CALLGATE, "run", "--url", f"http://127.0.0.1:{free_port()}/mcp", "--name", "mine"]
    with Pipe([*command, "--config", str(settings)], stderr=tmp_path / "log") as pipe:
        assert pipe.wait() == 2
    log = (tmp_path / "log").read_text()
    assert "the headers of mine are for another URL" in log
    assert "s3cret" not in log and "Traceback" not in log
