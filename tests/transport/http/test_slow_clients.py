"""Clients that do not read, or read slowly: what they are owed, and when they are let go."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from callgate.config import ListenConfig
from callgate.transport.http import connection, tls
from callgate.transport.http.answering import LINGER_S
from tests.transport.http.harness import HEAD, Client, Gateway, call, post, wait_until
from tests.transport.http.test_tls import certificate, trusting

SHORT = ListenConfig(idle_timeout_s=0.6, header_timeout_s=0.6)


def endless(request: Any, peer: Any) -> bool:
    """A stream that says something for as long as anybody takes it."""
    peer.stream()
    with contextlib.suppress(OSError):
        while True:
            peer.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 60_000}})
    return False


def is_stuck(gateway: Gateway) -> bool:
    return bool(gateway.thread.call(lambda: any(one.write_paused for one in gateway.server.connections)))


@pytest.mark.parametrize(
    "then",
    [
        post(call(2)),
        post(call(2)) * 3,
        post(call(2))[:40],
        b"garbage\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["a request", "three requests", "half a request", "garbage", "a tunnel"],
)
def test_who_never_reads_is_dropped_whatever_it_sends(serve: Any, then: bytes) -> None:
    over: list[bool] = []
    gateway, _ = serve(lambda request, peer: over.append(endless(request, peer)) or False, listen=SHORT)
    stuck = False
    while not stuck:  # on a machine that stands still it may be dropped before anybody sees it
        over.clear()
        with gateway.client() as client:
            client.send(b"GET /s/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert wait_until(lambda: is_stuck(gateway) or over)
            stuck = not over
            with contextlib.suppress(OSError):
                client.send(then)
            assert wait_until(lambda: gateway.connections() == 0)


def test_who_asks_and_never_reads_is_dropped(serve: Any) -> None:
    """Without a token, even: answers to what was refused fill a connection, too."""
    gateway, _ = serve(listen=SHORT)
    with gateway.client() as client:
        client.socket.settimeout(0.3)
        with contextlib.suppress(OSError):
            while True:
                client.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        assert wait_until(lambda: gateway.connections() == 0)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("header", ["Connection: close", "Connection: keep-alive"])
def test_a_large_answer_reaches_who_reads_it_late(serve: Any, tmp_path: Path, header: str, encrypted: bool) -> None:
    def respond(request: Any, peer: Any) -> None:
        peer.result(request, {"content": [{"type": "text", "text": "x" * 12_000_000}]})

    listen = certificate(tmp_path)
    gateway, _ = serve(respond, tls=tls.server_context(listen) if encrypted else None)
    with Client(gateway.port, trusting(listen) if encrypted else None) as client:
        client.send(post(call(), header))
        time.sleep(LINGER_S + 1.5)
        answer = client.answer()
        assert len(answer.body) == int(answer.headers["content-length"])


def test_a_large_answer_may_be_read_slowly(serve: Any) -> None:
    """As long as it is read at all: the idle timeout is not for the whole of it."""

    def respond(request: Any, peer: Any) -> None:
        peer.result(request, {"content": [{"type": "text", "text": "x" * 12_000_000}]})

    gateway, _ = serve(respond, listen=SHORT)
    left, longest = 1, SHORT.idle_timeout_s
    while left and longest > SHORT.idle_timeout_s / 2:  # else nothing is said by being dropped
        with gateway.client() as client:
            client.send(post(call()))
            answer = client.head()
            left, longest, last = int(answer.headers["content-length"]), 0.0, time.monotonic()
            with contextlib.suppress(OSError):
                while left and (data := client.file.read(min(left, 300_000))):
                    time.sleep(0.1)
                    left -= len(data)
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert left == 0


@pytest.mark.parametrize("close", ["", "Connection: close\r\n"])
def test_half_a_request_has_its_own_time(serve: Any, close: str) -> None:
    """Whatever is answered meanwhile."""
    released = threading.Event()

    def respond(request: Any, peer: Any) -> None:
        released.wait(60)
        peer.result(request)

    gateway, _ = serve(respond, listen=ListenConfig(header_timeout_s=0.8, idle_timeout_s=60))
    with gateway.client() as client:
        began = time.monotonic()
        client.send(post(call(1)) + f"POST /s/mcp HTTP/1.1\r\n{close}Host: loc".encode())
        time.sleep(0.3)
        released.set()
        assert client.answer().json()["id"] == 1
        assert client.answer().status == 408
        assert client.at_end()
        assert time.monotonic() - began < 30


def body_in_chunks(client: Client, body: bytes, pieces: int, pause: float) -> None:
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    size = -(-len(body) // pieces)
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        time.sleep(pause)
    client.send(b"0\r\n\r\n")


def test_a_body_in_chunks_has_the_time_of_one_that_says_its_length(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BYTES_PER_S", 64 * 1024)  # 1.5 seconds if nothing counted of what has come
    gateway, _ = serve(listen=ListenConfig(header_timeout_s=0.5))
    with gateway.client() as client:
        body_in_chunks(client, json.dumps(call(5, x="x" * 3_000_000)).encode(), 5, 0.36)
        assert client.answer().json()["id"] == 5


def test_a_body_that_drips_in_chunks_times_out(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BYTES_PER_S", 1024 * 1024)
    gateway, upstream = serve(listen=ListenConfig(header_timeout_s=0.5))
    with gateway.client() as client:
        with contextlib.suppress(OSError):
            body_in_chunks(client, json.dumps(call(5, x="x" * 300)).encode(), 60, 0.05)
        assert client.answer().status == 408
    assert upstream.requests == []


def test_an_answer_does_not_shorten_the_time_of_the_next_body(serve: Any) -> None:
    released = threading.Event()

    def respond(request: Any, peer: Any) -> None:
        if request.json()["id"] == 1:
            released.wait(60)
        peer.result(request)

    gateway, _ = serve(respond, listen=ListenConfig(header_timeout_s=30, idle_timeout_s=0.4))
    second = post(call(2))
    with gateway.client() as client:
        client.send(post(call(1)) + second[:-5])
        assert wait_until(
            lambda: gateway.thread.call(lambda: any(c.message_deadline for c in gateway.server.connections))
        )
        released.set()
        assert client.answer().json()["id"] == 1
        time.sleep(1.2)
        client.send(second[-5:])
        assert client.answer().json()["id"] == 2
