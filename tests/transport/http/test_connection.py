"""Connections of clients: how many, and for how long."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.transport.http.harness import HEAD, call, modern, post, wait_until
from tests.transport.http.test_request_reader import small


def test_connection_limit(serve: Any) -> None:
    gateway, _ = serve(**small(connections=3))
    held = [gateway.client() for _ in range(3)]
    assert wait_until(lambda: gateway.connections() == 3)
    with gateway.client() as client:
        assert client.answer().status == 503
        assert client.at_end()
    held[0].close()
    assert wait_until(lambda: gateway.connections() == 2)
    assert gateway.ask(post(call())).status == 200
    for client in held[1:]:
        client.close()


@pytest.mark.parametrize("start", [b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nX-A", HEAD + b"X: 1\r\n"])
def test_slow_headers_time_out(serve: Any, start: bytes) -> None:
    gateway, _ = serve(**small(header_timeout_s=0.4))
    began = time.monotonic()
    with gateway.client() as client:
        client.send(start)
        assert client.answer().status == 408
        assert client.at_end()
    assert 0.3 < time.monotonic() - began < 9  # by default it would be 10


def test_a_drip_of_header_bytes_does_not_extend_the_time(serve: Any) -> None:
    gateway, _ = serve(**small(header_timeout_s=0.4))
    began = time.monotonic()
    with gateway.client() as client, pytest.raises(OSError):
        client.send(b"POST /s/mcp HTTP/1.1\r\nX: ")
        while time.monotonic() - began < 9:
            client.send(b"a")
            time.sleep(0.05)
    assert time.monotonic() - began < 9  # by default it would be 10


def test_a_connection_that_says_nothing_is_closed(serve: Any) -> None:
    gateway, _ = serve(**small(header_timeout_s=0.3))
    with gateway.client() as client:
        assert client.at_end(9)  # by default it would be 10


def test_idle_keep_alive_connections_are_closed(serve: Any) -> None:
    gateway, _ = serve(**small(idle_timeout_s=0.3))
    with gateway.client() as client:
        began = time.monotonic()
        client.send(post(call()))
        assert client.answer().status == 200
        assert client.at_end()  # by default it would be more than a minute
        assert time.monotonic() - began > 0.15


def test_a_long_call_is_not_idle(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> None:
        time.sleep(1.2)
        peer.result(request)

    gateway, _ = serve(respond, **small(idle_timeout_s=0.3, header_timeout_s=0.3))
    assert gateway.ask(post(call())).status == 200


def test_many_connections_at_once(serve: Any) -> None:
    gateway, _ = serve()
    clients = [gateway.client() for _ in range(100)]
    for number, client in enumerate(clients):
        client.send(modern(number))
    assert [client.answer().json()["id"] for client in clients] == list(range(100))
    for client in clients:
        client.close()
    assert wait_until(lambda: gateway.connections() == 0)
