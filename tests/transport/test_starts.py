"""A server whose start takes its time: nobody else waits, and whoever gives up leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callgate.gate.verdicts import Allow, Deny, Finding
from callgate.transport.aside import Aside
from callgate.transport.launcher import Launcher
from callgate.transport.stdio_upstream import StdioRoute
from tests.gate.fakes import FakeJournal, control, gate_of
from tests.support.slow_store import VALUE, SlowStore
from tests.transport.exchanges import MODERN, RAW, Answer, Client, config_of, route_to, until

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
SHOWS = "import os, sys; sys.stderr.write(os.environ['TOKEN'] + '\\n'); sys.argv[1:] = ['echo']; exec(open(%r).read())"
BEGIN = Launcher.begin


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowStore:
    made = SlowStore(tmp_path / "bin")
    monkeypatch.setenv("PATH", made.path)
    return made


@asynccontextmanager
async def slow_route(**fields: Any) -> AsyncIterator[tuple[StdioRoute, FakeJournal]]:
    async with route_to("echo", environment={"TOKEN": "<op://Private/a/token>"}, **fields) as found:
        yield found


def initialize(client: Client) -> Answer:
    return client.request("init", "initialize", INITIALIZE)


def listen(client: Client) -> Answer:
    return client.exchange(b"GET", b"", [], path="/x/sse")


def ask(client: Client) -> Answer:
    return client.modern(1, "x")


BEGINS = pytest.mark.parametrize("begin", [initialize, listen, ask])


def reasons(journal: FakeJournal) -> list[Any]:
    return [fields["reason"] for kind, fields in journal.notes if kind == "launch-failed"]


def kinds(journal: FakeJournal) -> list[str]:
    return [kind for kind, _ in journal.notes]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@BEGINS
async def test_other_servers_answer_meanwhile(store: SlowStore, begin: Callable[[Client], Answer]) -> None:
    async with slow_route() as (slow, journal), route_to("echo") as (other, _):
        waiting = begin(Client(slow))
        await store.was_asked()
        client = Client(other)
        await client.initialize()
        for number in range(20):
            assert (await client.request(number, "x").end()).status == 200
            assert (await Client(other).modern(number, "x").end()).status == 200
        assert not waiting.status  # all of these were answered before
        store.answer()
        await waiting.until(lambda answer: answer.status == 200)
        assert kinds(journal) == ["launch"]


@BEGINS
async def test_a_client_that_goes_away_leaves_nothing(store: SlowStore, begin: Callable[[Client], Answer]) -> None:
    async with slow_route() as (route, journal), route_to("echo") as (other, _):
        await Client(other).modern(1, "x").end()  # the reaper and what else there is once
        before = open_files()
        for number in range(5):
            client = Client(route)
            begin(client)
            await until(lambda number=number: store.asked or number)
            client.leave()
        assert len(reasons(journal)) == 5 and all("went away" in one or "closed" in one for one in reasons(journal))
        store.answer()
        last = begin(Client(route))
        await last.until(lambda answer: answer.status == 200)  # it waited for what was left of the others
        assert kinds(journal).count("launch") == 1
        assert store.asked == 2  # the first, which could not be called back, and the last
    assert open_files() <= before


@BEGINS
async def test_a_gateway_that_ends_does_not_wait_for_a_client(
    store: SlowStore, begin: Callable[[Client], Answer]
) -> None:
    async with slow_route() as (route, journal):
        waiting = begin(Client(route))
        await store.was_asked()
        closing = asyncio.create_task(route.close(2.0))
        await waiting.end()
        assert waiting.status in (502, 503)
        assert "the gateway is being stopped" in waiting.json["error"]["message"]
        assert not closing.done()  # the thread is waited for
        store.answer()
        await closing
        assert reasons(journal) == ["the gateway is being stopped"] and kinds(journal) == ["launch-failed"]
        late = begin(Client(route))
        assert late.status == 503


async def test_one_start_of_a_server_at_a_time(store: SlowStore) -> None:
    async with slow_route() as (route, journal):
        clients = [Client(route, f"p{number}") for number in range(3)]
        waiting = [initialize(client) for client in clients]
        await store.was_asked()
        await asyncio.sleep(0.2)
        assert store.asked == 1
        store.answer()
        for answer in waiting:
            assert (await answer.end()).status == 200
        assert kinds(journal) == ["launch"] * 3


async def test_starts_count_as_sessions(store: SlowStore) -> None:
    async with slow_route(sessions=2) as (route, _):
        first, second = initialize(Client(route)), listen(Client(route))
        refused = initialize(Client(route))
        assert refused.status == 503 and "2 sessions are open" in refused.json["error"]["message"]
        assert ask(Client(route)).status == 503
        store.answer()
        assert (await first.end()).status == 200
        await second.until(lambda answer: answer.status == 200)


async def test_requests_wait_for_their_process_in_order(store: SlowStore) -> None:
    async with slow_route() as (route, journal):
        client = Client(route)
        answers = [client.modern(number, "x", {"n": number}) for number in range(30)]
        client.leave(7)
        assert not answers[7].done
        store.answer()
        for number, answer in enumerate(answers):
            if number != 7:
                assert (await answer.end()).json["result"]["echo"]["n"] == number
        assert kinds(journal) == ["launch"]
        assert not answers[7].done


def refusing(hook: str) -> Any:
    return control("forbids", b"forbidden", **{hook: lambda _: Deny("no", (Finding("c/r", "tool-poisoning", "no"),))})


async def test_a_stream_that_was_started_during_a_reload_is_judged_by_the_new_gate(store: SlowStore) -> None:
    """There the forbidden word has the number that the harmless one has in the gate before."""
    environment = {"TOKEN": "<op://Private/a/token>"}
    before = (control("allows", b"harmless", content=lambda _: Allow()), refusing("content"))
    async with route_to("echo", *before, environment=environment) as (route, _):
        client = Client(route)
        stream = listen(client)
        await store.was_asked()
        gate, _ = gate_of(refusing("content"))
        route.renew(config_of("echo", environment=environment), gate)
        store.answer()
        await stream.until(lambda one: b"endpoint" in one.data)
        query = stream.data.decode().split("?")[1].split("\n")[0]
        message = {"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"text": "forbidden"}}
        assert client.post(message, path="/x/messages", query=query).status == 202
        await stream.until(lambda one: one.data.count(b"event:") + one.data.count(b"data:") > 2)
        assert b"forbidden" not in stream.data
        gate.close()


async def test_a_session_that_was_started_during_a_reload_is_judged_by_the_new_gate(store: SlowStore) -> None:
    environment = {"TOKEN": "<op://Private/a/token>"}
    before = (control("allows", b"harmless", connect=lambda _: Allow()), refusing("connect"))
    async with route_to("echo", *before, environment=environment) as (route, _):
        hello = {**INITIALIZE, "clientInfo": {"name": "forbidden", "version": "0"}}
        answer = Client(route).request("init", "initialize", hello)
        await store.was_asked()
        gate, _ = gate_of(refusing("connect"))
        route.renew(config_of("echo", environment=environment), gate)
        store.answer()
        assert (await answer.end()).status == 403
        gate.close()


async def test_too_much_that_waits_is_refused(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.shared_process.SERVER_BUSY_BYTES", 10_000)
    async with slow_route() as (route, _):
        client = Client(route)
        answers = [client.modern(number, "x", {"n": "y" * 4000}) for number in range(5)]
        assert [answer.status for answer in answers] == [0, 0, 0, 503, 503]
        store.answer()
        assert (await answers[2].end()).status == 200


async def test_too_many_notifications_that_wait_are_refused(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.shared_process.SERVER_BUSY_BYTES", 10_000)
    note = {"jsonrpc": "2.0", "method": "notifications/x", "params": {"n": "y" * 4000, "_meta": MODERN}}
    async with slow_route() as (route, _):
        client = Client(route)
        answer = client.modern(1, "x")
        notes = [client.post(note, (b"mcp-protocol-version", b"2026-07-28")) for _ in range(5)]
        assert [one.status for one in notes] == [202, 202, 202, 503, 503]
        assert notes[3].refusals == [(503, "server-busy")]
        assert "still being started" in notes[3].json["error"]["message"]
        store.answer()
        assert (await answer.end()).status == 200


@BEGINS
async def test_who_goes_away_keeps_no_place_in_the_line(
    store: SlowStore, monkeypatch: pytest.MonkeyPatch, begin: Callable[[Client], Answer]
) -> None:
    kept: list[Launcher] = []
    monkeypatch.setattr(Launcher, "begin", lambda self, done: (kept.append(self), BEGIN(self, done))[1])
    async with slow_route() as (route, _):
        begin(Client(route))
        await store.was_asked()
        for _ in range(20):
            client = Client(route)
            begin(client)
            client.leave()
        assert len(kept[0]._line) <= 1
        store.answer()


@BEGINS
async def test_a_user_without_another_thread_is_told_and_the_next_start_works(
    store: SlowStore, monkeypatch: pytest.MonkeyPatch, begin: Callable[[Client], Answer]
) -> None:
    store.answer()

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with slow_route() as (route, journal):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            answer = await begin(Client(route)).end()
        assert answer.status in (502, 503)
        assert reasons(journal) == ["callgate may start no more threads"]
        again = begin(Client(route))
        await again.until(lambda one: one.status == 200)


@BEGINS
async def test_a_start_has_a_time_limit(
    store: SlowStore, monkeypatch: pytest.MonkeyPatch, begin: Callable[[Client], Answer]
) -> None:
    monkeypatch.setattr("callgate.transport.starts.START_S", 0.2)
    async with slow_route() as (route, journal):
        answer = await begin(Client(route)).end()
        assert answer.status in (502, 503)
        assert "not ready to be started within 0.2 s" in answer.json["error"]["message"]
        assert len(reasons(journal)) == 1
        store.answer()
    assert kinds(journal) == ["launch-failed"]


@BEGINS
async def test_a_secret_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Callable[[Client], Answer]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = open_files()
    async with slow_route() as (route, journal):
        answer = await begin(Client(route)).end()
        assert answer.status in (502, 503)
        assert "op://Private/a/token" in answer.json["error"]["message"]
        assert len(reasons(journal)) == 1
    assert open_files() <= before


async def test_the_process_gets_its_secret_and_its_stderr_does_not_show_it(
    store: SlowStore, capfd: pytest.CaptureFixture[str]
) -> None:
    store.answer()
    server = replace(
        config_of("echo", environment={"TOKEN": "<op://Private/a/token>"}),
        command=(sys.executable, "-I", "-c", SHOWS % str(RAW)),
    )
    gate, _ = gate_of()
    route = StdioRoute(server, gate, asyncio.get_running_loop())
    try:
        answer = await Client(route).modern(1, "x").end()
        assert answer.status == 200
    finally:
        await route.close(1.0)
        gate.close()
    said = capfd.readouterr().err
    assert "[redacted:TOKEN]" in said and VALUE not in said


async def test_work_beside_the_loop_is_told_on_it() -> None:
    loop = asyncio.get_running_loop()
    aside = Aside(loop)
    gone, told = threading.Event(), []

    def fails() -> None:
        gone.wait(60)
        raise ValueError("x")

    aside.run(fails, lambda result: told.append((threading.current_thread() is threading.main_thread(), result)))
    assert not await aside.idle(0.05)
    gone.set()
    assert await aside.idle(60)
    assert told[0][0] and isinstance(told[0][1], ValueError)
    assert await aside.idle(0)
