"""The quick way on real sockets: what servers answer, however it arrives, and what else they do with a connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from callgate import native
from tests.transport.http.gated import post
from tests.transport.http.harness import Peer, Request, Upstream, wait_until
from tests.transport.http.quick_sockets import Held, Site, initialize, plainly, tell, text, until
from tests.transport.http.test_tls import certificate

pytestmark = pytest.mark.skipif(native.core is None, reason="the native lane was not built for this platform")


@pytest.fixture(params=["tcp", "tls"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """`told(story)`: with a server on each kind of socket that a configuration can name."""
    options: dict[str, Any] = {"upstream_tls": certificate(tmp_path)} if request.param == "tls" else {}
    return lambda story, **more: tell(tmp_path, story, **options, **more)


def whole(body: bytes, *, headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """An answer as the server of these tests writes all of them."""
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
    return head % (status, headers, len(body)) + body


def chunked(body: bytes, size: int) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def asked(site: Site, *calls: tuple[Any, bytes]) -> list[Peer]:
    """Calls under way, on the quick way where there is one; the ends at which the server answers them."""
    held = site.upstream.respond = Held()
    before = site.taken
    for number, (caller, data) in enumerate(calls, 1):
        caller.send(data)
        held.wait(number)
    assert site.taken - before == (len(calls) if site.way == "quick" else 0)
    return [peer for _, peer in held.asked]


def under_way(site: Site) -> Any:
    """The gate's end of the connection to the server on which a call is under way."""
    (found,) = [one for one in tuple(site.route.pool._all) if one.request is not None or one.quick is not None]
    return found


def begun(end: Any) -> bool:
    """Whether a part of an answer has been read there."""
    return bool(end._overhead or end.answering)


def body_of(answer: Any) -> tuple[int, bytes]:
    return answer.status, answer.body


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_an_answer_in_two_pieces_cut_anywhere(told: Any, era: str) -> None:
    def story(site: Site) -> None:
        caller = site.ready()
        caller.ask(getattr(caller, era)(1))
        answer = whole(text(7, "told"))
        for at in range(1, len(answer)):
            (peer,) = asked(site, (caller, getattr(caller, era)(7)))
            end = under_way(site)
            peer.send(answer[:at])
            until(partial(begun, end))
            peer.send(answer[at:])
            assert body_of(caller.answer()) == (200, text(7, "told"))

    came = told(story)
    assert came["connections"] == 1, "one connection serves them all"


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_chunked_answers(told: Any, size: int) -> None:
    def story(site: Site) -> None:
        caller = site.ready()
        for number in (5, 6):
            (peer,) = asked(site, (caller, caller.modern(number)))
            peer.send(chunked(text(number, "in chunks"), size))
            assert body_of(caller.answer()) == (200, text(number, "in chunks"))
            (peer,) = asked(site, (caller, caller.modern(number)))
            peer.send(whole(text(number)))
            assert body_of(caller.answer()) == (200, text(number))

    assert told(story)["connections"] == 1


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
    ],
    ids=["100", "103", "103 with a length of nothing", "103 that spans what follows"],
)
@pytest.mark.parametrize("apart", [False, True])
def test_interim_answers(told: Any, interim: bytes, apart: bool) -> None:
    """They are no answers: the length of one says nothing, and the head of one is never the known head."""

    def story(site: Site) -> None:
        caller = site.ready()
        for number in range(5, 9):
            (peer,) = asked(site, (caller, caller.modern(number)))
            answer = whole(text(number, f"for {number}"))
            before = interim % len(answer) if b"%d" in interim else interim
            if apart:
                end = under_way(site)
                peer.send(before)
                until(partial(begun, end))
                peer.send(answer)
            else:
                peer.send(before + answer)
            assert body_of(caller.answer()) == (200, text(number, f"for {number}"))

    told(story)


@pytest.mark.parametrize("more", [b"x", b"\r\n", whole(text(6)), b"HTTP/1.1 200 OK\r\n"])
def test_what_comes_behind_an_answer_ends_the_connection(told: Any, more: bytes) -> None:
    """In the same piece, or when nobody asked: it never answers the next call."""

    def story(site: Site) -> None:
        caller = site.ready()
        (peer,) = asked(site, (caller, caller.modern(5)))
        peer.send(whole(text(5)) + more)
        assert body_of(caller.answer()) == (200, text(5))
        caller.send(caller.modern(6))
        held: Any = site.upstream.respond
        second = held.wait(2)[1][1]
        if more != b"\r\n":  # which an old server may send, and a parser may skip
            assert second is not peer
        second.send(whole(text(6, "its own")))
        assert body_of(caller.answer()) == (200, text(6, "its own"))
        second.send(more)
        assert wait_until(lambda: not site.route.pool._idle)
        site.upstream.respond = plainly
        assert caller.ask(caller.modern(7)).status == 200

    told(story)


