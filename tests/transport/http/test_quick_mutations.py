"""Requests and answers that are nearly known: whatever is changed about one, all ways come to the same."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from callgate import native
from tests.transport.http.gated import Gated
from tests.transport.http.test_quick import Three, called, modern, result

pytestmark = pytest.mark.skipif(native.core is None, reason="the native lane was not built for this platform")

BYTES = (
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b'"', b"\\", b"{", b"}", b"[", b"]", b"0", b"1", b"-", b"+", b"5", b".",
    b"e", b"\x7f", b"\x80", b"\xff", b"\xc3\xbc", b"\xe2\x80\x8b", b"\xf3\xa0\x81\x81", b"\xed\xa0\x80", b"A", b"a", b"=", b"?", b";",
)  # fmt: skip
LINES = (
    b"Origin: https://evil.example", b"Authorization: Bearer x", b"Content-Length: 5", b"content-length:  5", b"Host: evil",
    b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue", b"X: y",
    b" folded", b"Mcp-Name: u", b"Mcp-Name: t", b"MCP-Protocol-Version: 2025-11-25", b"Mcp-Session-Id: s-2", b"Upgrade: h2c",
    b"X-Callgate-Principal: bob", b"Content-Encoding: gzip", b"Content-Type: text/plain", b"Mcp-Method: tools/list", b"",
    b"Set-Cookie: a=b", b"Accept-Encoding: gzip", b"Content-Length : 5", b"Te: trailers",
)  # fmt: skip
SWAPS = (
    (b"t", b"u"), (b'"a"', b'"b"'), (b'"id":', b'"id":1,"id":'), (b'"q"', b'"Q"'), (b"POST", b"GET"), (b"1.1", b"1.0"),
    (b"/s/mcp", b"/s/mcp?x=1"), (b"/s/mcp", b"/t/mcp"), (b"2026-07-28", b"2025-11-25"), (b"tools/call", b"prompts/get"),
    (b"tools/call", b"tools/list"), (b"200 OK", b"500 No"), (b"200", b"204"), (b"HTTP/1.1", b"HTTP/2.0"), (b"Content", b"CONTENT"),
    (b"ontent-", b"ONTENT-"), (b": ", b":"), (b"\r\n", b"\n"), (b"application/json", b"text/event-stream"), (b"alice", b"bob"),
    (b'"result"', b'"error"'), (b"2.0", b"1.0"), (b'"text"', b'"Text"'), (b":5", b":05"), (b":5", b":6"), (b":5", b':"5"'),
    (b":5", b":5.0"), (b"false", b"true"), (b"s-1", b"s-2"), (b"localhost", b"LOCALHOST"), (b"localhost", b"localhost:80"),
)  # fmt: skip


def edited(choose: random.Random, data: bytes) -> bytes:
    """The same with something else about it."""
    for _ in range(choose.choice([1, 1, 1, 2, 3])):
        at = choose.randrange(len(data) + 1)
        way = choose.randrange(7)
        if way == 0:
            data = data[:at] + choose.choice(BYTES) + data[at:]
        elif way == 1:
            data = data[:at] + data[at + choose.randrange(1, 4) :]
        elif way == 2:
            data = data[:at] + choose.choice(BYTES) + data[at + 1 :]
        elif way == 3:
            old, new = choose.choice(SWAPS)
            data = data.replace(old, new, choose.choice([1, 1, -1]))
        elif way == 4:
            lines = data.split(b"\r\n")
            lines.insert(choose.randrange(len(lines) + 1), choose.choice(LINES))
            data = b"\r\n".join(lines)
        elif way == 5:
            data += choose.choice([*BYTES, data, b"0\r\n\r\n", data[:at]])
        else:
            data = (
                data[:at] + bytes([data[at] ^ (1 << choose.randrange(8))]) + data[at + 1 :] if at < len(data) else data
            )
    return data


def refitted(data: bytes) -> bytes:
    """The head's one length set to that of what follows."""
    head, gap, body = data.partition(b"\r\n\r\n")
    before, name, rest = head.partition(b"Content-Length: ")
    _, line, after = rest.partition(b"\r\n")
    return before + name + b"%d" % len(body) + line + after + gap + body if name and gap else data


