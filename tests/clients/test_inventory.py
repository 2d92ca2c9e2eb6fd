"""Every server: declared, running, listening; and what is a shadow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from callgate.cli.inventory import _probed
from callgate.cli.main import main
from callgate.clients.inventory import Configured, Inventory, Known, Server, _looks_like_a_server, take
from callgate.clients.machine import Machine as Here
from callgate.clients.machine import find
from callgate.clients.probe import speaks_mcp
from callgate.clients.processes import Listener, Machine, Process, _address, look

GATE = "/opt/bin/callgate"
NOBODY = Known(lambda _: False, lambda _: False, lambda _: False)
ME = os.geteuid() if hasattr(os, "geteuid") else 0


def machine(*processes: tuple[int, int, str], listeners: tuple[Listener, ...] = (), confined: set[int] | None = None):
    found = {
        pid: Process(pid, parent, ME, tuple(line.split()), pid in (confined or set()))
        for pid, parent, line in processes
    }
    return Machine(found, listeners)


def inventory(home: Path, servers: dict[str, Any], seen: Machine, known: Known = NOBODY) -> Inventory:
    (home / ".cursor").mkdir(parents=True, exist_ok=True)
    (home / ".cursor/mcp.json").write_text(json.dumps({"mcpServers": servers}))
    return take(find(Here("linux", str(home), {}), ("cursor",)), (), seen, known)


def one(found: Inventory, name: str) -> Server:
    (server,) = [server for server in found.servers if server.name == name]
    return server


WRAPPED = {"command": GATE, "args": ["run", "--name", "files", "--", "npx", "-y", "server-filesystem", "/data"]}


def test_declared_and_not_running(tmp_path: Path) -> None:
    known = Known({"files"}.__contains__, {"files"}.__contains__, lambda _: False)
    servers = {"files": WRAPPED, "open": {"command": "npx", "args": ["x"]}, "far": {"url": "https://x.example/?k=v"}}
    found = inventory(tmp_path, servers, machine(), known)
    files, open_, far = (one(found, name) for name in ("files", "open", "far"))
    assert (files.wrapped, files.pinned, files.sandboxed, files.signed) == ("yes", "yes", "yes", "no")
    assert files.launches == "npx -y server-filesystem /data"
    assert (open_.wrapped, open_.pinned, open_.sandboxed) == ("no", "no", "no")
    assert (far.wrapped, far.pinned, far.launches) == ("no", "", "https://x.example/?k=***")
    assert not any(server.shadow for server in found.servers)


def test_running_behind_the_gate(tmp_path: Path) -> None:
    line = f"/usr/bin/python3 {GATE} run --name files -- npx -y server-filesystem /data"
    processes = ((10, 1, "cursor"), (20, 10, line), (21, 20, "bwrap --x"), (22, 21, "node server-filesystem-mcp /data"))
    found = inventory(tmp_path, {"files": WRAPPED}, machine(*processes, confined={22}))
    assert one(found, "files").pids == (20,)
    assert one(found, "files").sandboxed == "yes"
    assert len(found.servers) == 1  # what runs below is no server of its own
    assert one(inventory(tmp_path, {"files": WRAPPED}, machine(*processes)), "files").sandboxed == "no"


def test_running_past_the_gate(tmp_path: Path) -> None:
    entry = {"command": "npx", "args": ["-y", "@scope/server-x@1.2.3", "/data"]}
    processes = (
        (10, 1, "claude"),
        (20, 10, "npm exec @scope/server-x@1.2.3 /data"),
        (21, 20, "node /c/server-x /data"),
    )
    found = inventory(tmp_path, {"x": entry}, machine(*processes))
    assert one(found, "x").pids == (20,)
    assert one(found, "x").wrapped == "no"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("npx -y @modelcontextprotocol/server-memory", ""),
        ("/usr/bin/python3 -m mcp_server_git --repository /x", "mcp_server_git"),
        ("uvx mcp-server-fetch", "mcp-server-fetch"),
        ("node /home/me/.npm/_npx/1/node_modules/.bin/mcp-remote https://x", "mcp-remote"),
        (f"{GATE} run --name old -- x", "old"),
    ],
)
def test_shadow_servers(line: str, name: str, tmp_path: Path) -> None:
    found = inventory(tmp_path, {}, machine((10, 1, "/usr/share/cursor/cursor"), (20, 10, "sh"), (30, 20, line)))
    (server,) = found.servers
    assert server.shadow
    assert server.pids == (30,)
    assert server.started_by == "cursor"
    assert not name or server.name == name
    assert server.wrapped == ("yes" if "callgate" in line else "no")


@pytest.mark.parametrize(
    "line",
    [
        "bash",
        "vim mcp-notes.md-and-more.txt/x",
        "claude --mcp-config x",
        "node server.js",
        "python3 -c print(1)",
        "grep -r pattern src",
        "/usr/bin/compact",
        "git log",
        "",
    ],
)
def test_ordinary_processes_are_none(line: str) -> None:
    words = line.split()
    if line.startswith("vim"):
        assert _looks_like_a_server(words)  # a name is all there is to go by: said in the docs
    else:
        assert not _looks_like_a_server(words)


def test_listening(tmp_path: Path) -> None:
    listeners = (
        Listener("127.0.0.1", 9000, ME, 30),
        Listener("0.0.0.0", 9001, ME, 20),
        Listener("127.0.0.1", 9002, 12345, 0),
        Listener("127.0.0.1", 8080, ME, 40),
        Listener("10.0.0.1", 22, 0, 0),
    )
    processes = ((20, 1, "uvx mcp-server-fetch"), (30, 20, "python"), (40, 1, "web"))
    servers = {"local": {"url": "http://localhost:9002/mcp"}, "fetch": {"command": "uvx", "args": ["mcp-server-fetch"]}}
    found = inventory(tmp_path, servers, machine(*processes, listeners=listeners))
    assert one(found, "fetch").listening == ("127.0.0.1:9000", "0.0.0.0:9001")
    assert "other machines" in " ".join(one(found, "fetch").notes)
    assert one(found, "local").listening == ("127.0.0.1:9002",)
    assert [listener.port for listener in found.other_listeners] == [8080]


def test_one_server_of_several_clients_is_one_row(tmp_path: Path) -> None:
    for name in (".cursor", ".lmstudio"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mcp.json").write_text(json.dumps({"mcpServers": {"files": WRAPPED}}))
    (tmp_path / ".kiro/settings").mkdir(parents=True)
    (tmp_path / ".kiro/settings/mcp.json").write_text("{ broken")
    configured = [Configured("team", ("x",), ""), Configured("far", (), "https://x.example")]
    found = take(find(Here("linux", str(tmp_path), {})), configured, machine(), NOBODY)
    assert [server.name for server in found.servers] == ["files", "team", "far"]
    assert len(one(found, "files").declared) == 2
    assert one(found, "team").declared == ("callgate.toml",)
    assert len(found.unread) == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
def test_addresses_of_the_kernel(text: str, address: str) -> None:
    assert _address(text) == address


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")


@needs_proc
def test_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = look()
        port = listener.getsockname()[1]
        assert seen.supported
        assert seen.processes[os.getpid()].parent == os.getppid()
        assert seen.processes[os.getpid()].user == ME
        assert [found.pid for found in seen.listeners if found.port == port] == [os.getpid()]
        assert [found.address for found in seen.listeners if found.port == port] == ["127.0.0.1"]


def test_without_proc(tmp_path: Path) -> None:
    assert not look(str(tmp_path)).supported


def test_a_damaged_proc(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    for pid, status in (("7", "garbage"), ("8", "PPid:\tx\nUid:\t0\n"), ("9", "PPid:\t1\nUid:\t0 0\n")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(b"x\xff\0y\0")
        (tmp_path / pid / "status").write_text(status)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text("head\nnonsense\n 0: zz:1 x 0A\n 1: 0100007F:1F90 0:0 0A 0 0 0 5 0 77\n")
    seen = look(str(tmp_path))
    assert set(seen.processes) == {9}
    assert seen.processes[9].argv == ("x\ufffd", "y")
    assert seen.hidden == 2
    assert [(found.address, found.port, found.user, found.pid) for found in seen.listeners] == [
        ("127.0.0.1", 8080, 5, 0)
    ]


class _Answers(BaseHTTPRequestHandler):
    seen: list[str]

    def do_POST(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.answers(self.path, json.loads(body))  # type: ignore[attr-defined]
        data = json.dumps(answer).encode()
        self.send_response(status)
        if status == 200:
            self.send_header("Mcp-Session-Id", "s1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_DELETE(self) -> None:
        self.seen.append(f"{self.command} {self.headers['Mcp-Session-Id']}")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(name="http")
def _http() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"seen": []}))
    server.answers = lambda path, _: (  # type: ignore[attr-defined]
        (200, {"jsonrpc": "2.0", "id": 1, "result": {}}) if path == "/mcp" else (404, {})
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_probe_asks_once_and_ends_its_session(http: ThreadingHTTPServer) -> None:
    assert speaks_mcp("127.0.0.1", http.server_port) == "/mcp"
    assert http.RequestHandlerClass.seen == ["POST /mcp", "DELETE s1"]  # type: ignore[attr-defined]


def test_a_probe_of_something_else(http: ThreadingHTTPServer) -> None:
    http.answers = lambda path, _: (404, {"error": "no"})  # type: ignore[attr-defined]
    assert speaks_mcp("127.0.0.1", http.server_port) == ""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert speaks_mcp("127.0.0.1", silent.getsockname()[1]) == ""
        assert time.monotonic() - started < 20
    with pytest.raises(ValueError, match="loopback"):
        speaks_mcp("192.0.2.1", 80)


def test_what_answers_a_probe_is_a_shadow(http: ThreadingHTTPServer) -> None:
    """Only the listener of this test is asked: others may belong to tests beside this one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        listeners = tuple(Listener("127.0.0.1", port, ME, 0) for port in (http.server_port, silent.getsockname()[1]))
        found = _probed(Inventory((), (), listeners))
    (server,) = found.servers
    assert (server.name, server.shadow, server.wrapped) == (f"port {http.server_port}", True, "no")
    assert found.other_listeners == listeners[1:]