def test_a_server_that_closes_after_its_answer(told: Any) -> None:
    """By a header, or in silence: the next call gets a connection of its own."""

    def story(site: Site) -> None:
        caller = site.ready()
        for number in (5, 6):
            (peer,) = asked(site, (caller, caller.modern(number)))
            peer.send(whole(text(number), headers=b"Connection: close\r\n"))
            assert body_of(caller.answer()) == (200, text(number))
            site.upstream.respond = plainly
            assert caller.ask(caller.modern(number)).status == 200, "a new connection"
            (peer,) = asked(site, (caller, caller.modern(number)))
            peer.send(whole(text(number)))
            peer.socket.shutdown(socket.SHUT_RDWR)
            assert body_of(caller.answer()) == (200, text(number))
            assert wait_until(lambda: not site.route.pool._all)
            site.upstream.respond = plainly
            assert caller.ask(caller.modern(number)).status == 200, "a new connection"

    told(story)


def test_a_server_that_closes_as_the_call_comes(told: Any) -> None:
    """The race of a kept-alive connection: a tool's call is never sent again, and its caller hears of it."""

    def story(site: Site) -> None:
        caller = site.ready()
        for number in (5, 6):
            seen = len(site.upstream.requests)
            (peer,) = asked(site, (caller, caller.modern(number)))
            peer.socket.shutdown(socket.SHUT_RDWR)
            answer = caller.answer()
            assert (answer.status, answer.json()["id"]) == (502, number)
            assert len(site.upstream.requests) == seen + 1
            site.upstream.respond = plainly
            for _ in range(2):
                assert caller.ask(caller.modern(number)).status == 200

    told(story)


@pytest.mark.parametrize("cut", [20, 60, 90])
def test_an_answer_that_is_cut(told: Any, cut: int) -> None:
    def story(site: Site) -> None:
        caller = site.ready()
        for _ in range(2):
            (peer,) = asked(site, (caller, caller.modern(5)))
            peer.send(whole(text(5))[:cut])
            peer.socket.shutdown(socket.SHUT_RDWR)
            answer = caller.answer()
            assert (answer.status, answer.json()["id"]) == (502, 5)
            site.upstream.respond = plainly
            for _ in range(2):
                assert caller.ask(caller.modern(6)).status == 200

    told(story)


def resting(site: Site) -> bool:
    """Whether nothing is under way, nor any message of the gate's own."""
    return len(site.route.pool._idle) == len(site.route.pool._all)


ODD: dict[str, bytes] = {
    "an error": whole(b'{"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"no"}}'),
    "a failed tool": whole(
        b'{"jsonrpc":"2.0","id":5,"result":{"content":[{"type":"text","text":"b"}],"isError":true}}'
    ),
    "hidden text": whole(text(5, "\U000e0041\U000e0042")),
    "another id": whole(text(6)),
    "an id that is text": whole(text("5")),
    "no id": whole(b'{"jsonrpc":"2.0","result":{"content":[]}}'),
    "a batch": whole(b"[" + text(5) + b"]"),
    "a request": whole(b'{"jsonrpc":"2.0","id":5,"method":"ping"}'),
    "nothing": whole(b""),
    "no JSON": whole(b"<html>"),
    "space behind": whole(text(5) + b" "),
    "twice the id": whole(text(5)[:-1] + b',"id":6}'),
    "status 500": whole(text(5), status=b"500 No"),
    "status 202": whole(text(5), status=b"202 Accepted"),
    "a redirect": whole(text(5), status=b"302 Found", headers=b"Location: http://127.0.0.1/\r\n"),
    "a new session": whole(text(5), headers=b"Mcp-Session-Id: s-9\r\n"),
    "another head": whole(text(5), headers=b"X-Other: 1\r\n"),
    "a length too small": whole(text(5)).replace(b"Length: 7", b"Length: 6"),
    "two lengths": whole(text(5), headers=b"Content-Length: 5\r\n"),
    "a length with a sign": whole(text(5)).replace(b"Length: ", b"Length: +"),
    "a length with a zero": whole(text(5)).replace(b"Length: ", b"Length: 0"),
    "HTTP/1.0": whole(text(5)).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no HTTP": b"\x00" * 40,
    "a compressed answer": whole(text(5), headers=b"Content-Encoding: gzip\r\n"),
    "a cookie": whole(text(5), headers=b"Set-Cookie: a=b\r\n"),
    "plain text": whole(text(5)).replace(b"application/json", b"text/plain"),
    "events": whole(b"data: " + text(5) + b"\n\n").replace(b"application/json", b"text/event-stream"),
}


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_answers_that_are_not_plain(tmp_path: Path, era: str) -> None:
    """Each twice, and then plain ones: on a connection of the server that may be another."""

    def story(site: Site) -> None:
        caller, other = site.ready(), site.open()
        for name, answer in ODD.items():
            for _ in range(2):
                caller.ask(getattr(caller, era)(1))
            for _ in range(2):
                (peer,) = asked(site, (caller, getattr(caller, era)(5)))
                peer.send(answer)
                caller.answer()
                site.upstream.respond = plainly
                until(partial(resting, site))
                assert caller.ask(getattr(caller, era)(7)).status == 200, name
                assert caller.ask(getattr(caller, era)(8)).status == 200, name
                assert other.ask(other.modern(9)).status == 200, name

    came = tell(tmp_path, story)
    assert came["state"]["relays"] == 0