def changed(choose: random.Random, data: bytes) -> bytes:
    """Anywhere, or only in its body, with a length that fits or not."""
    head, gap, body = data.partition(b"\r\n\r\n")
    kind = choose.randrange(5)
    if kind == 0:
        return refitted(head + gap + body.replace(*choose.choice(SWAPS)))
    if kind == 1:
        return refitted(head + gap + body.replace(b'"a"', b'"%b"' % (choose.choice(BYTES) * choose.randrange(3))))
    if kind == 2:
        return refitted(head + gap + edited(choose, body))
    if kind == 3:
        return refitted(edited(choose, head + gap) + body)
    return edited(choose, data)


def in_pieces(choose: random.Random, data: bytes) -> list[bytes]:
    if choose.random() < 0.8 or len(data) < 2:
        return [data]
    at = choose.randrange(1, len(data))
    return [data[:at], data[at:]]


class Tried:
    """A story of near misses."""

    def __init__(self, three: Three, choose: random.Random) -> None:
        self.three = three
        self.choose = choose
        self.passed = 0

    def plain(self, client: int, number: int = 5) -> bytes:
        return called(number, *self.three.session) if client < 2 else modern(number)

    def waits(self) -> list[int]:
        """The server's connections on which something is under way."""
        ends = enumerate(self.three.quick.pool.ends)
        return [number for number, (one, wire) in ends if not wire.closed and (one.request or one.quick)]

    def finish(self) -> None:
        """Answer what waits, and put new clients in the place of those that are gone or stuck."""
        while waiting := self.waits():
            for number in waiting:
                self.three.answer(number, result(5))
            for number in self.waits():
                if number in waiting:  # it was no answer, or half of one has come; it may be asked once more
                    self.three.do(partial(Gated.hang_up, number=number))
        for client, (wire, end) in enumerate(zip(self.three.quick.wires, self.three.quick.connections, strict=True)):
            if wire.closed or wire.ended or end._reader.stage or end.stopped:
                self.three.do(partial(Gated.leave, number=client))
                for site in self.three.sites:
                    site.open()
                    site.wires[client], site.connections[client] = site.wires.pop(), site.connections.pop()

    def known(self, client: int) -> None:
        """The client's next plain call takes the quick way."""
        for _ in range(2):
            self.three.send(client, self.plain(client))
            self.finish()

    def request(self) -> None:
        client = self.choose.choice([0, 2])
        self.known(client)
        data = changed(self.choose, self.plain(client))
        before = self.three.quick.quick
        for piece in in_pieces(self.choose, data):
            self.three.send(client, piece)
        self.passed += self.three.quick.quick > before
        if not self.three.quick.wires[client].closed and self.choose.random() < 0.5:
            self.three.send(client, self.plain(client, 6))
        self.finish()

    def answer(self) -> None:
        client = self.choose.choice([0, 2])
        self.known(client)
        self.three.send(client, self.plain(client))
        body = result(5)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        pieces = in_pieces(self.choose, changed(self.choose, head + body))
        for number in self.waits():
            self.three.do(partial(Gated.say, number=number, pieces=pieces))
        if self.choose.random() < 0.5:
            self.three.send(client, self.plain(client, 6))
        self.finish()


def tried(place: Path, seed: int, rounds: int, sealed: bool = False) -> Any:
    """So many near misses; how many requests of them took the quick way."""

    async def run() -> int:
        three = Three(place, sealed)
        three.learn()
        found = Tried(three, random.Random(seed))
        for _ in range(rounds):
            found.choose.choice([found.request, found.answer])()
            if not three.quick.route.sessions._sessions:
                three.learn()
        three.done()
        return found.passed

    return asyncio.run(run())


@pytest.mark.parametrize("seed", range(4))
def test_what_is_nearly_known(tmp_path: Path, seed: int) -> None:
    assert tried(tmp_path, seed, 120, sealed=bool(seed % 2)) > 3, "hardly one of them was plain"
