"""With known heads and without them: the same requests, refusals, answers and connections that stay open."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.config import Limits, ListenConfig
from callgate.transport.http import connection, upstream
from callgate.transport.http.answer_plan import AnswerPlan
from callgate.transport.http.client import Pool
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.known_heads import body_start, split
from callgate.transport.http.origin import Origin
from callgate.transport.http.request_policy import RequestPolicy
from callgate.transport.http.server import Endpoint, HttpServer, Site
from callgate.transport.http.upstream import Request, Upstream


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.closed = self.ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def write(self, data: Any) -> None:
        self.out += data

    def writelines(self, list_of_data: Any) -> None:
        self.out += b"".join(list_of_data)

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True


def knowing(module: Any, quick: bool) -> None:
    """Both sides run in one process, one step of each after the other."""
    module.split = split if quick else lambda data: None
    module.body_start = body_start if quick else lambda before, after, data: 0


@pytest.fixture(autouse=True)
def _known_again() -> Any:
    yield
    knowing(connection, quick=True)
    knowing(upstream, quick=True)


class Served:
    """A server with two connections. Its route keeps some requests waiting."""

    def __init__(self, quick: bool, later: bool, trusted: bool, small: bool) -> None:
        self.quick = quick
        self.later = later
        self.asked: list[Any] = []
        self.notes: list[Any] = []
        self.waiting: list[Exchange] = []
        listen = ListenConfig(header_bytes=600) if small else ListenConfig()
        policy = RequestPolicy(listen)
        paths = {"/s/mcp": Endpoint("s", self, "/s/mcp"), "/t/mcp": Endpoint("t", self, "/t/mcp")}
        paths["/healthz"] = Endpoint("", self, "/healthz", frozenset((b"GET", b"HEAD")), anonymous=True)
        endpoints = {path.encode(): endpoint for path, endpoint in paths.items()}
        site = Site(listen, Limits(request_bytes=200 if small else 100_000), policy, policy, endpoints)
        self.server = HttpServer(site, lambda kind, fields: self.notes.append((kind, fields)), trusted=trusted)
        self.wires = [Wire(), Wire()]
        self.connections = [connection.Connection(self.server) for _ in self.wires]
        for one, wire in zip(self.connections, self.wires, strict=True):
            one.connection_made(wire)

    def handle(self, exchange: Exchange) -> None:
        fields = (exchange.method, exchange.path, exchange.query, list(exchange.headers))
        self.asked.append((*fields, exchange.body, exchange.principal, exchange.route))
        if self.later and len(self.asked) % 3 == 0:
            self.waiting.append(exchange)
        else:
            exchange.respond(200, [(b"content-type", b"application/json")], b"%d" % len(self.asked))

    async def close(self, grace_s: float) -> None: ...

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for exchange in waiting:
            exchange.respond(200, [], b"late")

    def feed(self, number: int, data: bytes) -> None:
        knowing(connection, self.quick)
        if not self.wires[number].closed:
            self.connections[number].data_received(data)

    def state(self) -> Any:
        return [(wire.out, wire.closed, wire.ended) for wire in self.wires], self.asked, self.notes


REQUESTS = [
    *[b"POST /s/mcp HTTP/1.1"] * 4, b"POST /t/mcp?a=b HTTP/1.1", b"GET /healthz HTTP/1.1", b"HEAD /healthz HTTP/1.1",
    b"POST /s/mcp HTTP/1.0", b"POST /nope HTTP/1.1", b"OPTIONS /s/mcp HTTP/1.1", b"CONNECT /s/mcp HTTP/1.1",
    b"DELETE /s/mcp HTTP/1.1", b"POST http://localhost/s/mcp HTTP/1.1",
]  # fmt: skip
FIELDS = [
    b"X-A: b", b"Mcp-Session-Id: q", b"Mcp-Session-Id: r", b"Connection: close", b"Connection: keep-alive",
    b"Connection: X-A", b"Transfer-Encoding: chunked", b"Authorization: Bearer abc", b"X-Callgate-Principal: bob",
    b"Expect: 100-continue", b"Upgrade: h2c", b"Connection: Upgrade", b"Origin: http://evil", b"Host: evil",
    b"Origin: http://localhost", b"Content-Length: 5", b"CONTENT-LENGTH: 5", b"content-length: 7", b" folded: 1",
    b"X-A : b", b"X: a\x00", b"X:" + b"y" * 500, b"Content-Encoding: gzip", b"Cookie: a", b"Trailer: X",
]  # fmt: skip
ANSWERS = [
    *[b"HTTP/1.1 200 OK"] * 4, b"HTTP/1.1 202 Accepted", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switching", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 404 Not Found", b"HTTP/1.1 302 Found", b"HTTP/2 200",
]  # fmt: skip
LENGTHS = [*[b"%d"] * 9, b"0%d", b"+%d", b"%d ", b" %d"]


def made(choose: random.Random, firsts: list[bytes], fields: list[bytes], body: bytes) -> bytes:
    """A message: often a good one, often with something odd in its head."""
    lines = list(fields)
    for _ in range(choose.choice([0, 0, 0, 1, 1, 2])):
        lines.insert(choose.randrange(len(lines) + 1), choose.choice(FIELDS))
    if choose.random() < 0.93:
        name = choose.choice([b"Content-Length: ", b"content-length: ", b"Content-length: "])
        lines.insert(choose.choice([0, len(lines)]), name + choose.choice(LENGTHS) % len(body))
    return b"\r\n".join([choose.choice(firsts), *lines, b"", b""]) + body


def sent(choose: random.Random, pool: list[bytes]) -> list[bytes]:
    """One of the messages as it might come: with more behind it, cut off, in two pieces."""
    data = choose.choice(pool)
    odd = choose.random()
    if odd < 0.1:
        data += choose.choice(pool)
    elif odd < 0.17:
        data += choose.choice([b"\r\n", b"\r", b"\n", b"P", b"H", b"x"])
    elif odd < 0.22:
        data = data[: choose.randrange(1, len(data))]
    cut = choose.randrange(len(data)) if choose.random() < 0.15 else 0
    return [piece for piece in (data[:cut], data[cut:]) if piece]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_requests(seed: int) -> None:
    choose = random.Random(seed)
    settled = (choose.random() < 0.4, choose.random() < 0.3, choose.random() < 0.3)
    quick, plain = Served(True, *settled), Served(False, *settled)
    fields = [b"Host: localhost", b"Content-Type: application/json"]
    sizes = [0, 1, 2, 7, 10, 100, 300]
    pool = [made(choose, REQUESTS, fields, b"x" * choose.choice(sizes)) for _ in range(choose.randrange(1, 5))]
    for _ in range(14):
        number = choose.randrange(2)
        for piece in sent(choose, pool):
            quick.feed(number, piece)
            plain.feed(number, piece)
        if choose.random() < 0.3:
            quick.answer()
            plain.answer()
        assert quick.state() == plain.state()


class Heard:
    """A handler of answers that takes them whole where it may."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.body = b""
        self.request: Request | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        peer = self.request.connection if self.request is not None else None
        known = peer.plan if peer is not None else None
        self.plan = known or AnswerPlan(status, headers)

    def on_data(self, data: bytes) -> None:
        self.body += data

    def on_end(self) -> None:
        self.whole(self.plan, self.body)

    def on_error(self, what: str) -> None:
        self.log.append(what)

    def whole(self, plan: AnswerPlan, body: bytes) -> None:
        names = ("status", "plain", "json", "events", "refusal", "session_id")
        self.log.append((*[getattr(plan, name) for name in names], list(plan.headers), body))