@needs_proc
def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], http: ThreadingHTTPServer
) -> None:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cursor").mkdir()
    script = tmp_path / "declared_server.py"
    script.write_text("import sys; print('up', flush=True); sys.stdin.read()\n")
    shadow = tmp_path / "mcp-server-sh\u202eadow.py"
    shadow.write_text(script.read_text())
    entry = {"command": sys.executable, "args": [str(script), "--token", "hunter2"]}
    (tmp_path / ".cursor/mcp.json").write_text(json.dumps({"mcpServers": {"mine": entry}}))
    running = [
        subprocess.Popen([sys.executable, str(one), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for one, more in ((script, ["--token", "hunter2"]), (shadow, []))
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
        assert main(["inventory", "--json"]) == 1
        out = capsys.readouterr().out
        assert "hunter2" not in out
        servers = {one["name"]: one for one in json.loads(out)["servers"]}
        assert running[0].pid in servers["mine"]["pids"]
        assert (servers["mine"]["shadow"], servers["mine"]["wrapped"]) == (False, "no")
        mine = [one for one in servers.values() if running[1].pid in one["pids"]]
        assert [one["shadow"] for one in mine] == [True]
        assert main(["inventory"]) == 1
        out = capsys.readouterr().out
        assert "\u202e" not in out
        assert "shadow servers, running and declared nowhere" in out
        assert "--probe asks them" in out
    finally:
        for process in running:
            process.communicate(timeout=60)
    assert main(["inventory", "--client", "nobody"]) == 2
