"""The server side of HTTP/1.1: framing, limits, order, back-pressure, timeouts."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import pytest

from callgate.config import Limits, ListenConfig
from callgate.transport.http import refusals
from tests.transport.http.harness import call, modern, post, wait_until

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
HEAD = b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_ambiguous_framing_is_refused_and_the_connection_closed(serve: Any, rest: bytes) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        client.send(HEAD + rest + b"POST /s/mcp HTTP/1.1\r\n")
        assert client.answer().status == 400
        assert client.at_end()
    assert upstream.requests == []


def test_keep_alive_and_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        client.send(b"".join(post(call(number)) for number in range(50)))
        assert [client.answer().json()["id"] for _ in range(50)] == list(range(50))
    assert upstream.connections == 1, "one request at a time needs one upstream connection"


def test_thousands_of_pipelined_requests_neither_recurse_nor_run_ahead(serve: Any) -> None:
    gateway, _ = serve()
    with gateway.client() as client:
        client.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3000)
        assert {client.answer().status for _ in range(3000)} == {404}


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


def test_http_1_0_is_answered_and_closed(serve: Any) -> None:
    gateway, _ = serve()
    with gateway.client() as client:
        client.send(post(call(), "Connection: keep-alive", version="1.0"))
        answer = client.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert client.at_end()


def test_http_1_0_streams_until_close(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> None:
        peer.stream()
        peer.event({"jsonrpc": "2.0", "id": 1, "result": {}})
        peer.end()

    gateway, _ = serve(respond)
    answer = gateway.ask(post(call(), version="1.0"))
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'


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


# -- limits ------------------------------------------------------------------------------------------


def small(**limits: Any) -> dict[str, Any]:
    return {"listen": ListenConfig(**limits)}


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
    from dataclasses import replace

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


# -- time --------------------------------------------------------------------------------------------


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
        assert client.at_end(3)


def test_idle_keep_alive_connections_are_closed(serve: Any) -> None:
    gateway, _ = serve(**small(idle_timeout_s=0.3))
    with gateway.client() as client:
        client.send(post(call()))
        assert client.answer().status == 200
        began = time.monotonic()
        assert client.at_end(3)
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


def test_answers_name_their_length_and_date_and_nothing_of_the_software(serve: Any) -> None:
    gateway, _ = serve()
    answer = gateway.ask(post(call()))
    assert answer.headers.keys() == {"content-type", "date", "content-length"}


def refused(gateway: Any) -> list[dict[str, Any]]:
    return [fields for kind, fields in gateway.notes if kind == "http-refused"]


def test_refusals_are_evidence_and_a_flood_of_them_is_counted(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "SUMMARY_S", 0.5)
    gateway, _ = serve()
    for _ in range(50):
        gateway.ask(post(call(), "Authorization: Bearer 0123456789abcdef", host="evil\u202e.example"))
    assert wait_until(lambda: sum(fields["count"] for fields in refused(gateway)) == 50)
    first, *_, last = refused(gateway)
    port = first.pop("port")
    assert isinstance(port, int)
    assert first == {
        "status": 421, "rule": "http-host", "route": "s", "method": "POST", "peer": "127.0.0.1",
        "host": "evil\\u202e.example", "authorization": "sent", "count": 1,
    }  # fmt: skip
    assert last.keys() == {"status", "rule", "route", "peers", "count"}
    assert last["peers"] == ["127.0.0.1"]
    assert len(refused(gateway)) <= 14
    assert "0123456789abcdef" not in repr(gateway.notes)


AT_THE_DOOR = {
    "origin": (post(call(), "Origin: https://evil.example"), "http-origin", {"origin": "https://evil.example"}),
    "user in origin": (
        post(call(), "Origin: https://me:hush@evil.example"),
        "http-origin",
        {"origin": "https://…@evil.example"},
    ),
    "user in host": (post(call(), host="me:hu@hush@evil.example"), "http-host", {"host": "…@evil.example"}),
    "type": (b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", "http-content-type", {}),
    "method": (b"PUT /s/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n", "http-method", {"method": "PUT", "route": "s"}),
    "head": (
        b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nA: b\r\nX : 1\r\n\r\n",
        "http-malformed",
        {"host": "localhost"},
    ),
    "no head at all": (b"\x16\x03\x01\x02\x00\x01", "http-method", {"peer": "127.0.0.1"}),
    "length": (HEAD + b"Content-Length: 99999999\r\n\r\n", "http-body-size", {"route": "s", "method": "POST"}),
    "target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", "http-target-size", {}),
    "session": (post(call(), "Mcp-Session-Id: a", "Mcp-Session-Id: b"), "header-repeated", {"principal": "local"}),
    "path": (b"GET /.env?token=hush HTTP/1.1\r\nHost: localhost\r\n\r\n", "http-path", {"path": "/.env"}),
    "strange path": (
        b"GET /a/%e2%80%ae/%7e/550e8400-e29b-41d4-a716-446655440000/b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "http-path",
        {"path": "/a/…/…/…/b"},
    ),
    "key in a path": (
        b"GET /sse/ghp_16C7e42F292c6912E7710c838347Ae178B4a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "http-path",
        {"path": "/sse/…"},
    ),
}


@pytest.mark.parametrize(("data", "rule", "facts"), AT_THE_DOOR.values(), ids=AT_THE_DOOR)
def test_each_refusal_at_the_door_says_why_and_who(serve: Any, data: bytes, rule: str, facts: dict[str, Any]) -> None:
    gateway, _ = serve()
    assert gateway.ask(data).status >= 400
    assert wait_until(lambda: refused(gateway))
    (told,) = refused(gateway)
    assert told["rule"] == rule
    assert told.items() >= facts.items()
    assert "hush" not in repr(told)
    assert "ghp_" not in repr(told)


def test_what_waits_behind_an_answer_that_was_cut_is_not_begun(serve: Any) -> None:
    class Cut:
        begun: list[str]

        def handle(self, exchange: Any) -> None:
            self.begun.append(exchange.query)
            if len(self.begun) == 1:
                self.first = exchange
            else:
                exchange.abort()

        async def close(self, grace_s: float) -> None: ...

    route = Cut()
    route.begun = []
    gateway, _ = serve(route=route)
    with gateway.client() as client:
        client.send(b"".join(post(call(), path=f"/s/mcp?{number}") for number in range(5)))
        assert wait_until(lambda: route.begun)
        gateway.thread.call(lambda: route.first.respond(200, [], b"{}"))
        assert client.answer().status == 200
        assert client.at_end()
    assert route.begun == ["0", "1"]


def test_a_route_that_fails_costs_one_request(serve: Any) -> None:
    class Broken:
        def handle(self, exchange: Any) -> None:
            raise RuntimeError("secret words")

        async def close(self, grace_s: float) -> None: ...

    gateway, _ = serve(route=Broken())
    with gateway.client() as client:
        for _ in range(2):
            client.send(post(call()))
            answer = client.answer()
            assert answer.status == 500
            assert b"secret" not in answer.body
    assert gateway.notes[0][0] == "internal-error"


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
