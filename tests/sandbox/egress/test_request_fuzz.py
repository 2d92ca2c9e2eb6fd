"""Whatever a server writes: what the host gets is plain HTTP for that host, as another parser reads it."""

from __future__ import annotations

import asyncio
import socket

import httptools
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from callgate.sandbox.egress.http_relay import HttpRelay, Upstream
from callgate.sandbox.egress.stream import Stream
from callgate.sandbox.egress.swap import Exchange
from callgate.sandbox.spec import Sentinel

TOKEN = Sentinel("TOKEN", "ghp_SENTINEL0000", b"ghp_the-real-token", ("good.test",))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /a?b=ghp_SENTINEL0000 HTTP/1.1\r\n",
        b"GET https://good.test/ HTTP/1.1\r\n",
        b"GET https://evil.test/ HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"CONNECT good.test:443 HTTP/1.1\r\n",
        b"Host: good.test\r\n",
        b"Host: evil.test\r\n",
        b"Host : good.test\r\n",
        b"Host:good.test:443\r\n",
        b"\tHost: evil.test\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: CHUNKED\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: Host, Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Upgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"Authorization: Bearer ghp_SENTINEL0000\r\n",
        b"X: \x00\r\n",
        b"X: a\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b'5;x="\r\n"\r\nhello\r\n',
        b"ffffffffffffffff1\r\n",
    ]
)
TEXTS = st.lists(LINES | st.binary(max_size=6), max_size=14).map(b"".join)


class Judge:
    """llhttp's view of what the host got."""

    def __init__(self) -> None:
        self.hosts: list[list[bytes]] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.hosts.append([])

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self.hosts[-1].append(value)

    def on_headers_complete(self) -> None:
        assert self.parser.get_method() not in {b"TRACE", b"CONNECT"}
        assert self.parser.get_http_version() == "1.1"


async def relay(data: bytes, cut: int) -> tuple[bytes, bytes]:
    """What the client and the host got."""
    loop = asyncio.get_running_loop()
    client, ours = socket.socketpair()
    far, host = socket.socketpair()
    for one in (client, ours, far, host):
        one.setblocking(False)
    to_host = bytearray()

    async def answer() -> None:
        answered = 0
        while got := await loop.sock_recv(host, 65536):
            to_host.extend(got)
            while to_host.count(b"\r\n\r\n") > answered:
                answered += 1
                await loop.sock_sendall(host, OK)

    async def open_upstream(target) -> Upstream:
        assert (target.host, target.port) == ("good.test", 443)
        stream = await Stream.connected(far, 5.0, None, "good.test")
        exchange = Exchange((TOKEN,), "good.test", secure=True)
        return Upstream("good.test", 443, stream, lambda: exchange, lambda _sent, _received: None)

    served = loop.create_task(answer())
    stream = await Stream.accepted(ours, 5.0)
    one = HttpRelay(stream, open_upstream, scheme="https", meant=("good.test", 443))
    running = loop.create_task(one.run())
    await loop.sock_sendall(client, data[:cut])
    await asyncio.sleep(0)
    try:
        await loop.sock_sendall(client, data[cut:])
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it has been hung up on
    async with asyncio.timeout(60):
        await running
    await stream.finish(linger=False)
    to_client = b""
    try:
        while got := await loop.sock_recv(client, 65536):
            to_client += got
    except OSError:
        pass
    far.close()
    served.cancel()
    await asyncio.gather(served, return_exceptions=True)
    client.close()
    host.close()
    return to_client, bytes(to_host)


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, st.integers(0, 200))
@example(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n" * 3, 20)
@example(
    b"POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /", 9
)
@example(
    b"GET / HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n", 60
)
def test_the_host_reads_what_was_judged(data, cut):
    to_client, to_host = asyncio.run(relay(data, cut))
    assert TOKEN.value not in to_client
    judge = Judge()
    try:
        judge.parser.feed_data(to_host)
    except httptools.HttpParserUpgrade:
        pass
    assert all(hosts in ([b"good.test"], [b"good.test:443"]) for hosts in judge.hosts)
    assert b"evil.test" not in to_host.partition(b"\r\n\r\n")[0]
    assert to_client.startswith(b"HTTP/1.1 ") or not to_client
