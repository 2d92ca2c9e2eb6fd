"""Requests in their order, each with its answer."""

from __future__ import annotations

from typing import Any

from tests.transport.http.harness import call, post, wait_until


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


def test_answers_name_their_length_and_date_and_nothing_of_the_software(serve: Any) -> None:
    gateway, _ = serve()
    answer = gateway.ask(post(call()))
    assert answer.headers.keys() == {"content-type", "date", "content-length"}


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
