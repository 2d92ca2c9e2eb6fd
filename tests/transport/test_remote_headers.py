"""Headers with references, in front of a server that takes no other credential than one that exists now."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from callgate.config import Config, ServerConfig
from callgate.errors import ConfigError, SecretError
from callgate.store.generation import Generation
from callgate.transport.http.exchange import Route
from callgate.transport.routes import build_route
from tests.gate.fakes import FakeJournal, gate_of
from tests.support.openbao import ROOT_TOKEN, Bao, running_bao
from tests.support.rabbit import Rabbit, introduce, running_rabbit
from tests.support.relay import Relay
from tests.support.slow_store import VALUE, SlowStore
from tests.transport.exchanges import Answer, Client
from tests.transport.http.harness import Peer, Request, Upstream

slow = [pytest.mark.slow, pytest.mark.xdist_group("openbao")]


class Guarded:
    """A server that answers who shows a credential that is accepted, and nobody else."""

    def __init__(self, accepted: set[str]) -> None:
        self.accepted = accepted
        self.shown: list[str] = []
        self.upstream = Upstream(self._respond)
        self.url = f"http://127.0.0.1:{self.upstream.port}/mcp"

    def _respond(self, request: Request, peer: Peer) -> None:
        shown = (request.header("authorization") or "").removeprefix("Bearer ")
        if not self.shown or self.shown[-1] != shown:
            self.shown.append(shown)
        if shown in self.accepted:
            peer.result(request, {"echo": request.json().get("params"), "resultType": "complete"})
        else:
            peer.answer(b"", "401 Unauthorized")


@asynccontextmanager
async def route_of(url: str, reference: str, state: Path, **fields: Any) -> AsyncIterator[tuple[Route, FakeJournal]]:
    gate, journal = gate_of()
    gate.config = Config(state_dir=str(state))
    server = ServerConfig("x", url=url, transport="http", headers={"Authorization": f"Bearer <{reference}>"}, **fields)
    route = build_route(server, gate)
    try:
        yield route, journal
    finally:
        await route.close(1.0)
        gate.close()


def ask(route: Route, memo: dict[object, Any] | None = None) -> Answer:
    """One request. `memo`: that of a head which comes again and again."""
    client = Client(_Remembering(route, memo) if memo is not None else route)
    return client.modern(1, "x")


class _Remembering:
    def __init__(self, route: Route, memo: dict[object, Any]) -> None:
        self._route = route
        self._memo = memo

    def handle(self, exchange: Any) -> None:
        exchange.memo = self._memo
        self._route.handle(exchange)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowStore:
    made = SlowStore(tmp_path / "bin")
    monkeypatch.setenv("PATH", made.path)
    return made


# -- the first time


async def test_requests_wait_for_the_store_and_only_they(store: SlowStore, tmp_path: Path) -> None:
    guarded, free = Guarded({VALUE}), Guarded({""})
    try:
        async with route_of(guarded.url, "op://Private/a/token", tmp_path) as (route, _):
            gate, _ = gate_of()
            other = build_route(ServerConfig("y", url=free.url, transport="http"), gate)
            waiting = [ask(route) for _ in range(5)]
            await store.was_asked()
            for _ in range(20):
                assert (await ask(other).end()).status == 200
            assert not any(answer.done for answer in waiting)
            store.answer()
            for answer in waiting:
                assert (await answer.end()).status == 200
            assert store.asked == 1
            assert guarded.shown == [VALUE]
            await other.close(1.0)
            gate.close()
    finally:
        guarded.upstream.close()
        free.upstream.close()


async def test_who_goes_away_is_not_waited_for(store: SlowStore, tmp_path: Path) -> None:
    guarded = Guarded({VALUE})
    try:
        async with route_of(guarded.url, "op://Private/a/token", tmp_path) as (route, _):
            client = Client(route)
            first, second = client.modern(1, "x"), client.modern(2, "x")
            client.leave(0)
            await store.was_asked()
            store.answer()
            assert (await second.end()).status == 200
            assert not first.done
            assert len(guarded.upstream.requests) == 1
    finally:
        guarded.upstream.close()


async def test_who_goes_away_while_another_is_handled_holds_up_nobody(store: SlowStore, tmp_path: Path) -> None:
    guarded = Guarded({VALUE})
    try:
        async with route_of(guarded.url, "op://Private/a/token", tmp_path) as (route, _):
            client = Client(route)
            answers = [client.modern(number, "x") for number in range(3)]
            inner = route._inner  # type: ignore[attr-defined]
            handle = inner.handle

            def leaving(exchange: Any) -> None:
                if exchange is client.exchanges[0]:
                    client.leave(1)
                handle(exchange)

            inner.handle = leaving
            store.answer()
            assert (await answers[0].end()).status == (await answers[2].end()).status == 200
            assert not answers[1].done
    finally:
        guarded.upstream.close()


async def test_waiting_has_a_limit_in_time_and_number(
    store: SlowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callgate.transport.remote_headers.START_S", 0.2)
    monkeypatch.setattr("callgate.transport.remote_headers.MOST_WAITING", 2)
    guarded = Guarded({VALUE})
    try:
        async with route_of(guarded.url, "op://Private/a/token", tmp_path) as (route, _):
            waiting = [ask(route), ask(route)]
            refused = ask(route)
            assert refused.status == 503 and "too many requests wait" in refused.json["error"]["message"]
            assert refused.refusals == [(503, "credential")]  # on record
            for answer in waiting:
                assert (await answer.end()).status == 503
                assert "does not answer" in answer.json["error"]["message"]
            assert not guarded.upstream.requests
            store.answer()
            async with asyncio.timeout(20):
                while (await ask(route).end()).status != 200:  # noqa: ASYNC110 - another program answers
                    await asyncio.sleep(0.02)
            assert store.asked == 1  # the first question was not asked again
    finally:
        guarded.upstream.close()


async def test_a_gateway_that_ends_does_not_wait(store: SlowStore, tmp_path: Path) -> None:
    async with route_of("http://127.0.0.1:9/mcp", "op://Private/a/token", tmp_path) as (route, _):
        answer = ask(route)
        await store.was_asked()
        closing = asyncio.create_task(route.close(1.0))
        assert (await answer.end()).status == 503
        assert "being stopped" in answer.json["error"]["message"]
        store.answer()
        await closing
        async with asyncio.timeout(10):
            while any(thread.name == "secrets of x" for thread in threading.enumerate()):  # noqa: ASYNC110 - threads
                await asyncio.sleep(0.01)


async def test_a_store_that_refuses_is_asked_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.remote_headers.PAUSE_S", 0.1)
    token = tmp_path / "token"
    guarded = Guarded({VALUE})
    try:
        async with route_of(guarded.url, f"file://{token}", tmp_path) as (route, journal):
            answer = await ask(route).end()
            assert answer.status == 503 and answer.json["error"]["data"]["rule"] == "credential"
            assert str(token) in answer.json["error"]["message"]
            assert ask(route).status == 503  # at once: it was asked a moment ago
            assert [kind for kind, _ in journal.notes] == ["credential"]
            token.write_text(VALUE)
            token.chmod(0o600)
            await asyncio.sleep(0.2)
            assert (await ask(route).end()).status == 200
    finally:
        guarded.upstream.close()


async def test_mistakes_are_told_at_the_start(tmp_path: Path) -> None:
    gate, _ = gate_of()
    gate.config = Config(state_dir=str(tmp_path))
    for headers, error in (
        ({"Host": "<env://X>"}, ConfigError),
        ({"X": "<env://X>", "Bad Name": "1"}, ConfigError),
        ({"X": "<vault://>"}, SecretError),
    ):
        with pytest.raises(error):
            build_route(ServerConfig("x", url="http://127.0.0.1:9/", transport="http", headers=headers), gate)
    gate.close()


async def test_a_reload_keeps_what_was_resolved(store: SlowStore, tmp_path: Path) -> None:
    store.answer()
    guarded = Guarded({VALUE})
    try:
        async with route_of(guarded.url, "op://Private/a/token", tmp_path) as (route, _):
            assert (await ask(route).end()).status == 200
            other, _ = gate_of()
            reference = {"Authorization": "Bearer <op://Private/a/token>"}
            server = ServerConfig("x", url=guarded.url, transport="http", headers=reference)
            route.renew(server, other)  # type: ignore[attr-defined]
            assert (await ask(route).end()).status == 200
            assert guarded.shown == [VALUE] and store.asked == 1
            other.close()
    finally:
        guarded.upstream.close()


async def test_an_sse_server_gets_them_with_every_message(store: SlowStore, tmp_path: Path) -> None:
    store.answer()
    shown: list[str | None] = []
    streams: list[Peer] = []

    def respond(request: Request, peer: Peer) -> None:
        shown.append(request.header("authorization"))
        if request.method == "GET":
            streams.append(peer)  # before the client knows where to send, which it does at once
            peer.stream()
            peer.chunk(b"event: endpoint\ndata: /messages\n\n")
        else:
            peer.answer(b"", "202 Accepted")
            streams[-1].event({"jsonrpc": "2.0", "id": request.json()["id"], "result": {"protocolVersion": "x"}})

    upstream = Upstream(respond)
    gate, journal = gate_of()
    gate.config = Config(state_dir=str(tmp_path))
    headers = {"Authorization": "Bearer <op://Private/a/token>"}
    url = f"http://127.0.0.1:{upstream.port}/sse"
    route = build_route(ServerConfig("x", url=url, transport="sse", headers=headers), gate)
    assert getattr(route, "serves_sse", False)
    try:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        answer = await Client(route).request("init", "initialize", params).end()
        assert answer.status == 200
        assert shown == [f"Bearer {VALUE}"] * 2
        assert [kind for kind, _ in journal.notes] == ["connect"]
    finally:
        await route.close(1.0)
        gate.close()
        upstream.close()


# -- leases and rotations, from a real store


@pytest.fixture(scope="module")
def bao() -> Iterator[Bao]:
    with running_bao() as server:
        yield server


@pytest.fixture(scope="module")
def rabbit(bao: Bao) -> Iterator[Rabbit]:
    with running_rabbit() as found:
        introduce(bao.client(), found)
        yield found


@pytest.fixture
def relay(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    made = Relay(int(bao.address.rpartition(":")[2]))
    made.open.set()
    for name in ("TOKEN", "ADDR", "ROLE_ID", "SECRET_ID", "ROLE", "NAMESPACE", "CACERT", "AUTH_METHOD"):
        monkeypatch.delenv(f"BAO_{name}", raising=False)
        monkeypatch.delenv(f"VAULT_{name}", raising=False)
    monkeypatch.setenv("VAULT_ADDR", made.address)
    monkeypatch.setenv("VAULT_TOKEN", ROOT_TOKEN)
    yield made
    made.close()


def lease_time(bao: Bao, ttl: int, longest: int) -> None:
    bao.client().write_data("rabbitmq/config/lease", data={"ttl": ttl, "max_ttl": longest})


class TestStore:
    pytestmark = slow

    async def test_leases_are_exchanged_and_no_call_is_lost(
        self, bao: Bao, rabbit: Rabbit, relay: Relay, tmp_path: Path
    ) -> None:
        lease_time(bao, 6, 6)  # exchanged after four: two are left on a busy machine
        guarded = Guarded(rabbit.users)
        memo: dict[object, Any] = {}
        try:
            async with route_of(guarded.url, "vault://rabbitmq/creds/short#username", tmp_path) as (route, journal):
                async with asyncio.timeout(60):
                    while len(guarded.shown) < 4:
                        for known in (None, memo):
                            assert (await ask(route, known).end()).status == 200
                        await asyncio.sleep(0.02)
                renewed = [fields for kind, fields in journal.notes if kind == "credential"]
                assert len(renewed) >= 3 and all(fields["state"] == "renewed" for fields in renewed)
                assert not any(one in json.dumps(journal.notes) for one in guarded.shown)
            assert rabbit.wait_for(0)  # given back
        finally:
            guarded.upstream.close()

    async def test_what_cannot_be_renewed_ends_with_its_lease(
        self, bao: Bao, rabbit: Rabbit, relay: Relay, tmp_path: Path
    ) -> None:
        lease_time(bao, 6, 6)
        guarded = Guarded(rabbit.users)
        try:
            async with route_of(guarded.url, "vault://rabbitmq/creds/short#username", tmp_path) as (route, journal):
                assert (await ask(route).end()).status == 200
                relay.broken = True
                failed: list[Any] = []
                async with asyncio.timeout(30):
                    while not failed:  # the store is down, the lease is good
                        assert (await ask(route).end()).status == 200
                        failed = [fields["reason"] for kind, fields in journal.notes if kind == "credential"]
                        await asyncio.sleep(0.02)
                assert "cannot be reached" in failed[0]
                async with asyncio.timeout(30):
                    # At the very end the store may be quicker: then it is the server that refuses.
                    while (answer := await ask(route).end()).status in (200, 401):  # noqa: ASYNC110 - its clock
                        await asyncio.sleep(0.02)
                assert answer.status == 503
                error = answer.json["error"]
                assert error["data"]["rule"] == "credential"
                assert "has ended" in error["message"] and "cannot be reached" in error["message"]
                assert guarded.shown[-1] not in error["message"]
                seen = len(guarded.upstream.requests)
                assert (await ask(route).end()).status == 503
                assert len(guarded.upstream.requests) == seen  # nothing is sent any more
                relay.broken = False
                async with asyncio.timeout(60):
                    while (await ask(route).end()).status != 200:  # noqa: ASYNC110 - its clock
                        await asyncio.sleep(0.05)
                assert len(guarded.shown) == 2
        finally:
            guarded.upstream.close()

    @pytest.mark.parametrize(
        "garbled",
        [(b'"username":"', b'"usernaml":"'), (b'"username":"toke', b'"username":"\xc3\xa9\xc3\xa9')],
        ids=["another member", "no ASCII"],
    )
    async def test_what_comes_back_unusable_does_not_keep_the_old_one_in_use(
        self, bao: Bao, rabbit: Rabbit, relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        garbled: tuple[bytes, bytes],
    ) -> None:  # fmt: skip
        monkeypatch.setattr("callgate.launching.headers.RETRY_S", 1.0)
        lease_time(bao, 4, 4)
        guarded = Guarded(rabbit.users)
        reference = "vault://rabbitmq/creds/short#username"
        try:
            async with route_of(guarded.url, reference, tmp_path) as (route, journal):
                assert (await ask(route).end()).status == 200
                # What comes next seems good for longer: that would hide the end of the first one.
                relay.garbled = {b'"lease_duration":4,': b'"lease_duration":9,', garbled[0]: garbled[1]}
                async with asyncio.timeout(30):
                    # At the very end the store may be quicker: then it is the server that refuses.
                    while (answer := await ask(route).end()).status != 503:  # noqa: ASYNC110 - its clock
                        await asyncio.sleep(0.02)
                error = answer.json["error"]
                assert (answer.status, error["data"]["rule"]) == (503, "credential")
                assert "has ended" in error["message"] and reference in error["message"]
                assert len(guarded.shown) == 1 and guarded.shown[0] not in error["message"]
                seen = len(guarded.upstream.requests)
                assert (await ask(route).end()).status == 503
                assert len(guarded.upstream.requests) == seen  # nothing is sent any more
                assert [fields["state"] for kind, fields in journal.notes if kind == "credential"] == ["failed"]
                await asyncio.sleep(4)  # tried again, without success; the useless ones are not piled up
                assert len(rabbit.users) <= 2
                assert (await ask(route).end()).status == 503
                relay.garbled = {}
                async with asyncio.timeout(30):
                    while (await ask(route).end()).status != 200:  # noqa: ASYNC110 - its clock
                        await asyncio.sleep(0.05)
                states = [fields["state"] for kind, fields in journal.notes if kind == "credential"]
                assert states == ["failed", "renewed"]
                assert len(guarded.shown) == 2
            assert rabbit.wait_for(0)  # given back
        finally:
            guarded.upstream.close()

    async def test_a_rotation(self, bao: Bao, relay: Relay, tmp_path: Path) -> None:
        write: Any = bao.client().secrets.kv.v2.create_or_update_secret
        write("mcp/rotated", {"token": "old-Value-1234"})
        guarded = Guarded({"old-Value-1234", "new-Value-5678"})
        try:
            async with route_of(guarded.url, "vault://secret/mcp/rotated#token", tmp_path) as (route, _):
                assert (await ask(route).end()).status == 200
                write("mcp/rotated", {"token": "new-Value-5678"})
                counter = Generation(tmp_path)
                counter.advance()
                counter.close()
                async with asyncio.timeout(30):
                    while guarded.shown[-1] != "new-Value-5678":
                        assert (await ask(route).end()).status == 200
                        await asyncio.sleep(0.05)
        finally:
            guarded.upstream.close()
