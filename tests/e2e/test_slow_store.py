"""A store of secrets that is slow holds up the server that needs it, in its sandbox, and nobody else.

The store is a real OpenBao, reached through a relay on loopback that passes nothing on until it is told to.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.query import Filter, all_records
from tests.support.gateway import Gateway, serve
from tests.support.openbao import Bao, running_bao
from tests.support.processes import alive, wait_until
from tests.support.relay import Relay
from tests.transport.exchanges import MODERN, RAW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.xdist_group("openbao")]

VALUE = "bao-Slow-9fK27LmXw4"
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "x",
}


@pytest.fixture(scope="module")
def bao() -> Iterator[Bao]:
    with running_bao() as server:
        server.client().secrets.kv.v2.create_or_update_secret("mcp/slow", {"token": VALUE})
        yield server


@pytest.fixture
def relay(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    made = Relay(int(bao.address.rpartition(":")[2]))
    for name in ("TOKEN", "ADDR", "ROLE_ID", "SECRET_ID", "ROLE", "NAMESPACE", "CACERT", "AUTH_METHOD"):
        monkeypatch.delenv(f"BAO_{name}", raising=False)
        monkeypatch.delenv(f"VAULT_{name}", raising=False)
    monkeypatch.setenv("VAULT_ADDR", made.address)
    monkeypatch.setenv("VAULT_TOKEN", bao.token("secret/data/mcp/slow:read", "sys/internal/ui/mounts/*:read"))
    yield made
    made.close()


@pytest.fixture
def gateway(relay: Relay, tmp_path: Path) -> Iterator[Gateway]:
    """`slow` needs the store and runs in a sandbox, `other` does not need it."""
    program = tmp_path / "raw.py"
    program.write_bytes(RAW.read_bytes())
    command = [sys.executable, "-I", "-S", str(program), "echo"]
    servers: dict[str, dict[str, Any]] = {
        "slow": {"command": command, "environment": {"TOKEN": "<vault://secret/mcp/slow#token>"}},
        "other": {"command": command},
    }
    with serve(tmp_path / "gate", servers, launch={"sandbox": "auto"}, listen={"drain_s": 3}) as found:
        assert post(found, "other", 0)["result"]["resultType"] == "complete"
        yield found


def post(gateway: Gateway, server: str, number: int) -> dict[str, Any]:
    """One request of 2026-07-28."""
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)) as connection:
        send(connection, server, number)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found


def send(connection: http.client.HTTPConnection, server: str, number: int) -> None:
    message = {"jsonrpc": "2.0", "id": number, "method": "x", "params": {"_meta": MODERN, "n": number}}
    connection.request("POST", f"/{server}/mcp", json.dumps(message), HEADERS)


def children(pid: int) -> set[int]:
    """Everything that descends from a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | (children(child) if Path(f"/proc/{child}").exists() else set())
    return found


def files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def notes(gateway: Gateway, what: str) -> list[dict[str, Any]]:
    records = (record for _, record in all_records(gateway.state / "audit", Filter()))
    return [record["fields"] for record in records if record.get("what") == what]


def test_calls_of_other_servers_end_first(gateway: Gateway, relay: Relay) -> None:
    ended: list[str] = []

    def slow() -> None:
        assert post(gateway, "slow", 1)["result"]["echo"]["n"] == 1
        ended.append("slow")

    waiting = threading.Thread(target=slow)
    waiting.start()
    wait_until(lambda: relay.connections, 60, "the store being asked")
    for number in range(50):
        assert post(gateway, "other", number)["result"]["echo"]["n"] == number
        ended.append("other")
    relay.open.set()
    waiting.join(60)
    assert ended == ["other"] * 50 + ["slow"]
    assert [fields["server"] for fields in notes(gateway, "launch")] == ["other", "slow"]
    secret = notes(gateway, "launch")[1]["secrets"][0]
    assert (secret["name"], secret["store"]) == ("TOKEN", "vault")
    # It lives on when the thread that prepared it has ended, though its sandbox is to die with its parent.
    assert post(gateway, "slow", 2)["result"]["echo"]["n"] == 2
    assert len(notes(gateway, "launch")) == 2


def test_clients_that_go_away_leave_no_process_and_no_descriptor(gateway: Gateway, relay: Relay) -> None:
    processes, descriptors = children(gateway.pid), files(gateway.pid)
    for number in range(10):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        send(connection, "slow", number)
        wait_until(lambda: relay.connections, 60, "the store being asked")
        connection.close()
        wait_until(lambda count=number + 1: len(notes(gateway, "launch-failed")) == count, 60, "evidence of it")
    relay.open.set()
    wait_until(lambda: files(gateway.pid) <= descriptors, 60, "descriptors being closed")
    # Of those at the start one may have been about to end: housekeeping has helpers of its own.
    wait_until(lambda: children(gateway.pid) <= processes, 60, "processes being ended")
    assert len(notes(gateway, "launch")) == 1
    assert post(gateway, "slow", 1)["result"]["echo"]["n"] == 1


@pytest.mark.parametrize("answers", [True, False])
def test_a_gateway_that_is_stopped_meanwhile(gateway: Gateway, relay: Relay, answers: bool) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)) as connection:
        send(connection, "slow", 1)
        wait_until(lambda: relay.connections, 60, "the store being asked")
        family = children(gateway.pid)
        gateway.signal(signal.SIGTERM)
        response = connection.getresponse()
        assert response.status == 503
        assert "the gateway is being stopped" in json.loads(response.read())["error"]["message"]
    if answers:
        relay.open.set()
    assert gateway.wait() == 0  # a store that never answers does not keep it
    wait_until(lambda: not any(map(alive, family)), 60, "processes being ended")
    assert [fields["reason"] for fields in notes(gateway, "launch-failed")] == ["the gateway is being stopped"]
