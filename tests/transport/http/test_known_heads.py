"""Heads that come again: only what frames the same way skips the parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.config import Config
from callgate.transport.http.known_heads import TEMPLATE_BYTES, body_start, split
from tests.transport.http.harness import call, modern, post

BODY = b'{"a":1}'


def message(*lines: bytes, body: bytes = BODY) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", *lines, b"", b""]) + body


def test_the_template_is_the_head_without_the_digits() -> None:
    one = split(message(b"A: b", b"Content-Length: 7"))
    two = split(message(b"A: b", b"Content-Length: 10", body=b"0123456789"))
    assert one is not None
    assert two is not None
    assert one[0] == two[0] == b"POST / HTTP/1.1\r\nA: b\r\nContent-Length: \r\n\r\n"
    assert one[1] == one[0].index(b"\r\n\r\n")
    assert message(b"A: b", b"Content-Length: 7")[one[2] :] == BODY


OTHERS = pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST / HTTP/1.1\r\n",
        message(b"A: b"),
        message(b"Content-Length: 8"),
        message(b"Content-Length: 6"),
        message(b"Content-Length: +7"),
        message(b"Content-Length:  7"),
        message(b"Content-Length: 7 "),
        message(b"Content-Length: 0x7"),
        message(b"Content-Length: "),
        message(b"Content-Length: \xc2\xb27"),
        message(b"Content-Length: 0000000007"),
        message(b"CONTENT-LENGTH: 7"),
        message(b"X: " + b"a" * TEMPLATE_BYTES, b"Content-Length: 7"),
        message(b"Content-Length: 7") + message(b"Content-Length: 7"),
    ],
)


def halves(data: bytes) -> tuple[bytes, bytes]:
    found = split(data)
    assert found is not None
    template, at, _ = found
    return template[:at], template[at:]


@OTHERS
def test_anything_else_goes_through_the_parser(data: bytes) -> None:
    assert split(data) is None
    assert body_start(*halves(message(b"Content-Length: 7")), data) == 0
    assert body_start(*halves(message(b"A: b", b"content-length: 7", b"X: y")), data) == 0


def test_the_last_head_is_seen_again_whatever_the_length_of_the_body() -> None:
    before, after = halves(message(b"A: b", b"Content-Length: 7", b"X: y"))
    for size in (0, 1, 9, 10, 99, 100, 12345):
        data = message(b"A: b", b"Content-Length: %d" % size, b"X: y", body=b"x" * size)
        assert data[body_start(before, after, data) :] == b"x" * size
        for wrong in (data + b"x", data[:-1], data.replace(b"A: b", b"A: c"), data.replace(b"X: y", b"X: z")):
            assert body_start(before, after, wrong) == 0


_PIECE = st.sampled_from(
    [
        b"POST / HTTP/1.1",
        b"\r\n",
        b"Content-Length: ",
        b"content-length: ",
        b"7",
        b"0",
        b"12",
        b"A: b",
        b"x",
        b"\r",
        b" ",
    ]
)


@given(st.lists(_PIECE, max_size=14), st.lists(_PIECE, max_size=14))
@settings(max_examples=600)
def test_what_follows_a_known_head_frames_as_split_says(first: list[bytes], second: list[bytes]) -> None:
    known, data = b"".join(first), b"".join(second)
    for start in (known, message(b"A: b", b"Content-Length: 7")):
        found = split(start)
        if found is None:
            continue
        template, at, _ = found
        for candidate in (data, start, template[:at] + data, template[:at] + b"7" + template[at:] + data):
            body = body_start(template[:at], template[at:], candidate)
            if body:
                again = split(candidate)
                assert again is not None
                assert (again[0], again[2]) == (template, body)


def test_what_was_admitted_is_admitted_again_and_nothing_more(serve: Any) -> None:
    gateway, upstream = serve()
    with gateway.client() as client:
        for number in range(3):
            client.send(post(call(number)))
            assert client.answer().json()["id"] == number
    known = gateway.server.site.known
    assert len(known) == 1
    for data, status in (
        (post(call(), host="evil.example"), 421),
        (post(call(), "Origin: http://evil.example"), 403),
        (post(call(), "Content-Length: 3"), 400),
        (post(call(), "Transfer-Encoding: chunked"), 400),
        (post(call(), "Expect: 100-continue"), 100),
        (post(call(), version="1.0"), 200),
        (post(call(), "Connection: close"), 200),
        (post(call(), path="/nothing"), 404),
    ):
        for _ in range(2):
            assert gateway.ask(data).status == status
    assert len(known) == 1
    assert len(upstream.requests) == 9


def test_limits_and_new_rules_hold_for_known_heads(serve: Any) -> None:
    from dataclasses import replace

    from callgate.config import Limits

    gateway, _ = serve()
    small, large = post(call(1, x="x" * 100)), post(call(1, x="x" * 900))
    with gateway.client() as client:
        for data in (small, large, small):
            client.send(data)
            assert client.answer().status == 200
        site = replace(gateway.server.site, limits=Limits(request_bytes=500), known={})
        gateway.thread.call(lambda: setattr(gateway.server, "site", site))
        client.send(small)
        assert client.answer().status == 200
        client.send(large)
        assert client.answer().status == 413
        assert client.at_end()


def test_memory_is_bounded(serve: Any) -> None:
    gateway, _ = serve()
    with gateway.client() as client:
        for number in range(1200):
            client.send(post(call(1), f"Traceparent: 00-{number}"))
            assert client.answer().status == 200
    assert len(gateway.server.site.known) <= 512
    assert len(gateway.route.pool.known) <= 512


def test_a_different_body_under_the_same_head_is_judged_anew(serve: Any) -> None:
    gateway, upstream = serve()
    first = modern(1, "tools/call", name="aa", arguments={})
    with gateway.client() as client:
        for data in (first, first, first.replace(b'"name": "aa"', b'"name": "bb"')):
            client.send(data)
        statuses = [client.answer().status for _ in range(3)]
    assert statuses == [200, 200, 400], "the headers say aa, the body says bb"
    assert len(upstream.requests) == 2


def test_known_answers_are_still_decided(serve: Any) -> None:
    """The same head of an answer three times; what differs is the body."""
    bodies = iter([{"result": {}}, {"result": {}}, {"result": {}, "error": {}}])

    def respond(request: Any, peer: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, **next(bodies)}).encode()
        peer.answer(body)

    gateway, _ = serve(respond)
    answers = [gateway.ask(post(call(1))) for _ in range(3)]
    assert ["error" in answer.json() for answer in answers] == [False, False, True]


def test_a_known_head_lets_no_larger_answer_through_than_a_new_one(serve: Any) -> None:
    from callgate.config import Limits

    sizes = iter([10, 10, 10, 5000, 10])

    def respond(request: Any, peer: Any) -> None:
        peer.result(request, {"x": "x" * next(sizes)})

    gateway, upstream = serve(config=Config(limits=Limits(response_bytes=1000)))
    upstream.respond = respond
    statuses = []
    with gateway.client() as client:
        for number in range(5):
            client.send(post(call(number)))
            statuses.append(client.answer().status)
    assert statuses == [200, 200, 200, 502, 200]


def test_a_known_head_of_an_answer_still_says_what_waits_on_it(serve: Any) -> None:
    """An answer to another request than the one asked: refused, and the caller is told."""
    ids = iter([0, 1, 99, 3])

    def respond(request: Any, peer: Any) -> None:
        peer.answer(json.dumps({"jsonrpc": "2.0", "id": next(ids), "result": {}}).encode())

    gateway, upstream = serve()
    upstream.respond = respond
    with gateway.client() as client:
        answers = []
        for number in range(4):
            client.send(post(call(number)))
            answers.append(client.answer())
    assert [answer.status for answer in answers] == [200, 200, 502, 200]
    assert answers[2].json()["id"] == 2
