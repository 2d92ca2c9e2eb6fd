"""The API sees the real token; the server, which looks everywhere for it, never does. Nor does anything that is kept."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.query import Filter, all_records
from tests.support import internet
from tests.support.gateway import run_command
from tests.support.grants import believed
from tests.support.processes import CALLGATE, FIXTURES, Pipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.usefixtures("confined")]

SECRET = "vend_live_9fKq27LmXw4RtB8sYcZ1"
needs_namespaces = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("unshare") or not os.access(internet.IP, os.X_OK),
    reason="making a network of one's own takes root, unshare and ip",
)


def ask(pipe: Pipe, number: int, method: str, params: dict[str, Any]) -> Any:
    pipe.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())
    line = pipe.read(60)
    assert line
    answer = json.loads(line)
    assert "result" in answer, answer
    return answer["result"]


def tool(pipe: Pipe, number: int, name: str, **arguments: Any) -> str:
    text: str = ask(pipe, number, "tools/call", {"name": name, "arguments": arguments})["content"][0]["text"]
    return text


@needs_namespaces
def test_the_api_sees_the_token_and_the_server_never_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, folder = tmp_path / "state", tmp_path / "world"
    folder.mkdir()
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(state))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    stored = subprocess.run(
        [CALLGATE, "secrets", "set", "age://vendor"],
        input=SECRET,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert stored.returncode == 0, stored.stderr
    settings = tmp_path / "callgate.toml"
    server = [sys.executable, str(FIXTURES / "servers" / "nosy_server.py")]
    settings.write_text(
        '[audit]\ncontent = "full"\n'
        f'[servers.nosy]\ncommand = {json.dumps(server)}\nmode = "enforce"\n'
        '[servers.nosy.sandbox]\nnetwork = ["elsewhere.test"]\n'
        '[servers.nosy.secrets.VENDOR_TOKEN]\nref = "age://vendor"\nhosts = ["api.vendor.test"]\n'
    )
    said = tmp_path / "said"
    gate = run_command(server, "--name", "nosy", "--config", str(believed(settings, state)))
    halves = {"left": SECRET[:13].encode().hex(), "right": SECRET[13:].encode().hex()}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    with Pipe(internet.command(folder, *gate), stderr=said) as pipe:
        ask(pipe, 0, "initialize", hello)
        ask(pipe, 1, "tools/list", {})
        before = json.loads(tool(pipe, 2, "look", **halves))
        bearer = tool(pipe, 3, "call", url="https://api.vendor.test/v1", how="bearer")
        basic = tool(pipe, 4, "call", url="https://api.vendor.test/v1", how="basic")
        elsewhere = tool(pipe, 5, "call", url="https://elsewhere.test/collect", how="bearer")
        after = json.loads(tool(pipe, 6, "look", **halves))

    sentinel = before["token"]
    assert sentinel and sentinel != SECRET and len(sentinel) == len(SECRET)
    assert before["size"] > 100_000  # it did look
    assert (before["count"], after["count"]) == (0, 0)

    heard = [json.loads(line) for line in (folder / "heard").read_text().splitlines()]
    assert heard[0]["authorization"] == f"Bearer {SECRET}"
    assert json.loads(heard[0]["body"]) == {"token": SECRET}
    assert heard[1]["authorization"] == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert heard[2]["host"] == "elsewhere.test"
    assert heard[2]["authorization"] == f"Bearer {sentinel}"

    # What the API sent back held the token; what the server and the model got does not.
    for text in (bearer, basic, elsewhere):
        assert SECRET not in text and "you sent" in text, text

    kept = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept
    assert SECRET not in said.read_text()
    notes = [record["fields"] for _, record in all_records(state / "audit", Filter()) if record["kind"] == "note"]
    (launch,) = [fields for fields in notes if "sandbox" in fields]
    assert [(one["name"], one["delivered"], one["store"]) for one in launch["secrets"]] == [
        ("VENDOR_TOKEN", "sentinel", "age")
    ]
    egress = [fields for fields in notes if fields.get("kind") == "egress"]
    assert {fields["host"] for fields in egress} == {"api.vendor.test", "elsewhere.test"}


@needs_namespaces
@pytest.mark.parametrize("opened", ["10.20.0.0/16", "10.21.0.0/16", ""])
def test_a_host_in_a_private_network_is_reached_where_it_was_opened(
    opened: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, folder = tmp_path / "state", tmp_path / "world"
    folder.mkdir()
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(state))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    host = "gitlab.example.internal"
    settings = tmp_path / "callgate.toml"
    networks = json.dumps([opened] if opened else [])
    server = [sys.executable, str(FIXTURES / "servers" / "nosy_server.py")]
    settings.write_text(
        f"[servers.nosy]\ncommand = {json.dumps(server)}\n"
        f'[servers.nosy.sandbox]\nnetwork = ["{host}"]\nprivate_networks = {networks}\n'
        f'[servers.nosy.secrets.VENDOR_TOKEN]\nref = "env://VENDOR"\nhosts = ["{host}"]\n'
    )
    monkeypatch.setenv("VENDOR", SECRET)
    gate = run_command(server, "--name", "nosy", "--config", str(believed(settings, state)))
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    with Pipe(internet.command(folder, *gate), stderr=tmp_path / "said") as pipe:
        ask(pipe, 0, "initialize", hello)
        answer = tool(pipe, 1, "call", url=f"https://{host}/v1", how="bearer")
    notes = [record["fields"] for _, record in all_records(state / "audit", Filter()) if record["kind"] == "note"]
    events = [fields for fields in notes if fields.get("kind") == "egress"]
    if opened == "10.20.0.0/16":
        (heard,) = [json.loads(line) for line in (folder / "heard").read_text().splitlines()]
        assert heard["host"] == host and heard["authorization"] == f"Bearer {SECRET}"
        assert {(event["outcome"], event["network"]) for event in events} == {
            ("allowed", "private, allowed by 10.20.0.0/16")
        }
        (launch,) = [fields for fields in notes if "sandbox" in fields]
        assert launch["sandbox"]["private_networks"] == ["10.20.0.0/16"]
    else:
        assert not (folder / "heard").exists(), answer
        assert {event["outcome"] for event in events} == {"refused"}
        assert all("not public: private" in event["reason"] for event in events)
