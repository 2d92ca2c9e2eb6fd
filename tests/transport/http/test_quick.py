"""Calls that take the quick way over HTTP, and what happens to them on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callgate import native
from callgate.gate.native import express as native_express
from callgate.transport.http.affinity import SessionSeal
from tests.transport.http.gated import INITIALIZE, MODERN, TIMEOUT_S, WAYS, Event, Gated, post

pytestmark = pytest.mark.skipif(native.core is None, reason="the native lane was not built for this platform")

VERSION = "io.modelcontextprotocol/protocolVersion"
SESSION = ("X-Callgate-Principal: alice", "Mcp-Session-Id: s-1")
OPENED = b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'


def called(number: int, *headers: str, method: str = "tools/call", meta: Any = None, name: str = "t") -> bytes:
    params: dict[str, Any] = {"name": name, "arguments": {"q": "a"}}
    if meta is not None:
        params["_meta"] = meta
    return post({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, *headers)


def modern(number: int, method: str = "tools/call", version: str = MODERN) -> bytes:
    headers = [f"MCP-Protocol-Version: {version}", f"Mcp-Method: {method}", "Mcp-Name: t"]
    return called(number, "X-Callgate-Principal: alice", *headers, method=method, meta={VERSION: version})


def result(number: int, text: str = "b") -> bytes:
    message = {"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": text}]}}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


class Three:
    """The same events in each way, and what came of them."""

    def __init__(self, place: Path, sealed: bool) -> None:
        self.sites = [Gated(way, place / way, sealed=sealed) for way in WAYS]
        self.quick = self.sites[0]
        self.session = ("X-Callgate-Principal: alice", f"Mcp-Session-Id: {self.quick.session('s-1')}")

    def do(self, *events: Event) -> None:
        for event in events:
            for site in self.sites:
                event(site)
                site.settle()
            for site in self.sites[1:]:
                assert site.state() == self.quick.state(), site.way

    def send(self, client: int, data: bytes) -> None:
        self.do(lambda site: site.send(client, data))

    def answer(self, number: int, body: bytes, header: str = "") -> None:
        self.do(lambda site: site.answer(number, body, header))

    def learn(self, *methods: str) -> None:
        """Open a session and let two connections to the server learn all there is to a plain call."""
        self.send(0, INITIALIZE)
        self.answer(0, OPENED, "Mcp-Session-Id: s-1\r\n")
        for method in methods or ("tools/call",):
            for _ in range(3):
                for clients in ((0, 1), (2, 3)):
                    for client in clients:
                        legacy = called(client + 1, *self.session, method=method)
                        self.send(client, legacy if client < 2 else modern(client + 1, method=method))
                    for client in clients:
                        self.answer(at(self.quick, client), result(client + 1))

    def answers(self, client: int) -> list[bytes]:
        return [b"HTTP/1.1 " + part for part in self.quick.wires[client].out.split(b"HTTP/1.1 ")[1:]]

    def done(self) -> list[Any]:
        """The evidence."""
        found = [site.evidence() for site in self.sites]
        assert found[1] == found[0]
        assert found[2] == found[0]
        return [record for record in found[0] if record.get("kind") == "note"]


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., None]:
    def tell(story: Callable[[Three], None], *, sealed: bool = False) -> None:
        async def run() -> None:
            story(Three(tmp_path, sealed))

        asyncio.run(run())

    return tell


def test_calls_of_both_eras_take_it(told: Any) -> None:
    def story(three: Three) -> None:
        three.learn()
        for client, data in ((0, called(5, *SESSION)), (2, modern(6))):
            three.send(client, data)
            assert three.quick.is_quick(client)
            three.answer(at(three.quick, client), result(5 + (client > 0)))
            assert three.answers(client)[-1].endswith(result(5 + (client > 0)))
        three.done()

    told(story)


def at(site: Gated, client: int) -> int:
    """The number of the server's connection that this client's request is on."""
    current: Any = site.connections[client]._current
    for number, (end, _) in enumerate(site.pool.ends):
        handler: Any = end.request.handler if end.request is not None else None
        if end.quick is current or (handler is not None and handler.exchange is current):
            return number
    raise AssertionError("nothing was asked")


def test_what_answers_another_call_ends_its_own_too(told: Any) -> None:
    def story(three: Three) -> None:
        three.learn()
        three.send(0, called(5, *SESSION))
        three.send(1, called(6, *SESSION))
        assert three.quick.is_quick(0)
        assert three.quick.is_quick(1)
        three.answer(at(three.quick, 0), result(6))
        session = next(iter(three.quick.route.sessions.sessions()))
        assert (session.busy, list(session.channel.pending)) == (1, []), "nobody will answer 5 any more"
        three.send(0, called(5, *SESSION))
        assert three.quick.is_quick(0), "the id is free again"
        three.done()

    told(story)


def test_a_call_is_not_repeated_because_of_who_has_its_id_now(told: Any) -> None:
    def story(three: Three) -> None:
        three.learn("tools/call", "prompts/get")
        three.send(0, called(5, *SESSION))
        assert three.quick.is_quick(0)
        number = at(three.quick, 0)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
        three.send(1, post(cancel, *SESSION))
        three.do(lambda site: site.say(1 - number, [b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"]))
        three.send(1, called(5, *SESSION, method="prompts/get"))
        ends = len(three.quick.pool.ends)
        three.do(lambda site: site.hang_up(number))
        assert len(three.quick.pool.ends) == ends, "a tool may have run: it is not called again"
        assert b"502 Bad Gateway" in three.answers(0)[-1]
        three.done()

    told(story)


@pytest.mark.parametrize(("method", "repeated"), [("tools/call", 0), ("prompts/get", 1)])
def test_only_what_may_reach_the_server_twice_is_sent_again(told: Any, method: str, repeated: int) -> None:
    def story(three: Three) -> None:
        three.learn(method)
        three.send(2, modern(7, method=method))
        assert three.quick.is_quick(2)
        number, ends = at(three.quick, 2), len(three.quick.pool.ends)
        three.do(lambda site: site.hang_up(number))
        assert len(three.quick.pool.ends) == ends + repeated
        if repeated:
            assert three.quick.pool.ends[-1][1].out == three.quick.pool.ends[number][1].out.split(b"POST")[-1].join(
                [b"POST", b""]
            )
            three.answer(ends, result(7))
            assert three.answers(2)[-1].endswith(result(7))
        three.done()

    told(story)


@pytest.mark.parametrize("client", [0, 2])
def test_a_client_that_leaves_cancels_only_what_stands_alone(told: Any, client: int) -> None:
    def story(three: Three) -> None:
        three.learn()
        three.send(client, called(5, *SESSION) if client == 0 else modern(5))
        assert three.quick.is_quick(client)
        number = at(three.quick, client)
        three.do(lambda site: site.leave(client))
        assert three.quick.pool.ends[number][1].closed == (client == 2)
        three.answer(number, result(5))
        three.done()

    told(story)


def test_what_others_of_a_session_send_does_not_make_its_calls_modern(told: Any) -> None:
    """A call of the handshake era goes on when its client leaves, whatever came in a batch meanwhile."""

    def story(three: Three) -> None:
        three.learn()
        batches = ("X-Callgate-Principal: alice", "Mcp-Session-Id: s-1", "MCP-Protocol-Version: 2025-03-26")
        for site in three.sites:
            next(iter(site.route.sessions.sessions())).channel.revision = "2025-03-26"
        three.send(0, called(5, *SESSION))
        assert three.quick.is_quick(0)
        number = at(three.quick, 0)
        member = {"jsonrpc": "2.0", "id": 6, "method": "tools/list", "params": {"_meta": {VERSION: MODERN}}}
        three.send(1, post([member], *batches))
        assert next(iter(three.quick.route.sessions.sessions())).channel.modern
        three.do(lambda site: site.leave(0))
        assert not three.quick.pool.ends[number][1].closed
        three.done()

    told(story)


@pytest.mark.parametrize("version", ["=?x", "=?base64?MjAyNi0wNy0yOA==?=", "2026-07-28\xe9"])
def test_a_version_that_nobody_can_read_hides_no_mismatch(told: Any, version: str) -> None:
    def story(three: Three) -> None:
        three.learn()
        servers = [wire.out for _, wire in three.quick.pool.ends]
        headers = [f"MCP-Protocol-Version: {version}", "Mcp-Method: tools/list", "Mcp-Name: t"]
        for _ in range(2):
            three.send(2, called(9, "X-Callgate-Principal: alice", *headers))
            assert b"400 Bad Request" in three.answers(2)[-1]
        assert [wire.out for _, wire in three.quick.pool.ends] == servers, "nothing went on"
        three.done()

    told(story)


def test_a_revision_too_long_to_note_is_still_one_to_repeat(told: Any) -> None:
    def story(three: Three) -> None:
        three.learn()
        long = "x" * 40
        for _ in range(2):
            three.send(2, modern(9, version=long))
            three.answer(at(three.quick, 2), result(9))
        headers = ["MCP-Protocol-Version: ", "Mcp-Method: tools/call", "Mcp-Name: t"]
        for _ in range(2):
            three.send(2, called(9, "X-Callgate-Principal: alice", *headers, meta={VERSION: long}))
            assert b"400 Bad Request" in three.answers(2)[-1]
        three.done()

    told(story)


def test_a_long_call_is_timed_from_its_start(told: Any) -> None:
    """Growing late must not give a call more time than LONGEST_CALL from when it was sent."""

    def story(three: Three) -> None:
        three.learn()
        three.send(0, called(5, *SESSION))
        assert three.quick.is_quick(0)
        number = at(three.quick, 0)
        three.do(lambda site: site.tick(TIMEOUT_S - 1))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        three.do(lambda site: site.say(number, [head + b"3\r\n:\n\n\r\n"]))
        for _ in range(20):
            three.do(lambda site: site.tick(TIMEOUT_S - 1))
            three.do(lambda site: site.say(number, [b"3\r\n:\n\n\r\n"]))
        assert three.quick.pool.ends[number][1].closed
        three.done()

    told(story)


def test_looking_at_a_session_is_no_use_of_it(told: Any) -> None:
    def story(three: Three) -> None:
        three.learn()
        three.do(lambda site: site.tick(5.0))
        three.send(0, called(5, "X-Callgate-Principal: alice", "Mcp-Session-Id: unknown"))
        session = next(iter(three.quick.route.sessions.sessions()))
        assert session.used < three.quick.clock.now
        three.done()

    told(story)


def test_a_defect_leaves_nothing_half_done(told: Any) -> None:
    def story(three: Three) -> None:
        three.learn()
        idle = len(three.quick.pool._idle)

        def fails(*_: object) -> bool:
            raise RuntimeError("a defect")

        before = [len(site.pool._idle) for site in three.sites]
        for site in three.sites[:2]:  # Python alone has no lane that could fail
            site.route.gate.clears_call = fails
            site.route.renew(site.entry, site.route.gate)
            site.send(0, called(5, *SESSION))
            assert site.wires[0].out.count(b"500 Internal Server Error") == 1
            assert site.notes[-1][1]["route"] == "s"
            assert next(iter(site.route.sessions.sessions())).busy == 0
            assert not site.route._relays
        assert [len(site.pool._idle) for site in three.sites] == before
        assert idle

    told(story)


@pytest.mark.parametrize("client", [0, 2])
def test_a_defect_in_the_lane_costs_an_answer_and_no_more(told: Any, client: int) -> None:
    """It is told as one that the general way meets: the connection to the server is whole, and so is the channel."""

    def story(three: Three) -> None:
        def fails(_raw: bytes) -> Any:
            raise RuntimeError("a defect")

        three.learn()
        ends = len(three.quick.pool.ends)
        for site in three.sites[:2]:  # Python alone has no lane that could fail
            for channel in (next(iter(site.route.sessions.sessions())).channel, site.route.free["alice"][-1]):
                gate = channel.gate
                scan, gate.automaton = gate.automaton, Scanner(fails)  # type: ignore[assignment]
                channel.express = native_express(channel)
                gate.automaton = scan
            site.send(client, called(5, *SESSION) if client == 0 else modern(5))
            site.answer(at(site, client), result(5, "\u00fc"))
            site.settle()
            assert site.wires[client].out.count(b"502 Bad Gateway") == 1
            assert b"RuntimeError at test_quick.py" in site.wires[client].out
            assert not site.route._relays
            assert len(site.pool.ends) == ends
            assert not any(wire.closed for _, wire in site.pool.ends)
        first, second = three.sites[:2]
        assert first.state() == second.state()
        assert first.evidence() == second.evidence()

    told(story)


def test_a_call_that_could_not_be_sent_is_answered_once(told: Any) -> None:
    """A second answer, when its time is over, would be taken for that of the client's next request."""

    def story(three: Three) -> None:
        def fails(*_: object) -> None:
            raise RuntimeError("a defect")

        three.learn()
        for site in three.sites:
            before = len(site.wires[0].out)
            for _, wire in site.pool.ends:
                wire.write = fails  # type: ignore[method-assign,assignment]
            site.send(0, called(5, *SESSION))
            assert site.wires[0].out[before:].count(b"500 Internal Server Error") == 1
            told_once = len(site.wires[0].out)
            site.tick(TIMEOUT_S + 1)
            site.settle()
            assert len(site.wires[0].out) == told_once, site.way
            assert not site.route._relays
            assert next(iter(site.route.sessions.sessions())).busy == 0

    told(story)


