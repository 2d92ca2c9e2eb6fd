"""What bytes of a peer may cost in memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.transport.http.harness import HEAD, call, post, wait_until

SIZE = 1_000_000


@pytest.fixture
def traced() -> Iterator[Any]:
    """How much more Python holds than at the start."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def body_of(size: int) -> bytes:
    return json.dumps(call(1, x="x" * size)).encode()


@pytest.mark.parametrize("chunked", [False, True])
def test_an_idle_connection_keeps_nothing_of_the_last_body(serve: Any, traced: Any, chunked: bool) -> None:
    gateway, upstream = serve(lambda request, peer: peer.answer(b'{"jsonrpc":"2.0","id":1,"result":{}}'))
    body = body_of(SIZE)
    data = post(body)
    if chunked:
        data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    clients = [gateway.client() for _ in range(8)]
    before = traced()
    for client in clients:
        client.send(data)
        assert client.answer().status == 200
        upstream.requests.clear()
    assert traced() - before < 2 * SIZE
    for client in clients:
        client.close()


def test_a_body_in_tiny_chunks_costs_what_it_weighs(serve: Any, traced: Any) -> None:
    gateway, _ = serve()
    body = body_of(SIZE)
    chunks = b"".join(b"3\r\n%b\r\n" % body[at : at + 3] for at in range(0, len(body) // 3 * 3, 3))
    with gateway.client() as client:
        before = traced()
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert wait_until(
            lambda: gateway.thread.call(lambda: any(c._reader.size >= SIZE for c in gateway.server.connections))
        )

        held = traced() - before
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) % 3, body[len(body) // 3 * 3 :]))
        assert client.answer().json()["id"] == 1
    assert held < 3 * SIZE


def test_an_answer_in_tiny_pieces_costs_what_it_weighs(serve: Any, traced: Any) -> None:
    answer = b'{"jsonrpc":"2.0","id":1,"result":{"x":"%b"}}' % (b"x" * SIZE)
    pieces = b"".join(b"3\r\n%b\r\n" % answer[at : at + 3] for at in range(0, len(answer) // 3 * 3, 3))

    def respond(request: Any, peer: Any) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces)
        assert wait_until(lambda: any(relay._size >= SIZE for relay in tuple(gateway.route._relays)))
        held.append(traced() - before[0])
        peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer) % 3, answer[len(answer) // 3 * 3 :]))

    held: list[int] = []
    before: list[int] = []
    gateway, _ = serve(respond)
    with gateway.client() as client:
        before.append(traced())
        client.send(post(call(1)))
        assert client.answer().body == answer
    assert held[0] < 3 * SIZE
