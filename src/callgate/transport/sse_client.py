"""A client of HTTP+SSE servers (revision 2024-11-05): GET a stream, POST to where its `endpoint` event says.

The endpoint must be of the same origin as the stream, or a hostile server could make the gate post elsewhere,
with the configured credentials. Messages are posted one after the other, for the order of two connections is
anybody's guess.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from callgate.errors import CallgateError, LimitExceeded, UpstreamError
from callgate.protocol.sse import SseParser
from callgate.text import visible
from callgate.transport.http.client import Origin, Pool
from callgate.transport.http.exchange import Headers
from callgate.transport.process import HIGH_WATER, ProcessEvents
from callgate.transport.starts import Done, Start

ENDPOINT_S = 10.0
"""From connecting to the `endpoint` event."""


class SseUpstream:
    """One connection to a server; the same shape as a process (`bridge.Upstream`).

    `headers` gives what goes on every request, as it is then. `limit` is the largest event in bytes. `events.exited`
    is told once, whoever ended it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: str,
        headers: Callable[[], Headers],
        limit: int,
        events: ProcessEvents,
    ) -> None:
        self.queued = 0
        self.closed: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._url = url
        self._events = events
        self._headers = headers
        self._pool = Pool(Origin(url))
        self._target = b""
        self._waiting: deque[bytes] = deque()
        self._post: _Post | None = None
        self._held = False
        self._stream = _Stream(self, limit)
        self._request = self._pool.send(self._stream, self._head(b"GET", self._pool.origin.target, _SSE), b"")
        self._patience = loop.call_later(ENDPOINT_S, self.fail, f"sent no endpoint within {ENDPOINT_S:.0f} s")

    # -- Upstream --------------------------------------------------------------------------------

    def send(self, line: bytes) -> bool:
        """Post one message, once those before it are accepted. False: hold back until `drained`."""
        if self.closed.done():
            return True
        self._waiting.append(line)
        self.queued += len(line)
        self._post_next()
        self._held = self.queued > HIGH_WATER
        return not self._held

    def pause(self) -> None:
        """Stop reading events."""
        self._request.pause()

    def resume(self) -> None:
        """Read again."""
        self._request.resume()

    def stop(self, grace_s: float) -> None:
        """Close the connection; there is nothing to wait for."""
        self._end("was disconnected")

    # -- events ----------------------------------------------------------------------------------

    def event(self, name: bytes | None, data: bytes) -> None:
        """One event of the stream."""
        if name == b"endpoint":
            self._found(data)
        elif name in (None, b"message") and data:
            self._events.line(data)

    def _found(self, data: bytes) -> None:
        if self._target:
            return
        try:
            self._target = endpoint_target(self._url, data)
        except UpstreamError as error:
            self.fail(error.what)
            return
        self._patience.cancel()
        self._post_next()

    def _post_next(self) -> None:
        if self._target and self._post is None and self._waiting:
            line = self._waiting[0]
            head = self._head(
                b"POST", self._target, b"content-type: application/json\r\ncontent-length: %d\r\n" % len(line)
            )
            self._post = _Post(self)
            self._pool.send(self._post, head, line)

    def posted(self) -> None:
        """The message under way is accepted."""
        self._post = None
        if self._waiting:
            self.queued -= len(self._waiting.popleft())
        if self._held and self.queued <= HIGH_WATER // 2:
            self._held = False
            self._events.drained()
        self._post_next()

    def _head(self, method: bytes, target: bytes, more: bytes) -> bytes:
        host = self._pool.origin.host_header
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%baccept-encoding: identity\r\n\r\n" % (
            method,
            target,
            host,
            more,
            b"".join(b"%b: %b\r\n" % field for field in self._headers()),
        )

    def too_long(self, error: LimitExceeded) -> None:
        """An event passed the limit: the stream cannot be read on."""
        self._events.too_long([], endless=True)
        self.fail(f"sent too much: {error.what}")

    def fail(self, how: str) -> None:
        """The server is of no more use; `how` completes "the server ..."."""
        self._end(how)

    def _end(self, how: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(0)
        self._patience.cancel()
        self._request.cancel()
        self._pool.close()
        self._waiting.clear()
        self.queued = 0
        self._loop.call_soon(self._events.exited, how)


_SSE = b"accept: text/event-stream\r\ncache-control: no-store\r\n"


class _Stream:
    """The answer to the GET."""

    def __init__(self, owner: SseUpstream, limit: int) -> None:
        self._owner = owner
        self._parser = SseParser(limit)

    def on_head(self, status: int, headers: Headers) -> None:
        kind = dict(headers).get(b"content-type", b"").partition(b";")[0].strip().lower()
        if status != 200 or kind != b"text/event-stream":
            self._owner.fail(f"answered HTTP {status} where an event stream was expected")

    def on_data(self, data: bytes) -> None:
        try:
            for event in self._parser.feed(data):
                if event.data is not None:
                    self._owner.event(event.event, event.data)
        except LimitExceeded as error:
            self._owner.too_long(error)

    def on_end(self) -> None:
        self._owner.fail("ended its event stream")

    def on_error(self, what: str) -> None:
        self._owner.fail(f"is lost: {what}")


class _Post:
    """The answer to one POST: any 2xx; the real answer comes on the stream."""

    def __init__(self, owner: SseUpstream) -> None:
        self._owner = owner
        self._status = 0

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status

    def on_data(self, data: bytes) -> None:
        """Of no meaning."""

    def on_end(self) -> None:
        if 200 <= self._status < 300:
            self._owner.posted()
        else:
            self._owner.fail(f"answered a message with HTTP {self._status}")

    def on_error(self, what: str) -> None:
        self._owner.fail(f"is lost: {what}")


def endpoint_target(url: str, data: bytes) -> bytes:
    """The request target an `endpoint` event means. Raises UpstreamError unless it is of the same origin as `url`."""
    try:
        text = data.decode("ascii")
        joined = urljoin(url, text)
        here, there = urlsplit(url), urlsplit(joined)
        same = (there.scheme, there.hostname, _port(there)) == (here.scheme, here.hostname, _port(here))
    except ValueError:
        text, same = "", False
        there = None
    if not same or there is None or there.username is not None or any(c <= " " or c == "\x7f" for c in text):
        shown = visible(data[:200].decode("utf-8", "backslashreplace"))
        raise UpstreamError(f"wants messages posted to another origin ({shown}), which is refused")
    target = there.path or "/"
    return (f"{target}?{there.query}" if there.query else target).encode()


def _port(parts: object) -> int:
    port: int | None = parts.port  # type: ignore[attr-defined]
    return port or (443 if parts.scheme == "https" else 80)  # type: ignore[attr-defined]


class SseConnector:
    """Starts connections to one configured server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: str,
        headers: Callable[[], Headers],
        limit: int,
        note: Callable[[str, dict[str, object]], object],
        name: str,
    ) -> None:
        self._loop = loop
        self._arguments = (loop, url, headers, limit)
        self._note = note
        self._name = name

    def begin(self, done: Done) -> Start:
        """One connection. It is there at once: what cannot be reached is told as the end of it."""
        start = Start(self._loop, done, self._refused)
        self._loop.call_soon(self._connect, start)
        return start

    def _connect(self, start: Start) -> None:
        if start.over:
            return
        try:
            self._note("connect", {"server": self._name, "transport": "sse"})
        except CallgateError as error:
            start.fail(error)
        else:
            start.succeed(lambda events: SseUpstream(*self._arguments, events))

    @staticmethod
    def _refused(error: CallgateError | OSError) -> CallgateError:
        return error if isinstance(error, CallgateError) else UpstreamError(f"cannot be reached: {error.strerror}")
