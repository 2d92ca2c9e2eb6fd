"""What the gate tells a server on its own account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from callgate.transport.http import notices
from callgate.transport.http.route import HttpRoute
from tests.transport.http.harness import call, post, wait_until
from tests.transport.http.test_relay import Judge


def asking(times: int, hear: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A server that asks what is refused, and says something harmless between; `hear` gets the answers."""

    def respond(request: Any, peer: Any) -> Any:
        if "method" not in request.json():
            return hear(request, peer)
        peer.stream()
        for number in range(times):
            peer.event({"jsonrpc": "2.0", "id": 1000 + number, "method": "sampling/createMessage", "params": {}})
            peer.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}})
        peer.event({"jsonrpc": "2.0", "id": 1, "result": {}})
        return peer.end()

    return respond


def test_a_server_that_does_not_answer_what_it_is_told_holds_few_connections(serve: Any) -> None:
    done = threading.Event()

    def hear(request: Any, peer: Any) -> bool:
        done.wait(20)
        return False

    gateway, upstream = serve(asking(300, hear), controls=(Judge(),), server={"request_timeout_s": 3})
    assert gateway.ask(post(call(1))).status == 200
    try:
        assert wait_until(lambda: upstream.connections > notices.MOST)
        time.sleep(0.5)  # for those that would be too many
        assert upstream.connections <= notices.MOST + 1
        # It took none of them in all that time: the others are forgotten.
        assert wait_until(lambda: gateway.thread.call(lambda: len(gateway.route.notices)) == 0)
        assert upstream.connections <= notices.MOST + 1
        assert wait_until(lambda: gateway.thread.call(lambda: len(gateway.route.pool._all)) <= 1)
        assert gateway.ask(post(call(1))).status == 200
    finally:
        done.set()


class Quiet:
    """A route at a time that the test sets, to a server that answers what the test lets it answer."""

    def __init__(self) -> None:
        self.pool = self
        self.sent: list[Any] = []
        self.at(0)

    def at(self, seconds: float) -> None:
        self.deadline = seconds + 10.0

    def send(self, handler: Any, head: bytes, body: bytes) -> Any:
        self.sent.append(handler)
        return SimpleNamespace(cancel=lambda: None)

    def answer(self, index: int) -> None:
        self.sent[index].on_head(202, [])
        self.sent[index].on_end()


@pytest.fixture
def quiet() -> tuple[Quiet, notices.Notices]:
    route = Quiet()
    told = notices.Notices(cast("HttpRoute", route))
    for _ in range(notices.MOST + 5):
        told.add(b"POST / HTTP/1.1", [], b"{}")
    return route, told


def test_who_leaves_one_unanswered_is_told_the_others(quiet: tuple[Quiet, notices.Notices]) -> None:
    route, told = quiet
    route.at(3)
    route.answer(1)
    told.sweep(10.1)
    assert len(route.sent) == notices.MOST + 5 and len(told) == 5  # those of 0 s are given up, those that waited sent


def test_what_waits_is_forgotten_once_nothing_is_taken(quiet: tuple[Quiet, notices.Notices]) -> None:
    route, told = quiet
    told.sweep(10.0)
    assert len(told) == notices.MOST + 5  # not late yet
    told.sweep(10.1)
    assert len(route.sent) == notices.MOST and len(told) == 0
    told.add(b"POST / HTTP/1.1", [], b"{}")
    assert len(route.sent) == notices.MOST + 1  # the next one is tried all the same


def test_an_answer_of_before_says_nothing_of_now(quiet: tuple[Quiet, notices.Notices]) -> None:
    route, told = quiet
    route.at(3)
    for index in range(notices.MOST):
        route.answer(index)
    route.at(4)
    for _ in range(notices.MOST + 5):
        told.add(b"POST / HTTP/1.1", [], b"{}")
    assert len(told) == notices.MOST + 10
    told.sweep(14.1)
    assert len(told) == 0


def test_a_server_that_answers_is_told_all_of_it(serve: Any) -> None:
    told: list[int] = []

    def hear(request: Any, peer: Any) -> None:
        told.append(request.json()["id"])
        peer.answer(b"", "202 Accepted")

    gateway, _ = serve(asking(20, hear), controls=(Judge(),))
    for _ in range(10):
        gateway.ask(post(call(1)))
    assert wait_until(lambda: len(told) == 200)


@pytest.mark.parametrize("answer", ["stream", "hang up", "garbage"])
def test_whatever_the_server_answers_is_dropped(serve: Any, answer: str) -> None:
    def hear(request: Any, peer: Any) -> Any:
        if answer == "stream":
            peer.stream()
            peer.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}})
            return peer.closed_within(10) and False
        if answer == "garbage":
            peer.send(b"what?\r\n\r\n")
        return False

    gateway, _ = serve(asking(20, hear), controls=(Judge(),))
    for _ in range(10):
        assert b'"id":1' in gateway.ask(post(call(1))).body
    assert wait_until(lambda: gateway.thread.call(lambda: len(gateway.route.notices)) == 0)