class Asking:
    """A client whose connection is reused as long as it may be."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.log: list[Any] = []
        self.pool = Pool(Origin("http://127.0.0.1/mcp"))
        self.wire = Wire()
        self.wire.closed = True

    def ask(self, pieces: list[bytes], whole: bool) -> None:
        knowing(upstream, self.quick)
        if self.wire.closed:
            self.peer = Upstream(self.pool)
            self.wire = Wire()
            self.peer.connection_made(self.wire)
        handler = Heard(self.log)
        request = handler.request = Request(handler, b"", b"", False, handler.whole if whole else None)
        self.pool._idle.clear()
        request.connection, self.peer.request = self.peer, request
        heard = len(self.log)
        for piece in pieces:
            if not self.wire.closed:
                self.peer.data_received(piece)
        if len(self.log) == heard and not self.wire.closed:
            self.wire.closed = True
            self.peer.connection_lost(None)
        self.log.append((self.wire.closed, self.peer in self.pool._idle))


async def _answers(seed: int) -> None:
    choose = random.Random(seed)
    quick, plain = Asking(quick=True), Asking(quick=False)
    kinds = [b"Content-Type: application/json", b"Content-Type: text/event-stream", b"X: z"]
    pool: list[bytes] = []
    for _ in range(4):  # the body of one may be another one
        body = choose.choice([b"", b"{}", b'{"a":1}', b"x" * 20, *pool])
        pool.append(made(choose, ANSWERS, [choose.choice(kinds)], body))
    for _ in range(12):
        pieces, whole = sent(choose, pool), choose.random() < 0.5
        quick.ask(pieces, whole)
        plain.ask(pieces, whole)
        assert quick.log == plain.log, pieces
    quick.pool.close()
    plain.pool.close()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_answers(seed: int) -> None:
    asyncio.run(_answers(seed))


def test_an_answer_behind_an_interim_one_teaches_nothing() -> None:
    answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
    hints = b"HTTP/1.1 103 Early Hints\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer

    async def ask() -> list[Any]:
        asking = Asking(quick=True)
        for _ in range(2):
            asking.ask([hints], whole=True)
        asking.pool.close()
        return asking.log

    log = asyncio.run(ask())
    assert log[0] == log[2]
    assert log[2][-1] == b'{"a":1}'


def test_a_body_too_large_behind_a_known_head_is_on_record_with_what_was_asked() -> None:
    site = Served(quick=True, later=False, trusted=False, small=True)
    for size in (5, 6, 300):
        head = (
            b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        site.feed(0, head % size + b"x" * size)
    assert [fields["rule"] for _, fields in site.notes] == ["http-body-size"]
    fields = site.notes[0][1]
    assert (fields["route"], fields["method"], fields["host"]) == ("s", "POST", "localhost")
