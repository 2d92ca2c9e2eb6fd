"""HTTP+SSE of 2024-11-05 towards clients, in front of servers that speak Streamable HTTP."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.sse import sse_client

from callgate.config import ServerConfig
from callgate.gate.verdicts import Deny, Finding
from callgate.transport.routes import build_route
from callgate.transport.sse_beside import SseBesideHttp
from tests.gate.fakes import FakeJournal, control, gate_of
from tests.support.processes import free_port, running
from tests.transport.exchanges import Answer, hurried, until
from tests.transport.served import served
from tests.transport.test_sdk_clients import SDK, elicited, text, use
from tests.transport.test_sse_legacy import SseClient

ODD = str(Path(__file__).parent / "servers" / "http_raw.py")


@asynccontextmanager
async def route_to(url: str, *controls: Any, **fields: Any) -> AsyncIterator[tuple[SseBesideHttp, FakeJournal]]:
    gate, journal = gate_of(*controls)
    route = build_route(ServerConfig("x", url=url, transport="http", **fields), gate)
    assert isinstance(route, SseBesideHttp)
    try:
        yield route, journal
    finally:
        await route.close(1.0)
        gate.close()
        assert not route._upstreams


@asynccontextmanager
async def odd(behaviour: str, tmp_path: Path, *controls: Any, **fields: Any) -> AsyncIterator[Any]:
    port = free_port()
    with running([sys.executable, ODD, behaviour, str(port), str(tmp_path / "deleted")], port):
        async with route_to(f"http://127.0.0.1:{port}/mcp", *controls, **fields) as (route, journal):
            yield route, journal


async def begun(route: SseBesideHttp, principal: str = "alice") -> SseClient:
    client = SseClient(route, principal)
    await client.open()
    await client.start()
    return client


async def log_of(client: SseClient, id: str = "log") -> list[dict[str, Any]]:
    client.say({"id": id, "method": "log"})
    log: list[dict[str, Any]] = (await client.told(id))["result"]["log"]
    return log


async def test_the_official_client_and_server() -> None:
    port = free_port()
    with running([sys.executable, SDK, "streamable-http", str(port)], port):
        async with route_to(f"http://127.0.0.1:{port}/mcp") as (route, journal), served(route) as url:
            async with Client(sse_client(f"{url}/sse"), mode="legacy", elicitation_callback=elicited) as client:
                assert await use(client) == [1, 2, 3]
                assert text(await client.call_tool("greet", {})) == "hello Ada"
            async with Client(f"{url}/mcp", mode="legacy", elicitation_callback=elicited) as client:
                assert await use(client) == [1, 2, 3]
            assert "deny" not in journal.outcomes()


async def test_several_official_clients_at_once_do_not_hear_each_other() -> None:
    port = free_port()
    with running([sys.executable, SDK, "streamable-http", str(port)], port):
        async with route_to(f"http://127.0.0.1:{port}/mcp") as (route, _), served(route) as url:

            async def one(number: int) -> list[str]:
                async with Client(sse_client(f"{url}/sse"), mode="legacy") as client:
                    calls = [client.call_tool("add", {"a": number, "b": step}) for step in range(20)]
                    return [text(result) for result in await asyncio.gather(*calls)]

            told = await asyncio.gather(*(one(1000 * number) for number in range(4)))
            assert told == [[str(1000 * number + step) for step in range(20)] for number in range(4)]


async def test_a_session_there_in_order_with_the_gates_headers_and_ended(tmp_path: Path) -> None:
    async with odd("plain", tmp_path, headers={"X-Key": "k"}) as (route, _):
        client = await begun(route)
        client.say({"id": 1, "method": "x", "params": {"a": "é"}})
        assert (await client.told(1))["result"]["echo"] == {"a": "é"}
        log = [entry for entry in await log_of(client) if "get" not in entry]
        seen = [entry.get("method") or entry.get("accepted") for entry in log]
        assert seen[:4] == ["initialize", "notifications/initialized", "notifications/initialized", "x"]
        asked = next(entry for entry in log if entry.get("method") == "x")["headers"]
        assert (asked["mcp-session-id"], asked["mcp-protocol-version"], asked["x-key"]) == ("s-1", "2024-11-05", "k")
        route.renew_headers([(b"x-key", b"new")])
        assert (await log_of(client, "again"))[-1]["headers"]["x-key"] == "new"
        client.leave(0)
        assert client.say({"id": 2, "method": "x"}).status == 404
        await until((tmp_path / "deleted").exists)
        assert not route._upstreams


async def test_what_the_server_says_by_itself_and_answers_that_come_later(tmp_path: Path) -> None:
    async with odd("speaks", tmp_path) as (route, _):
        client = await begun(route)
        await client.stream.until(lambda answer: any(e.get("method") == "notifications/message" for e in answer.events))
    async with odd("polling", tmp_path) as (route, _):
        client = await begun(route)
        client.say({"id": 5, "method": "x"})
        assert (await client.told(5))["result"] == {"polled": True}


async def test_refusals_of_the_gate_and_errors_of_the_server_find_who_waits(tmp_path: Path) -> None:
    def call(event: object) -> Deny:
        return Deny("not this", (Finding("c/r", "tool-poisoning", "no"),))

    async with odd("status", tmp_path, control("c", pattern=b"forbidden", call=call)) as (route, journal):
        client = await begun(route)
        client.say({"id": 1, "method": "tools/call", "params": {"name": "forbidden"}})
        assert (await client.told(1))["result"]["isError"] is True
        client.say({"id": 2, "method": "x", "params": {"status": 400, "json": True}})
        assert (await client.told(2))["error"]["code"] == -32020
        client.say({"id": 3, "method": "x", "params": {"status": 500}})
        assert (await client.told(3))["error"]["data"]["rule"] == "server-gone"
        assert "\x1b" not in client.stream.data.decode()
        assert [fields["what"] for kind, fields in journal.notes if kind == "upstream-failed"]


async def test_answers_that_cannot_pass(tmp_path: Path) -> None:
    async with odd("garbage", tmp_path) as (route, journal):
        client = await begun(route)
        client.say({"id": 1, "method": "x"})
        assert (await client.told(1))["error"]["data"]["rule"] == "server-gone"
        assert "deny" in journal.outcomes()


async def test_a_request_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.sse_beside.TICK_S", 0.05)
    async with odd("slow", tmp_path, request_timeout_s=100) as (route, _):
        client = await begun(route)
        with hurried(route):
            client.say({"id": 1, "method": "hang"})
        assert (await client.told(1))["error"]["data"]["rule"] == "request-timeout"
        client.say({"id": 2, "method": "x"})
        assert (await client.told(2))["result"]


async def test_a_server_that_is_not_there() -> None:
    async with route_to(f"http://127.0.0.1:{free_port()}/mcp") as (route, _):
        client = SseClient(route)
        await client.open()
        client.say({"id": 1, "method": "initialize", "params": {"protocolVersion": "2024-11-05"}})
        assert (await client.told(1))["error"]["data"]["rule"] == "server-gone"


async def test_who_may_use_a_stream_and_how_many_there_may_be(tmp_path: Path) -> None:
    async with odd("plain", tmp_path, sessions=2) as (route, _):
        client, thief = await begun(route), SseClient(route, "mallory")
        thief.address = client.address
        answer = thief.say({"id": 1, "method": "x"})
        assert (answer.status, answer.refusals) == (404, [(404, "session-unknown")])
        assert client.exchange(b"GET", b"", [(b"accept", b"text/html")], path="/x/sse").status == 406
        second = SseClient(route)
        await second.open()
        full: Answer = client.exchange(b"GET", b"", [], path="/x/sse")
        assert (full.status, full.refusals) == (503, [(503, "sessions")])
        second.leave(0)
        await SseClient(route).open()


async def test_a_client_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.sse_legacy.STALL_S", 0.3)
    monkeypatch.setattr("callgate.transport.sse_beside.TICK_S", 0.05)
    async with odd("big", tmp_path) as (route, _):
        client = SseClient(route)
        await client.open(room=100_000)
        await client.start()
        for number in range(50):
            client.say({"id": number, "method": "x", "params": {"size": 100_000}})
        await client.stream.end()
        assert len(client.stream.data) < 50 * 100_000


async def test_a_reload_and_the_end_of_the_gate_leave_no_one_waiting(tmp_path: Path) -> None:
    async with odd("slow", tmp_path) as (route, _):
        client = await begun(route)
        gate, journal = gate_of()
        route.renew(ServerConfig("x", url=route._server.url, transport="http"), gate)
        client.say({"id": 1, "method": "x"})
        assert (await client.told(1))["result"]
        assert journal.decisions
        client.say({"id": 2, "method": "hang"})
        await route.close(0.2)
        assert "stopped" in (await client.told(2))["error"]["message"]
        await client.stream.end()
        assert client.exchange(b"GET", b"", [], path="/x/sse").status == 503
        gate.close()
