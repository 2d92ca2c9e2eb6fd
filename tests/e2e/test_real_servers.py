"""Through the gate, real servers look to real clients as they do directly.

Lists, prompts, resources and a call of every tool that works offline are compared as the client sees
them, and for stdio as the bytes' meaning on the wire. Nothing is normalised but instants of the last
minutes (transcripts.without_now) and the order of environment variables (transcripts.comparable).
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import StdioServerParameters

from tests.support.gateway import run_command, serve
from tests.support.processes import FIXTURES, Pipe, free_port, running
from tests.support.programs import npm_script, pypi_server
from tests.support.real_servers import REAL_SERVERS, RealServer
from tests.support.transcripts import comparable, record, uncalled, without_now

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300)]

MODERN = "2026-07-28"
CASES = [
    pytest.param(server, mode, id=f"{server.name}-{mode}")
    for server in REAL_SERVERS
    for mode in ("auto", "legacy", MODERN)
    if server.modern or mode != MODERN
]
PAGE = b"<html><head><title>A page</title></head><body><h1>Hello</h1><p>Some <b>text</b> to read.</p></body></html>"


class _Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/page.html"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(PAGE)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A web server on loopback, for the server that fetches pages."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


Transcripts = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def direct() -> Transcripts:
    """What was seen without the gate, by server and mode: recorded once each."""
    return {}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize("route", ["run", "serve"])
@pytest.mark.parametrize(("server", "mode"), CASES)
async def test_lists_and_calls_are_the_same_through_the_gate(
    server: RealServer, mode: str, route: str, site: str, place: Path, direct: Transcripts, tmp_path: Path
) -> None:
    work = place / server.name
    command, calls = server.command(work), server.calls(work, site)
    # All get the same variables, so that a tool that prints them can be compared.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**ours, "CALLGATE_STATE_DIR": str(place / "state"), **server.environment(work)}

    async def over_stdio(argv: list[str]) -> dict[str, Any]:
        server.fresh(work)
        parameters = StdioServerParameters(command=argv[0], args=argv[1:], env=environment)
        return await record(parameters, mode, calls, server.prompts)

    if (server.name, mode) not in direct:
        direct[server.name, mode] = await over_stdio(command)
        assert uncalled(direct[server.name, mode]) == set(server.uncalled)

    if route == "run":
        seen = await over_stdio(run_command(command, "--name", f"{server.name}-{mode}"))
    else:
        server.fresh(work)
        table = {"command": command, "environment": environment}
        with serve(tmp_path, {server.name: table}, state=place / "state") as gateway:
            seen = await record(gateway.url(server.name), mode, calls, server.prompts)
    assert comparable(seen) == comparable(direct[server.name, mode])


def _converse(argv: list[str], environment: dict[str, str], messages: list[dict[str, Any]]) -> list[Any]:
    """Send the messages one after the other, each after the answer to the last; everything the server said."""
    heard = []
    with Pipe(argv, environment=environment) as pipe:
        for message in messages:
            pipe.send(json.dumps(message).encode())
            while "id" in message:
                line = pipe.read(30)
                assert line, f"no answer to {message}"
                heard.append(json.loads(line))
                if heard[-1].get("id") == message["id"]:
                    break
    return heard


@pytest.mark.parametrize("server", REAL_SERVERS, ids=lambda server: server.name)
def test_what_is_on_the_wire_is_the_same_through_run(server: RealServer, site: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    messages: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ]
    methods = ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "ping", "no/such/method"]
    messages += [{"jsonrpc": "2.0", "id": method, "method": method, "params": {}} for method in methods]
    for number, (name, arguments) in enumerate(server.calls(work, site)):
        params = {"name": name, "arguments": arguments, "_meta": {"progressToken": f"p{number}"}}
        messages.append({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})

    transcripts = []
    for argv in (server.command(work), run_command(server.command(work))):
        server.fresh(work)
        transcripts.append(_converse(argv, dict(server.environment(work)), messages))
    direct, guarded = transcripts
    assert without_now(guarded) == without_now(direct)


ERAS = ("legacy", "auto", "modern")
CONVERT = (
    "--tool-name",
    "convert_time",
    "--tool-arg",
    "source_timezone=UTC",
    "time=12:30",
    "target_timezone=Asia/Tokyo",
)


def _inspect(home: Path, target: list[str], era: str, method: str, *options: str) -> Any:
    """What the Inspector, and with it the TypeScript SDK, makes of a server: its command line's JSON."""
    arguments = ["--method", method, *options, "--protocol-era", era, "--format", "json", "-q"]
    where = target if target[0].startswith("http") else ["--", *target]
    process = subprocess.run(
        [*npm_script("@modelcontextprotocol/inspector"), "--cli", *arguments, *where],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr + process.stdout
    return json.loads(process.stdout)


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_sees_the_same_over_stdio(era: str, tmp_path: Path) -> None:
    command = [pypi_server("mcp-server-time")]
    for method, options in (("tools/list", ()), ("tools/call", CONVERT)):
        direct = _inspect(tmp_path, command, era, method, *options)
        assert direct
        assert _inspect(tmp_path, run_command(command), era, method, *options) == direct


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_sees_the_same_over_http(era: str, tmp_path: Path) -> None:
    port = free_port()
    script = [sys.executable, str(FIXTURES / "servers" / "conformance_server.py"), str(port)]
    call = ("--tool-name", "test_multiple_content_types")
    with running(script, port), serve(tmp_path, {"fixture": {"url": f"http://127.0.0.1:{port}/mcp"}}) as gateway:
        for method, options in (("tools/list", ()), ("resources/list", ()), ("tools/call", call)):
            direct = _inspect(tmp_path, [f"http://127.0.0.1:{port}/mcp"], era, method, *options)
            assert direct
            assert _inspect(tmp_path, [gateway.url("fixture")], era, method, *options) == direct