class Hasty(Upstream):
    """A server that answers what has a large body before it has read it, and goes on reading or hangs up."""

    def __init__(self, reads_on: bool) -> None:
        self.reads_on = reads_on
        self.early = threading.Event()
        super().__init__(plainly)

    def _serve(self, sock: socket.socket) -> None:
        self.connections += 1
        with suppress(OSError), sock:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    if not (piece := sock.recv(65536)):
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                headers = [
                    (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])
                ]
                length = int(dict(headers)["content-length"])
                large = length > 100_000
                if large:
                    sock.sendall(whole(text(5, "early")))
                    self.early.wait(60)
                    if not self.reads_on:
                        return
                while len(data) < length:
                    data += sock.recv(65536)
                body, data = data[:length], data[length:]
                method, target, _ = lines[0].split(" ")
                request = Request(method, target, headers, body)
                self.requests.append(request)
                if not large:
                    self.respond(request, Peer(sock))


@pytest.mark.parametrize("reads_on", [True, False])
def test_a_server_that_answers_before_it_has_read(tmp_path: Path, reads_on: bool) -> None:
    """The call behind such a one is not taken for a part of it, nor answered by what answers it."""

    def story(site: Site) -> None:
        server: Any = site.upstream
        caller, other = site.ready(), site.open()
        for _ in range(2):
            other.ask(other.modern(1))
        before = site.taken
        caller.send(caller.modern(5, q="x" * 3_000_000))  # more than sockets hold
        assert body_of(caller.answer()) == (200, text(5, "early"))
        other.send(other.modern(5, q="its own"))
        until(lambda: other_is_asked(site))
        server.early.set()
        answer = other.answer()
        if reads_on:
            assert body_of(answer) == (200, text(5, "its own"))
        else:
            assert (answer.status, answer.json()["id"]) == (502, 5)
            assert b"early" not in answer.body
        if site.way == "quick":
            assert site.taken - before == 1, "the second; the first is read in many pieces"

    def other_is_asked(site: Site) -> bool:
        return any(one.request is not None or one.quick is not None for one in tuple(site.route.pool._all))

    tell(tmp_path, story, upstream=lambda: Hasty(reads_on))


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_an_answer_in_a_stream(told: Any, era: str) -> None:
    """With what comes before it, and with an end of the stream that comes before the answer."""

    def story(site: Site) -> None:
        caller = site.ready()
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
        caller.ask(getattr(caller, era)(1))
        for number in (5, 6):
            (peer,) = asked(site, (caller, getattr(caller, era)(number)))
            peer.stream()
            peer.event(progress)
            peer.chunk(b"data: " + text(number, "streamed") + b"\n\n")
            peer.end()
            assert caller.head().status == 200
            assert [event.get("id") for event in caller.events()] == [None, number]
            caller.ask(getattr(caller, era)(1))  # what stood alone took its channel with it
            (peer,) = asked(site, (caller, getattr(caller, era)(number)))
            peer.stream()
            peer.event(progress)
            peer.end()
            assert caller.head().status == 200
            assert [event.get("id") for event in caller.events()] == [None, number]
            caller.ask(getattr(caller, era)(1))  # what stood alone took its channel with it
            (peer,) = asked(site, (caller, getattr(caller, era)(number)))
            peer.send(whole(text(number)))
            assert body_of(caller.answer()) == (200, text(number))

    told(story)


def test_a_session_that_makes_room_for_another(tmp_path: Path) -> None:
    """Between two equal calls: what is left of it is the server's to judge."""

    def story(site: Site) -> None:
        caller, other = site.ready(), site.open()
        site.thread.call(lambda: setattr(site.route.sessions, "limit", 1))
        for _ in range(2):
            caller.ask(caller.legacy(5))
        (peer,) = asked(site, (caller, caller.legacy(6)))
        assert other.ask(post(initialize("2"))).status == 503, "the one there is has a call under way"
        peer.send(whole(text(6)))
        assert body_of(caller.answer()) == (200, text(6))
        site.upstream.respond = plainly
        assert other.ask(post(initialize("2"))).headers["mcp-session-id"] == "s-2"
        before = site.taken
        for _ in range(3):
            assert caller.ask(caller.legacy(7)).status == 200
        assert site.taken == before
        assert [key for key, *_ in site.state()["sessions"]] == [b"s-2"]

    tell(tmp_path, story)
