"""The bundled sample server: both eras, one line in, one line out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate import sample_server
from callgate.sample_server import CAPABILITIES_KEY, MODERN, VERSION_KEY, answer

META = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}}


def ask(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    reply = answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}})
    assert reply is not None
    return reply


@pytest.mark.parametrize("asked", [*sample_server.HANDSHAKE, "2099-01-01", None])
def test_handshake(asked: str | None) -> None:
    result = ask("initialize", {"protocolVersion": asked})["result"]
    assert result["protocolVersion"] == (asked if asked in sample_server.HANDSHAKE else sample_server.HANDSHAKE[0])
    assert [tool["name"] for tool in ask("tools/list")["result"]["tools"]] == list(sample_server.RUN)
    assert ask("ping")["result"] == {}


def test_modern_requests_are_complete_in_themselves() -> None:
    for method in ("server/discover", "tools/list"):
        result = ask(method, {"_meta": META})["result"]
        assert result["resultType"] == "complete"
        assert result["ttlMs"] > 0
    assert ask("tools/list", {"_meta": {**META, VERSION_KEY: "2099-01-01"}})["error"]["code"] == -32022
    assert ask("tools/list", {"_meta": {VERSION_KEY: MODERN}})["error"]["code"] == -32602
    assert ask("initialize", {"_meta": META})["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("name", "arguments", "text", "failed"),
    [
        ("add", {"a": 1, "b": 2.5}, "3.5", False),
        ("add", {"a": 1}, "a and b must be numbers", True),
        ("add", {"a": True, "b": 1}, "a and b must be numbers", True),
        ("echo", {"text": "\u00fc\n"}, "\u00fc\n", False),
        ("echo", {"text": 1}, "text must be a string", True),
    ],
)
def test_tools(name: str, arguments: dict[str, Any], text: str, failed: bool) -> None:
    result = ask("tools/call", {"name": name, "arguments": arguments})["result"]
    assert (result["content"][0]["text"], result["isError"]) == (text, failed)


def test_errors() -> None:
    assert ask("tools/call", {"name": "nothing"})["error"]["code"] == -32602
    assert ask("nothing")["error"]["code"] == -32601
    assert answer({"jsonrpc": "2.0", "method": "notifications/initialized"}) is None
    assert answer([])["error"]["code"] == -32600  # type: ignore[index]
    assert answer({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []})["result"] == {}  # type: ignore[index]
    assert answer({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]})["error"]["code"] == -32602  # type: ignore[index]


def test_as_a_process() -> None:
    lines = [b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"time"}}', b"", b"not json"]
    command = [sys.executable, "-I", str(Path(sample_server.__file__))]
    done = subprocess.run(command, input=b"\n".join(lines) + b"\n", capture_output=True, timeout=60, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["result"]["content"][0]["text"].endswith("+00:00")
    assert second["error"]["code"] == -32700
    assert done.stderr == b""
