"""Credentials in the URLs of remote servers: into the store with `install`, filled in by `run`, and back."""

from __future__ import annotations

import http.server
import io
import json
import os
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from callgate.cli.main import main

TOKEN = "q7Xf2Lr9Kd4Wb8Zt3Vn6Yp1Hs5Jm0Gc"
SLASHED = "9dK2Lq7Xw4/Zt8Rb1Vn6Yp3Hs5"
"""Stands percent-encoded in a URL."""
ODD = "Zm9vYmFy9dK2Lq7Xw4Zt8Rb1Vn6Yp3=="
"""Stands there in a way that encoding again would change."""
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


class _Remote(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.path)
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        about = {"name": "remote", "version": "1"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": about, "instructions": self.path}
        error = {"code": -32601, "message": "no"}
        answer = {"result": result} if ask.get("method") == "initialize" else {"error": error}
        data = json.dumps({"jsonrpc": "2.0", "id": ask.get("id"), **answer}).encode() if "id" in ask else b""
        self.send_response(200 if data else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.send_error(405)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(name="port", scope="module")
def _port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Remote) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(name="home", autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> Path:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME", "CLINE_DIR", "OPENCODE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    url = f"http://127.0.0.1:{port}/mcp?team=a&api_key={TOKEN}&v=2"
    files = {
        ".cursor/mcp.json": f'{{"mcpServers": {{"far": {{"type": "http", "url": "{url}"}}, // kept\n}}}}\r\n',
        ".codex/config.toml": f"[mcp_servers.far]\nurl = '{url}' # kept\n",
        ".config/opencode/opencode.json": json.dumps({"mcp": {"far": {"type": "remote", "url": url}}}, indent=1),
        ".config/goose/config.yaml": f"extensions:\n  far:\n    uri: {url}   # kept\n    type: streamable_http\n",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(text.encode())
    return home


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commands(home: Path) -> dict[str, list[str]]:
    cursor = json.loads((home / ".cursor/mcp.json").read_text().replace(", // kept", ""))["mcpServers"]["far"]
    codex = tomllib.loads((home / ".codex/config.toml").read_text())["mcp_servers"]["far"]
    opencode = json.loads((home / ".config/opencode/opencode.json").read_text())["mcp"]["far"]
    return {
        "cursor": [cursor["command"], *cursor["args"]],
        "codex": [codex["command"], *codex["args"]],
        "opencode": opencode["command"],
    }


def said(command: list[str]) -> Any:
    done = subprocess.run(
        command, input=json.dumps(HELLO) + "\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[0])


def test_there_and_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(home)
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock"]) == 0
    out = capsys.readouterr().out
    assert "moves api_key of its URL to age://far.api_key" in out.replace("\n", " ").replace("  ", " ")
    wrapped = everything(home)
    for name, data in {**wrapped, **everything(state)}.items():
        assert TOKEN.encode() not in data, name
    assert TOKEN not in out
    for name, command in commands(home).items():
        _Remote.asked.clear()
        url = command[command.index("--url") + 1]
        assert url.endswith("/mcp?team=a&api_key=<age://far.api_key>&v=2"), name
        answer = said(command)
        assert _Remote.asked[0] == f"/mcp?team=a&api_key={TOKEN}&v=2", name
        assert "api_key=" in answer["result"]["instructions"]  # what the server knows, it may say: it is taken out

    assert main(["secrets", "test", "--all"]) == 0
    assert "age://far.api_key" in capsys.readouterr().out
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock"]) == 0
    assert "nothing to wrap" in capsys.readouterr().out
    assert everything(home) == wrapped

    assert main(["uninstall", "--yes"]) == 0
    assert TOKEN not in capsys.readouterr().out
    assert everything(home) == before


def test_the_key_goes_to_no_other_url(home: Path) -> None:
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock"]) == 0
    command = commands(home)["cursor"]
    said(command)
    _Remote.asked.clear()
    for old, new in (("/mcp?", "/collect?"), ("127.0.0.1", "localhost"), ("age://far.api_key", "age://other")):
        other = [word.replace(old, new) for word in command]
        done = subprocess.run(other, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 3 and "was not granted to this URL" in done.stderr
    assert _Remote.asked == []


def test_moved_later_and_put_back_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(home)
    assert main(["install", "--yes", "--keep-secrets", "--no-hooks", "--no-lock"]) == 0
    assert TOKEN.encode() in everything(home)[".codex/config.toml"]
    plain = everything(home)
    assert main(["secrets", "move", "--yes", "--to", "age"]) == 0
    assert TOKEN.encode() not in b"".join(everything(home).values())
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    assert TOKEN.encode() not in b"".join(everything(state).values())  # earlier copies, too
    assert main(["secrets", "move", "--undo", "--yes"]) == 0
    assert everything(home) == plain
    assert main(["uninstall", "--yes"]) == 0
    assert everything(home) == before
    assert TOKEN not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("query", "moved"),
    [
        (f"token={TOKEN}", "token=<age://far.token>"),
        ("token=" + SLASHED.replace("/", "%2F"), "token=<age://far.token>"),
        ("page=2&sort=name", ""),
        (f"a=b#token={TOKEN}", "a=b#token=<age://far.token>"),
    ],
)
def test_what_is_moved(query: str, moved: str, home: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / ".cursor/mcp.json"
    text = json.dumps({"mcpServers": {"far": {"url": f"http://127.0.0.1:{port}/mcp?{query}"}}})
    path.write_text(text)
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock", "--client", "cursor"]) == 0
    entry = json.loads(path.read_text())["mcpServers"]["far"]
    assert entry["args"][-1].endswith("?" + (moved or query))
    if moved:
        _Remote.asked.clear()
        assert "result" in said([entry["command"], *entry["args"]])
        assert _Remote.asked[0] == f"/mcp?{query}".partition("#")[0]
    assert main(["uninstall", "--yes"]) == 0
    assert path.read_text() == text


KEY = "NmQ2YjA1ZTItNTkxMC00YzQwLWI0MjktZjE1MDVhZmZjNTM5"


def test_a_key_in_the_path_is_moved(home: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / ".cursor/mcp.json"
    text = json.dumps({"mcpServers": {"far": {"url": f"http://127.0.0.1:{port}/api/my-workspace-2025/{KEY}/mcp"}}})
    path.write_text(text)
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock", "--client", "cursor"]) == 0
    assert KEY not in capsys.readouterr().out + path.read_text()
    entry = json.loads(path.read_text())["mcpServers"]["far"]
    command = [entry["command"], *entry["args"]]
    assert command[-1].endswith("/api/my-workspace-2025/<age://far.url_key>/mcp")
    _Remote.asked.clear()
    assert "result" in said(command)
    assert _Remote.asked[0] == f"/api/my-workspace-2025/{KEY}/mcp"
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock", "--client", "cursor"]) == 0
    assert "nothing to wrap" in capsys.readouterr().out
    assert main(["doctor", "--client", "cursor"]) in (0, 1)
    assert "in plain text" not in capsys.readouterr().out
    assert main(["uninstall", "--yes"]) == 0
    assert path.read_text() == text


@pytest.mark.parametrize("query", [f"token={ODD}", "token=${input:token}"])
def test_what_would_stand_on_a_command_line_is_left(query: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the file only its owner reads it; of a running program every user reads the command line."""
    path = home / ".cursor/mcp.json"
    text = json.dumps({"mcpServers": {"far": {"url": f"https://far.example/mcp?{query}"}}})
    path.write_text(text)
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock", "--client", "cursor"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "a credential (token) that would stand on a command line" in out and ODD not in out
    assert path.read_text() == text


def test_a_name_or_password_before_the_host_is_left(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / ".cursor/mcp.json"
    text = json.dumps({"mcpServers": {"far": {"url": f"https://me:{TOKEN}@host.example/mcp"}}})
    path.write_text(text)
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock", "--client", "cursor"]) == 0
    out = capsys.readouterr().out
    assert "before its host" in " ".join(out.split()) and TOKEN not in out
    assert path.read_text() == text
