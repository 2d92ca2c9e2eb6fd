"""What is a request and what is not: framing, versions, limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callgate.config import Limits, ListenConfig
from tests.transport.http import gated
from tests.transport.http.harness import HEAD, call, modern, post, wait_until
from tests.transport.http.test_refusals import refused

SMUGGLING = {
    "length and chunked": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two different lengths": b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": b"Content-Length: +2\r\n\r\n{}",
    "a hexadecimal length": b"Content-Length: 0x2\r\n\r\n{}",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Content-Length : 2\r\n\r\n{}",
    "a folded line": b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a bare line feed": b"X: a\nContent-Length: 2\r\n\r\n{}",
    "NUL in a value": b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a bare carriage return": b"X: a\rContent-Length: 2\r\n\r\n{}",
    "a bad chunk size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_ambiguous_framing_is_refused_and_the_connection_closed(serve: Any, rest: bytes) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        client.send(HEAD + rest + b"POST /s/mcp HTTP/1.1\r\n")
        assert client.answer().status == 400
        assert client.at_end()
    assert upstream.requests == []


def test_a_request_in_single_bytes(serve: Any) -> None:
    gateway, _ = serve()
    with gateway.client() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in modern(7):
            client.send(bytes([byte]))
        assert client.answer().json()["id"] == 7


def test_chunked_body(serve: Any) -> None:
    gateway, upstream = serve()
    body = json.dumps(call(3)).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\nX-Trailer: no\r\nHost: evil\r\n\r\n"
    answer = gateway.ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.json()["id"] == 3
    assert upstream.requests[0].header("x-trailer") is None
    assert upstream.requests[0].json() == call(3)


@pytest.mark.parametrize("version", ["2.0", "0.9", "1.2"])
def test_other_http_versions_are_refused(serve: Any, version: str) -> None:
    gateway, _ = serve()
    assert gateway.ask(post(call(), version=version)).status in (400, 505)


def test_expect_100_continue(serve: Any) -> None:
    gateway, _ = serve()
    request = post(call(5), "Expect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    with gateway.client() as client:
        client.send(head + b"\r\n\r\n")
        assert client.answer().status == 100
        client.send(body)
        assert client.answer().json()["id"] == 5


def test_expect_is_refused_before_the_body_is_sent(serve: Any) -> None:
    gateway, _ = serve()
    with gateway.client() as client:
        client.send(post(b"", "Expect: 100-continue", host="evil.example").replace(b"Length: 0", b"Length: 9"))
        assert client.answer().status == 421
    with gateway.client() as client:
        client.send(post(call(), "Expect: something"))
        assert client.answer().status == 417


@pytest.mark.parametrize(
    "request_line", ["OPTIONS /s/mcp", "PUT /s/mcp", "PATCH /s/mcp", "HEAD /s/mcp", "TRACE /s/mcp"]
)
def test_other_methods_are_405_with_allow(serve: Any, request_line: str) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        client.send(f"{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = client.head()
        assert answer.status == 405
        assert answer.headers["allow"] == "DELETE, GET, POST"
    assert upstream.requests == []


@pytest.mark.parametrize("request_line", ["BREW /s/mcp", "CONNECT a:1", "PRI *"])
def test_strange_methods_close_the_connection(serve: Any, request_line: str) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        client.send(f"{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + post(call()))
        assert client.head().status in (400, 404, 405)
    assert upstream.requests == []


UPGRADES = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "websocket": ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "two of them": ("Upgrade: h2c, TLS/1.2", "Connection: upgrade", "Upgrade: IRC/6.9"),
    "in two fields": ("Connection: keep-alive", "Connection: Upgrade", "Upgrade: h2c"),
}


@pytest.mark.parametrize("wish", UPGRADES.values(), ids=UPGRADES)
def test_a_wish_for_another_protocol_is_ignored(serve: Any, wish: tuple[str, ...]) -> None:
    """RFC 9110 section 7.8: a server answers in the protocol of the request."""
    gateway, upstream = serve()
    with gateway.client() as client:
        for _ in range(2):
            client.send(b"".join((post(call(1), *wish), post(call(2)), post(call(3), *wish))))
            assert [client.answer().json()["id"] for _ in range(3)] == [1, 2, 3]
    assert [request.json()["id"] for request in upstream.requests] == [1, 2, 3] * 2
    for request in upstream.requests:
        names = {name for name, _ in request.headers}
        assert names.isdisjoint({"upgrade", "http2-settings", "connection"})


def test_a_wish_for_another_protocol_that_comes_byte_by_byte(serve: Any) -> None:
    gateway, upstream = serve()
    data = post(call(7), *UPGRADES["h2c"]) + post(call(8))
    with gateway.client() as client:
        for at in range(len(data)):
            client.send(data[at : at + 1])
        assert [client.answer().json()["id"] for _ in range(2)] == [7, 8]
    assert len(upstream.requests) == 2


def test_a_chunked_request_with_a_wish_for_another_protocol(serve: Any) -> None:
    gateway, _ = serve()
    body = json.dumps(call(5)).encode()
    head = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    with gateway.client() as client:
        client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) + post(call(6)))
        assert [client.answer().json()["id"] for _ in range(2)] == [5, 6]


def test_thousands_of_wishes_in_one_piece_do_not_recurse(serve: Any) -> None:
    gateway, _ = serve()
    asked = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with gateway.client() as client:
        client.send(asked * 3000)
        assert {client.answer().status for _ in range(3000)} == {404}


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_a_wish_for_another_protocol_hides_no_ambiguous_framing(serve: Any, rest: bytes) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        client.send(HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + rest + b"POST /s/mcp HTTP/1.1\r\n")
        assert client.answer().status == 400
        assert client.at_end()
    assert upstream.requests == []


def test_a_wish_for_another_protocol_passes_no_limit_and_no_check(serve: Any) -> None:
    gateway, upstream = serve(**small(header_bytes=2048))
    wish = UPGRADES["h2c"]
    assert gateway.ask(post(call(), *wish, host="evil.example")).status == 421
    assert gateway.ask(post(call(), *wish, "Origin: https://evil.example")).status == 403
    assert gateway.ask(post(call(), *wish, "X: " + "a" * 3000)).status == 431
    assert gateway.ask(post(call(), *wish, *(f"X{number}: a" for number in range(130)))).status == 431
    assert upstream.requests == []


def test_what_follows_a_tunnel_is_not_read(serve: Any) -> None:
    gateway, upstream = serve()
    failures: list[Any] = []
    gateway.thread.loop.set_exception_handler(lambda _, context: failures.append(context))
    with gateway.client() as client:
        client.send(b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + post(call(2)))
        assert client.answer().status == 404
        assert client.at_end()
    assert upstream.requests == []
    assert not failures


def test_a_compressed_body_is_refused(serve: Any) -> None:
    """What was inspected as it stands, a server would read as something compressed."""
    gateway, upstream = serve()
    for encoding in ("gzip", "br", "identity, deflate", "x"):
        assert gateway.ask(post(call(), f"Content-Encoding: {encoding}")).status == 415
    assert gateway.ask(post(call(), "Content-Encoding: gzip", "Content-Encoding: identity")).status == 400
    assert upstream.requests == []
    assert gateway.ask(post(call(), "Content-Encoding: Identity")).status == 200


def test_absolute_form_is_not_served(serve: Any) -> None:
    gateway, upstream = serve()
    assert gateway.ask(post(call(), path="http://127.0.0.1:8484/s/mcp")).status == 404
    assert upstream.requests == []


def small(**limits: Any) -> dict[str, Any]:
    return {"listen": ListenConfig(**limits)}


@pytest.mark.parametrize("cut", [0, 100])
def test_header_limit_of_a_request_that_comes_behind_another_one(serve: Any, cut: int) -> None:
    gateway, upstream = serve(**small(header_bytes=2048))
    data = post(call(1)) + post(call(2), "X: " + "a" * 1000) + post(call(3), "X: " + "a" * 3000)
    with gateway.client() as client:
        client.send(data[: len(data) - cut])
        assert [client.answer().status for _ in range(2)] == [200, 200]
        client.send(data[len(data) - cut :])
        assert client.answer().status == 431
        assert client.at_end()
    assert [request.json()["id"] for request in upstream.requests] == [1, 2]


def test_header_limit_in_one_piece_and_drop_by_drop(serve: Any) -> None:
    gateway, upstream = serve(**small(header_bytes=2048))
    assert gateway.ask(post(call(), "X: " + "a" * 3000)).status == 431
    with gateway.client() as client:
        client.send(b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(10):
            client.send(b"a" * 500)
            time.sleep(0.005)
        assert client.answer().status == 431
        assert client.at_end()
    assert gateway.ask(post(call(), *(f"X-{n}: 1" for n in range(130)))).status == 431
    assert upstream.requests == []
    assert gateway.ask(post(call(), "X: " + "a" * 1000)).status == 200


def test_target_limit(serve: Any) -> None:
    gateway, _ = serve()
    assert gateway.ask(post(call(), path="/" + "a" * 9000)).status == 414


def test_body_limit_by_length_and_by_count(serve: Any) -> None:
    gateway, upstream = serve(config=None, listen=ListenConfig())
    gateway.thread.call(lambda: _shrink(gateway, 1000))
    with gateway.client() as client:
        client.send(HEAD + b"Content-Length: 5000000\r\n\r\n")
        assert client.answer().status == 413, "refused before the body is sent"
        assert client.at_end()
    with gateway.client() as client:
        client.send(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"258\r\n" + b"x" * 600 + b"\r\n258\r\n" + b"x" * 600
        )
        assert client.answer().status == 413
    big = HEAD + b"Content-Length: 400000\r\n\r\n" + b"x" * 400000
    assert gateway.ask(big).status == 413, "the refusal arrives although the client is still sending"
    assert upstream.requests == []


def _shrink(gateway: Any, size: int) -> None:

    gateway.server.site = replace(gateway.server.site, limits=Limits(request_bytes=size))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_limit_that_comes_with_the_body_holds(serve: Any, chunked: bool) -> None:
    gateway, upstream = serve()
    body = json.dumps(call(1, x="x" * 2000)).encode()
    data = post(body)
    if chunked:
        data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with gateway.client() as client:
        client.send(data[:-6])
        assert wait_until(
            lambda: gateway.thread.call(lambda: any(c.message_deadline for c in gateway.server.connections))
        )
        gateway.thread.call(lambda: _shrink(gateway, 1000))
        client.send(data[-6:])
        assert client.answer().status == 413
        assert client.at_end()
    assert upstream.requests == []
    assert refused(gateway)[0]["route"] == "s"


@pytest.mark.parametrize("reloaded", [True, False])
def test_rules_that_come_with_the_body_know_whom_another_worker_vouched_for(tmp_path: Path, reloaded: bool) -> None:
    data = gated.post(call(1), "X-Callgate-Principal: alice")

    async def asked() -> list[Any]:
        gate = gated.Gated("none", tmp_path / "state")
        gate.send(0, data[:-6])
        if reloaded:
            gate.renew()
        gate.send(0, data[-6:])
        assert b"x-callgate-principal" not in gate.pool.ends[0][1].out.lower(), "the server does not learn who asks"
        return [record["scope"]["principal"] for record in gate.evidence() if record["kind"] == "decision"]

    assert asyncio.run(asked()) == ["alice"]


@pytest.mark.parametrize(
    "start", [b"0\r\nX: ", b"0\r\nX: a\r\nY: ", b"1;"], ids=["trailer", "second trailer", "extension"]
)
def test_a_trailer_has_a_limit(serve: Any, start: bytes) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + start)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                client.send(b"x" * 4096)
        assert client.answer().status == 431
    assert not upstream.requests
