"""The upstream pool: reuse, retry, desynchronisation, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest

from callgate.errors import AuditError
from callgate.transport.http import client as module
from tests.transport.http.harness import call, post, wait_until

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)


def test_connections_are_reused_last_in_first_out(serve: Any) -> None:
    gateway, upstream = serve()
    clients = [gateway.client() for _ in range(5)]
    for client in clients:
        client.send(post(call()))
    for client in clients:
        assert client.answer().status == 200
    opened = upstream.connections
    for _ in range(20):
        clients[0].send(post(call()))
        assert clients[0].answer().status == 200
    assert upstream.connections == opened <= 5
    for client in clients:
        client.close()


def test_idle_connections_are_closed(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE_S", 1.2)
    gateway, _ = serve()
    assert gateway.ask(post(call())).status == 200
    pool = gateway.route.pool
    assert len(pool._idle) == 1
    assert wait_until(lambda: not pool._idle and not pool._all)


def dies_on_reuse(request: Any, peer: Any) -> bool:
    """Answer the first request of a connection, and read the second without an answer."""
    if getattr(peer.socket, "used", False) or id(peer.socket) in SEEN:
        return False
    SEEN.add(id(peer.socket))
    peer.send(HEAD + ANSWER)
    return True


SEEN: set[int] = set()


@pytest.mark.parametrize(("method", "status", "requests"), [("tools/list", 200, 3), ("tools/call", 502, 2)])
def test_only_repeatable_requests_are_sent_again_and_once(serve: Any, method: str, status: int, requests: int) -> None:
    SEEN.clear()
    gateway, upstream = serve(dies_on_reuse)
    assert gateway.ask(post(call(1, method))).status == 200
    assert gateway.ask(post(call(1, method))).status == status
    assert len(upstream.requests) == requests


def test_a_fresh_connection_that_dies_is_not_tried_again(serve: Any) -> None:
    gateway, upstream = serve(lambda request, peer: False)
    assert gateway.ask(post(call(1, "tools/list"))).status == 502
    assert len(upstream.requests) == 1


def test_a_request_whose_answer_has_begun_is_not_sent_again(serve: Any) -> None:
    count = iter(range(10))

    def respond(request: Any, peer: Any) -> bool:
        if next(count) == 0:
            peer.send(HEAD + ANSWER)
            return True
        peer.send(HEAD + ANSWER[:5])
        return False

    gateway, upstream = serve(respond)
    assert gateway.ask(post(call(1, "tools/list"))).status == 200
    assert gateway.ask(post(call(1, "tools/list"))).status == 502
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"garbage", b"\r\n\r\nHTTP/1.1 "])
@pytest.mark.parametrize("together", [True, False])
def test_bytes_nobody_asked_for_never_answer_the_next_request(serve: Any, extra: bytes, together: bool) -> None:
    def respond(request: Any, peer: Any) -> bool:
        body = json.dumps({"jsonrpc": "2.0", "id": request.json()["id"], "result": {}}).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        if together:
            peer.send(head + body + extra)
        else:
            peer.send(head + body)
            time.sleep(0.05)
            peer.send(extra)
        return True

    gateway, _ = serve(respond)
    with gateway.client() as client:
        for number in range(3):
            client.send(post(call(number)))
            assert client.answer().json()["id"] == number
            time.sleep(0.1)


def test_pipelined_clients_do_not_meet_leftovers(serve: Any) -> None:
    """The next request may go out from inside the end of the last answer: not on a connection with bytes left over."""

    def respond(request: Any, peer: Any) -> bool:
        body = json.dumps({"jsonrpc": "2.0", "id": request.json()["id"], "result": {}}).encode()
        evil = b'{"jsonrpc":"2.0","id":1,"result":{"evil":1}}'
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        peer.send(b"".join(head.format(len(data)).encode() + data for data in (body, evil)))
        return True

    gateway, _ = serve(respond)
    with gateway.client() as client:
        client.send(post(call(0)) + post(call(1)) + post(call(2)))
        assert b"evil" not in b"".join(client.answer().body for _ in range(3))


def test_connection_close_of_the_server_is_obeyed(serve: Any) -> None:
    gateway, upstream = serve(lambda request, peer: peer.answer(ANSWER, headers="Connection: close\r\n"))
    for _ in range(3):
        assert gateway.ask(post(call())).status == 200
    assert upstream.connections == 3


def test_a_name_that_does_not_resolve(serve: Any) -> None:
    gateway, _ = serve()
    gateway.route.pool.origin.host = "does-not-exist.invalid"
    answer = gateway.ask(post(call()))
    assert answer.status == 502
    assert "cannot reach the server" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://localhost:81/mcp?x=1", b"localhost:81", b"/mcp?x=1"),
        ("http://localhost", b"localhost", b"/"),
        ("https://EXAMPLE.com:443/a", b"example.com", b"/a"),
        ("http://[::1]:80/a", b"[::1]", b"/a"),
        ("http://[::1]:81/a", b"[::1]:81", b"/a"),
        ("https://b\u00fccher.example/", b"xn--bcher-kva.example", b"/"),
    ],
)
def test_origins(url: str, host: bytes, target: bytes) -> None:
    origin = module.Origin(url)
    assert (origin.host_header, origin.target) == (host, target)


def test_a_burst_does_not_open_all_its_connections_at_once(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opening: list[int] = []
    most: list[int] = []

    async def slowly(pool: Any, request: Any, before: Any = module.Pool._open) -> None:
        opening.append(1)
        most.append(len(opening))
        await asyncio.sleep(0.02)  # as to a server further away
        await before(pool, request)
        opening.pop()

    monkeypatch.setattr(module, "MAX_OPENING", 4)
    monkeypatch.setattr(module.Pool, "_open", slowly)
    gateway, upstream = serve()
    clients = [gateway.client() for _ in range(100)]
    for number, client in enumerate(clients):
        client.send(post(call(number)))
    assert [client.answer().json()["id"] for client in clients] == list(range(100))
    assert max(most) == 4
    assert upstream.connections < 100, "released connections serve what waits"
    for client in clients:
        client.close()


def test_a_trailer_without_end_is_cut(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> bool:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        peer.send(b"0\r\nX: ")
        with contextlib.suppress(OSError):
            for _ in range(4096):
                peer.send(b"x" * 4096)
        return False

    gateway, _ = serve(respond)
    answer = gateway.ask(post(call()))
    assert answer.status == 502
    assert "trailer" in answer.json()["error"]["message"]


def test_a_full_disk_does_not_keep_the_caller_waiting(serve: Any) -> None:
    gateway, _ = serve(lambda request, peer: False)
    journal = gateway.route.gate.journal

    class Full:
        scope = staticmethod(journal.scope)

        def note(self, kind: str, fields: dict[str, object]) -> int:
            raise AuditError("disk full")

    gateway.route.gate.journal = Full()
    assert gateway.ask(post(call())).status == 502
    gateway.route.gate.journal = journal