class Scanner:
    """In place of an automaton."""

    def __init__(self, scan: Any) -> None:
        self.scan = scan


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_defect_on_the_way_of_an_answer_is_told_at_once(told: Any, rounds: int) -> None:
    def story(three: Three) -> None:
        python = three.sites[2]
        three.learn()
        (session,) = python.route.sessions.sessions()

        def fails(_raw: bytes) -> bytes:
            raise RuntimeError("a defect")

        patched = Patched(session.channel, fails)
        session.channel = patched  # type: ignore[assignment]  # a channel but for one method
        for number in range(rounds):
            python.send(0, called(5 + number, *SESSION))
            # The second answer of a kind comes with a head that is known: all at once.
            python.answer(at(python, 0), result(5 + number), f"X-Round: {rounds}\r\n")
            assert python.wires[0].out.count(b"502 Bad Gateway") == number + 1
        assert b"RuntimeError at test_quick.py" in python.wires[0].out
        assert session.busy == 0
        assert not python.route._relays

    told(story)


class Patched:
    """A channel whose `server` is another."""

    def __init__(self, channel: Any, server: Any) -> None:
        self._channel = channel
        self.server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


def test_one_of_several_workers_takes_it_for_its_own_sessions_and_seals_what_grows(told: Any) -> None:
    def story(three: Three) -> None:
        three.learn()
        sealed = three.quick.session("s-1")
        assert sealed != "s-1"
        three.send(0, called(5, *three.session))
        assert three.quick.is_quick(0)
        assert b"mcp-session-id: s-1\r\n" in three.quick.pool.ends[at(three.quick, 0)][1].out.lower()
        three.answer(at(three.quick, 0), result(5), "Mcp-Session-Id: s-1\r\n")
        assert three.answers(0)[-1].endswith(result(5))
        assert f"mcp-session-id: {sealed}\r\n".encode() in three.answers(0)[-1]
        assert b": s-1\r\n" not in three.quick.wires[0].out
        elsewhere = SessionSeal(b"k" * 32, 1).seal(b"s-1", "alice").decode()
        for _ in range(2):
            three.send(0, called(5, "X-Callgate-Principal: alice", f"Mcp-Session-Id: {elsewhere}"))
            assert b"404 Not Found" in three.answers(0)[-1], "that worker is gone"
        three.send(1, called(6, "X-Callgate-Principal: bob", f"Mcp-Session-Id: {sealed}"))
        assert b"404 Not Found" in three.answers(1)[-1]
        three.send(2, modern(7))
        assert three.quick.is_quick(2)
        three.answer(at(three.quick, 2), result(7))
        three.done()

    told(story, sealed=True)
