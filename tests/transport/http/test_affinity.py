"""Sealed session ids."""

from __future__ import annotations

from typing import Any

import pytest

from callgate.transport.http.affinity import SESSION_HEADER, AffinityRoute, SessionSeal, WorkerSockets
from callgate.transport.http.exchange import Exchange, Headers
from tests.transport.exchanges import Answer

KEY = b"k" * 32


def test_round_trip() -> None:
    seal = SessionSeal(KEY, 3)
    sealed = seal.seal(b"abc.def", "alice")
    assert sealed.isascii()
    assert SessionSeal(KEY, 0).open(sealed, "alice") == (b"abc.def", 3)


def test_what_was_not_handed_out_to_this_principal_does_not_open() -> None:
    seal = SessionSeal(KEY, 1)
    sealed = seal.seal(b"abc", "alice")
    assert seal.open(sealed, "bob") is None
    assert SessionSeal(b"x" * 32, 1).open(sealed, "alice") is None
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        assert seal.open(bytes(changed), "alice") is None


@pytest.mark.parametrize("text", [b"", b".", b"..", b"abc", b"abc.1", b"abc.1.", b"a.x.y", b"\xff.1.00"])
def test_nonsense_does_not_open(text: bytes) -> None:
    assert SessionSeal(KEY, 1).open(text, "p") is None


def test_principal_and_id_cannot_be_shifted_into_each_other() -> None:
    seal = SessionSeal(KEY, 1)
    assert seal.seal(b"a\nb", "c") != seal.seal(b"a", "b\nc")


class Inner:
    """A route that keeps what it was handed and answers with a session id of its own."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []

    def handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        exchange.respond(200, [(SESSION_HEADER, b"abc")], b"{}")

    async def close(self, grace_s: float) -> None: ...


def asked(headers: Headers, memo: dict[object, Any] | None, principal: str = "alice") -> tuple[Exchange, Answer]:
    sink = Answer()
    exchange = Exchange(sink, b"POST", "/mcp", "", headers, b"{}", principal, "s")
    exchange.memo = memo
    return exchange, sink


def test_a_header_that_comes_again_is_opened_once_and_read_the_same() -> None:
    seal = SessionSeal(KEY, 0)
    inner = Inner()
    route = AffinityRoute(inner, seal, WorkerSockets([]))
    headers = [(b"accept", b"*/*"), (SESSION_HEADER, seal.seal(b"abc", "alice"))]
    memo: dict[object, Any] = {}
    for _ in range(2):
        exchange, sink = asked(headers, memo)
        route.handle(exchange)
        assert sink.headers == {SESSION_HEADER: seal.seal(b"abc", "alice")}
    one, two = inner.seen
    assert one.headers == [(b"accept", b"*/*"), (SESSION_HEADER, b"abc")]
    assert two.headers is one.headers
    assert one.memo is two.memo is not memo, "what the route below derives is of the header it sees"
    assert headers[1][1] != b"abc", "the list shared by all exchanges with this header is not changed"


def test_without_a_memo_and_with_another_every_header_is_opened_for_itself() -> None:
    seal = SessionSeal(KEY, 0)
    inner = Inner()
    route = AffinityRoute(inner, seal, WorkerSockets([]))
    for session in (b"one", b"two"):
        for memo in (None, dict[object, Any]()):
            exchange, _ = asked([(SESSION_HEADER, seal.seal(session, "alice"))], memo)
            route.handle(exchange)
            assert inner.seen[-1].headers == [(SESSION_HEADER, session)]
            assert (inner.seen[-1].memo is None) == (memo is None)


def test_a_session_of_another_principal_is_refused_each_time_and_not_remembered() -> None:
    seal = SessionSeal(KEY, 0)
    inner = Inner()
    route = AffinityRoute(inner, seal, WorkerSockets([]))
    memo: dict[object, Any] = {}
    for _ in range(2):
        exchange, sink = asked([(SESSION_HEADER, seal.seal(b"abc", "alice"))], memo, principal="bob")
        route.handle(exchange)
        assert sink.status == 404
    assert not memo
    assert not inner.seen


def test_answers_that_name_no_session_pass_as_they_are() -> None:
    seal = SessionSeal(KEY, 0)

    class Plain(Inner):
        def handle(self, exchange: Exchange) -> None:
            exchange.respond(200, [(b"content-type", b"application/json")], b"{}")

    exchange, sink = asked([], {})
    AffinityRoute(Plain(), seal, WorkerSockets([])).handle(exchange)
    assert sink.headers == {b"content-type": b"application/json"}
