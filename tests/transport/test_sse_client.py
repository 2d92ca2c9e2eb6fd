"""A client of HTTP+SSE servers: where it posts, and what it does when they misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from callgate.errors import UpstreamError
from callgate.transport.sse_client import SseUpstream, endpoint_target
from tests.transport.test_process import Recorder

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        (b"/messages?session=1", b"/messages?session=1"),
        (b"messages/1", b"/a/messages/1"),
        (b"?s=1", b"/a/sse?s=1"),
        (b"http://h:80/m", b"/m"),
        (b"//h/m", b"/m"),
        (b"http://H/m", b"/m"),
    ],
)
def test_endpoints_of_the_same_origin(endpoint: bytes, target: bytes) -> None:
    assert endpoint_target("http://h/a/sse", endpoint) == target


@pytest.mark.parametrize(
    "endpoint",
    [
        b"http://evil/m",
        b"//evil/m",
        b"https://h/m",
        b"http://h:81/m",
        b"http://h@evil/m",
        b"http://user@h/m",
        b"http://h.evil/m",
        b"/m\r\nx: y",
        b"/m HTTP/1.1",
        b"/m\xc3\xa9",
        b"http://[::1/m",
        b"http://h:x/m",
        b"file:///etc/passwd",
        b"javascript:x",
    ],
)
def test_endpoints_elsewhere_are_refused(endpoint: bytes) -> None:
    with pytest.raises(UpstreamError, match="another origin"):
        endpoint_target("http://h/a/sse", endpoint)


@asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[str]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await handle(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/sse"
    finally:
        listener.close()


def connect(url: str, recorder: Recorder, limit: int = 100_000) -> SseUpstream:
    return SseUpstream(asyncio.get_running_loop(), url, lambda: [(b"x-key", b"k")], limit, recorder)


async def test_messages_are_posted_in_order_and_events_come_back() -> None:
    posted: list[bytes] = []
    streams: list[asyncio.StreamWriter] = []

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"x-key: k" in head
        if head.startswith(b"GET /sse"):
            streams.append(writer)
            writer.write(STREAM + b": hi\n\nevent: endpoint\ndata: /m?s=1\n\n")
        else:
            assert head.startswith(b"POST /m?s=1 ")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            await asyncio.sleep(0.02 if body == b"{0}" else 0)
            posted.append(body)
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
            streams[0].write(b"event: message\ndata: " + body + b"\n\n")

    async with server(handle) as url:
        recorder = Recorder()
        upstream = connect(url, recorder)
        for number in range(5):
            upstream.send(b"{%d}" % number)
        await recorder.until(lambda: len(recorder.lines) == 5)
        assert posted == recorder.lines == [b"{%d}" % number for number in range(5)]
        upstream.stop(1.0)
        await recorder.until(lambda: recorder.how)
        assert await upstream.closed == 0
        assert upstream.send(b"{}") is True  # too late, and no error


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "HTTP 401"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}",
            "event stream was expected",
        ),
        (STREAM + b"event: endpoint\ndata: http://evil.example/m\n\n", "another origin"),
        (STREAM + b"data: " + b"x" * 200_000, "too much"),
        (b"garbage\r\n\r\n", "not HTTP"),
    ],
)
async def test_what_ends_the_connection(answer: bytes, words: str) -> None:
    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert head.startswith(b"GET ")  # nothing is ever posted elsewhere
        writer.write(answer)

    async with server(handle) as url:
        recorder = Recorder()
        upstream = connect(url, recorder)
        upstream.send(b"{}")
        await recorder.until(lambda: recorder.how)
        assert words in recorder.how


async def test_a_refused_message_and_silence_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.sse_client.ENDPOINT_S", 0.2)

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET "):
            writer.write(STREAM + b"event: endpoint\ndata: /m\n\n")
        else:
            writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")

    async def silent(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)

    recorder = Recorder()
    async with server(handle) as url:
        connect(url, recorder).send(b"{}")
        await recorder.until(lambda: "HTTP 500" in recorder.how)
    async with server(silent) as url:
        connect(url, recorder).send(b"{}")
        await recorder.until(lambda: "no endpoint" in recorder.how)
