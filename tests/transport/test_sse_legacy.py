"""HTTP+SSE of 2024-11-05 towards clients, in front of stdio servers."""

import json
from typing import Any

import pytest

from callgate.gate.verdicts import Deny, Finding
from tests.gate.fakes import control
from tests.transport.exchanges import Answer, Client, exists, hurried, route_to, until


class SseClient(Client):
    """GETs the stream, posts where the endpoint event says."""

    stream: Answer
    address: str

    async def open(self, room: int = 1 << 30) -> None:
        self.stream = self.exchange(b"GET", b"", [(b"accept", b"text/event-stream")], room, path="/x/sse")
        await self.stream.until(lambda answer: answer.data)
        first = self.stream.data.decode().partition("\n\n")[0]
        assert first.startswith("event: endpoint\ndata: /x/messages?session=")
        self.address = first.rpartition("data: ")[2]
        self.stream.data = b""

    def say(self, message: Any) -> Answer:
        path, _, query = self.address.partition("?")
        body = message if isinstance(message, bytes) else json.dumps({"jsonrpc": "2.0", **message}).encode()
        return self.exchange(b"POST", body, [], path=path, query=query)

    async def start(self) -> None:
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        assert self.say({"id": "i", "method": "initialize", "params": params}).status == 202
        await self.told("i")
        assert self.say({"method": "notifications/initialized"}).status == 202

    async def told(self, id: Any) -> Any:
        await self.stream.until(lambda answer: any(event.get("id") == id for event in answer.events))
        return next(event for event in self.stream.events if event.get("id") == id)


async def test_everything_comes_on_the_stream_and_its_end_ends_the_server() -> None:
    async with route_to("asks") as (route, journal):
        client = SseClient(route)
        await client.open()
        await client.start()
        client.say({"id": 1, "method": "x"})
        question = await client.told("ask-1")
        client.say({"id": question["id"], "result": {"n": 1}})
        assert (await client.told(1))["result"]["client"] == {"n": 1}
        client.leave(0)
        assert client.say({"id": 2, "method": "x"}).status == 404
        await until(lambda: not exists(journal.notes[0][1]["pid"]))


async def test_refusals_come_on_the_stream_too() -> None:
    def call(event: object) -> Deny:
        return Deny("not this", (Finding("c/r", "tool-poisoning", "no"),))

    async with route_to("echo", control("c", pattern=b"forbidden", call=call)) as (route, _):
        client = SseClient(route)
        await client.open()
        await client.start()
        assert client.say({"id": 1, "method": "tools/call", "params": {"name": "forbidden"}}).status == 202
        assert (await client.told(1))["result"]["isError"] is True
        assert client.say(b"{").status == 400


async def test_the_stream_of_another_principal_is_unknown() -> None:
    async with route_to("echo") as (route, _):
        client, thief = SseClient(route), SseClient(route, "mallory")
        await client.open()
        thief.address = client.address
        assert thief.say({"id": 1, "method": "x"}).status == 404
        thief.address = "/x/messages?session=nope"
        assert thief.say({"id": 1, "method": "x"}).status == 404


async def test_methods_and_accept() -> None:
    async with route_to("echo", sessions=1) as (route, _):
        client = SseClient(route)
        assert client.exchange(b"POST", b"{}", [], path="/x/sse").status == 405
        assert client.exchange(b"GET", b"", [], path="/x/messages").status == 405
        assert client.exchange(b"GET", b"", [(b"accept", b"text/html")], path="/x/sse").status == 406
        await client.open()
        assert client.exchange(b"GET", b"", [], path="/x/sse").status == 503


async def test_a_death_a_timeout_and_a_server_that_cannot_start() -> None:
    async with route_to("dies") as (route, _):
        client = SseClient(route)
        await client.open()
        await client.start()
        client.say({"id": 1, "method": "x"})
        assert "exited with code 3" in (await client.told(1))["error"]["message"]
        await client.stream.end()
    async with route_to("slow", request_timeout_s=100) as (route, _):
        client = SseClient(route)
        await client.open()
        await client.start()
        with hurried(route):
            client.say({"id": 1, "method": "silent"})
        assert (await client.told(1))["error"]["data"]["rule"] == "request-timeout"
        client.say({"id": 2, "method": "seen"})
        assert (await client.told(2))["result"]["cancelled"] == [1]
    async with route_to("echo", cwd="/no/such/directory") as (route, _):
        answer = await SseClient(route).exchange(b"GET", b"", [], path="/x/sse").end()
        assert answer.status == 502


async def test_a_request_that_reports_progress_has_its_time_anew_but_not_for_ever() -> None:
    async with route_to("slow") as (route, _):
        client = SseClient(route)
        await client.open()
        await client.start()
        (session,) = route._sse.sessions.values()
        clock = [began := session._now()]
        session._now = lambda: clock[0]
        client.say({"id": 1, "method": "silent"})
        done = 0
        for step in range(1, 20):
            clock[0] = began + 0.9 * step * session._timeout_s
            session.message(b'{"jsonrpc":"2.0","method":"notifications/progress"}', 1)
            session.tick(clock[0] + 0.05 * session._timeout_s)
            done += session.busy
        assert done == 13
        assert (await client.told(1))["error"]["data"]["rule"] == "request-timeout"


async def test_a_flood_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.sse_legacy.STALL_S", 0.5)
    monkeypatch.setattr("callgate.transport.stdio_upstream.TICK_S", 0.1)
    async with route_to("flood") as (route, _):
        client = SseClient(route)
        await client.open(room=200_000)
        await client.start()
        client.say({"id": 1, "method": "x"})
        await client.stream.until(lambda answer: len(answer.data) > 200_000)
        await client.stream.end()
        assert len(client.stream.data) < 700_000
