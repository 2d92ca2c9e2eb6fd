"""The upstream side of HTTP: a pool of keep-alive connections to one origin, in callbacks.

One request is in flight on a connection; the one used last is used first (it is warm, and the others may
age out). A request that ends early closes its connection: that is what cancels it upstream.

**Retry.** An idle connection may be closed by the server at the very moment we write to it. Such a
request is sent again, once, on a fresh connection, and only when the caller says it is repeatable: a
`tools/call` might have run. To make the race rare for the others, a connection that was idle for
MAX_IDLE_S is not used again: Node.js and uvicorn close theirs after 5 seconds.

**Desynchronisation.** A connection is reused only when the parser has consumed exactly one answer and
nothing after it; bytes nobody asked for close it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Any, Protocol
from urllib.parse import urlsplit

import httptools

from callgate.errors import ConfigError
from callgate.transport.http.exchange import Headers
from callgate.transport.http.fields import BODYLESS, lowered
from callgate.transport.http.known_heads import KNOWN, split
from callgate.transport.http.waiting import place_of

CONNECT_TIMEOUT_S = 10.0
MAX_IDLE_S = 4.0
MAX_IDLE_CONNECTIONS = 256
MAX_OPENING = 64
"""Connections being opened at once, per origin."""
HEAD_BYTES = 64 * 1024
"""Bytes of an upstream's status line and header."""
MAX_FIELDS = 256
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


class AnswerHandler(Protocol):
    """Who receives one answer. After `on_end` or `on_error`, nothing more is called."""

    def on_head(self, status: int, headers: Headers) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_error(self, what: str) -> None:
        """`what` is a sentence of ours, safe to show."""


class _Unusable(Exception):
    """Ends parsing from inside a parser callback, with what to say."""


class KnownAnswer:
    """What a head came to: see known_heads. `memo` is for what handlers derive from it."""

    __slots__ = ("headers", "memo", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.memo: dict[object, Any] = {}


class Upstream(asyncio.Protocol):
    """One connection to the origin."""

    __slots__ = (
        "_before_head",
        "_complete",
        "_headers",
        "_keep",
        "_parser",
        "_pool",
        "_status",
        "answering",
        "idle_since",
        "memo",
        "request",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self.request: Request | None = None
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self._headers: Headers = []
        self._complete = False
        self._before_head = 0
        self.answering = False
        self.memo: dict[object, Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        request = self.request
        if request is None:
            return
        self.request = None
        if self.answering and exc is None and not any(name in _FRAMING for name, _ in self._headers):
            request.handler.on_end()
        elif not self.answering and request.reused and request.repeatable:
            request.reused = False
            self._pool.connect(request)
        else:
            request.handler.on_error(
                "the server closed the connection in the middle of its answer"
                if self.answering
                else "the server closed the connection without an answer"
            )

    def data_received(self, data: bytes) -> None:
        if self.request is None:
            self.close()  # nobody asked
            return
        found = None
        if not self._before_head and not self.answering:
            found = split(data)
            if found is not None:
                known = self._pool.known.get(found[0])
                if known is not None:
                    self._again(known, data[found[1] :])
                    return
            self.memo = None
        if not self.answering:
            self._before_head += len(data)
            if self._before_head > HEAD_BYTES + 65536:
                self.fail("the header of the server's answer is too large")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._complete:
                self._keep = False  # an answer, and then something else
            else:
                self.fail(_reason(error))
                return
        if self._complete:
            if found is not None and self._keep and self._status not in BODYLESS:
                self._pool.remember(found[0], KnownAnswer(self._status, self._headers))
            self._finish()

    def _again(self, known: KnownAnswer, body: bytes) -> None:
        """A whole answer with a head that was read before."""
        request = self.request
        if request is None:
            return
        self.memo = known.memo
        request.handler.on_head(known.status, known.headers)
        if body and self.request is request:
            request.handler.on_data(body)
        if self.request is request:
            self._keep = True
            self._finish()

    def pause_writing(self) -> None:
        """Requests are written whole (their size is limited), so there is nothing to hold back."""

    def resume_writing(self) -> None:
        """See pause_writing."""

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False
        else:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.answering and not self._complete:
            self._headers.append((lowered(name) or name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise _Unusable("the server switched to another protocol")
            return
        headers = self._headers
        if len(headers) > MAX_FIELDS:
            raise _Unusable("the header of the server's answer has too many fields")
        self._status = status
        self.answering = True
        request = self.request
        if request is not None:
            request.handler.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        request = self.request
        if request is not None and self.answering and not self._complete:
            request.handler.on_data(data)

    def on_message_complete(self) -> None:
        if self.answering and not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    # -- ends ------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """One whole answer has been read and `feed_data` has returned: only now may the connection be reused."""
        request = self.request
        if request is not None:
            request.resume()  # what it held back is not the next one's business
        self.request = None
        self.answering = self._complete = False
        self._before_head = 0
        if self._keep and request is not None:
            self._pool.release(self)
        else:
            self.close()
        if request is not None:
            request.connection = None
            request.handler.on_end()

    def fail(self, what: str) -> None:
        """End the answer with an error and drop the connection."""
        request = self.request
        self.request = None
        self.close()
        if request is not None:
            request.connection = None
            request.handler.on_error(what)

    def close(self) -> None:
        """Drop the connection at once: what it carried is cancelled."""
        self._pool.forget(self)
        if self.transport is not None:
            self.transport.abort()


def _reason(error: httptools.HttpParserError) -> str:
    cause = error.__context__
    if isinstance(cause, _Unusable):
        return str(cause)
    if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
        return f"callgate failed on the server's answer ({place_of(cause)})"
    return "the server answered something that is not HTTP/1.1"


class Request:
    """One request under way; what its owner holds to slow it down or to end it."""

    __slots__ = ("body", "cancelled", "connection", "handler", "head", "paused", "repeatable", "reused")

    def __init__(self, handler: AnswerHandler, head: bytes, body: bytes, repeatable: bool) -> None:
        self.handler = handler
        self.head = head
        self.body = body
        self.repeatable = repeatable
        self.connection: Upstream | None = None
        self.reused = False
        self.cancelled = False
        self.paused = False

    def cancel(self) -> None:
        """Close the connection. The handler hears nothing more."""
        self.cancelled = True
        connection = self.connection
        if connection is not None:
            self.connection = None
            connection.request = None
            connection.close()

    def pause(self) -> None:
        """Stop reading the answer (back-pressure)."""
        connection = self.connection
        if not self.paused and connection is not None and connection.transport is not None:
            self.paused = True
            if not connection.transport.is_closing():
                connection.transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if self.paused:
            self.paused = False
            connection = self.connection
            if connection is not None and connection.transport is not None and not connection.transport.is_closing():
                connection.transport.resume_reading()


class Origin:
    """Where requests go: scheme, host and port of a URL, or a unix socket; and the request target."""

    __slots__ = ("host", "host_header", "port", "target", "tls", "unix")

    def __init__(self, url: str, *, unix: str = "") -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.username is not None:
            raise ConfigError(
                f"{url!r} is not a usable server URL",
                next_step='write "https://HOST[:PORT]/PATH"; credentials go into the headers table, not into the URL',
            )
        self.unix = unix
        self.tls = tls_context() if parts.scheme == "https" else None
        self.host = parts.hostname
        self.port = port or (443 if self.tls else 80)
        name = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.tls else 80
        if not name.isascii():
            name = name.encode("idna").decode()
        self.host_header = (name if self.port == default else f"{name}:{self.port}").encode()
        target = parts.path or "/"
        if parts.query:
            target += "?" + parts.query
        if not target.isascii() or any(c <= " " or c == "\x7f" for c in target):
            raise ConfigError(f"{url!r} has characters that a URL may not have", next_step="percent-encode them")
        self.target = target.encode()


def tls_context() -> ssl.SSLContext:
    """Certificates verified against the system's authorities, names checked, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Pool:
    """Connections to one origin. DNS is asked for each new connection."""

    __slots__ = ("_all", "_idle", "_loop", "_tasks", "_trimmer", "_waiting", "closed", "known", "origin")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.closed = False
        self.known: dict[bytes, KnownAnswer] = {}
        self._idle: list[Upstream] = []
        self._all: set[Upstream] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[Request] = deque()
        self._loop = asyncio.get_running_loop()
        self._trimmer: asyncio.TimerHandle | None = None

    def send(self, handler: AnswerHandler, head: bytes, body: bytes, *, repeatable: bool = False) -> Request:
        """Send one request. `head` ends with the empty line."""
        request = Request(handler, head, body, repeatable)
        idle = self._idle
        if idle:
            connection = idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                request.reused = True
                request.connection = connection
                connection.request = request
                if len(body) > 65536:
                    transport.writelines((head, body))
                else:
                    transport.write(head + body)
                return request
        self.connect(request)
        return request

    def _start(self, connection: Upstream, request: Request) -> None:
        """Send a request that waited on a connection that was just released."""
        if connection.transport is None or connection.transport.is_closing():
            self.connect(request)
            return
        request.reused = True
        request.connection = connection
        connection.request = request
        connection.transport.writelines((request.head, request.body))

    def connect(self, request: Request) -> None:
        """Open a connection for `request`: the one thing here that needs a task.

        Where many are being opened already, the request waits for one of them or for a connection that is
        released first: a burst must not overflow the server's listen queue.
        """
        if len(self._tasks) >= MAX_OPENING:
            self._waiting.append(request)
            return
        task = self._loop.create_task(self._open(request))
        self._tasks.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        while self._waiting and not self.closed:
            request = self._waiting.popleft()
            if not request.cancelled:
                self.connect(request)
                return

    async def _open(self, request: Request) -> None:
        origin = self.origin
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if origin.unix:
                    _, connection = await self._loop.create_unix_connection(lambda: Upstream(self), origin.unix)
                else:
                    _, connection = await self._loop.create_connection(
                        lambda: Upstream(self),
                        origin.host,
                        origin.port,
                        ssl=origin.tls,
                    )
        except TimeoutError:
            self._unreachable(request, f"no connection within {CONNECT_TIMEOUT_S:.0f} s")
        except ssl.SSLCertVerificationError as error:
            self._unreachable(request, f"its certificate does not verify ({error.verify_message})")
        except ssl.SSLError:
            self._unreachable(request, "the TLS handshake failed")
        except OSError as error:
            self._unreachable(request, (error.strerror or "connection refused").lower())
        else:
            transport = connection.transport
            if request.cancelled or self.closed or transport is None:
                connection.close()
                return
            self._all.add(connection)
            request.connection = connection
            connection.request = request
            transport.writelines((request.head, request.body))

    def _unreachable(self, request: Request, why: str) -> None:
        if not request.cancelled:
            request.handler.on_error(f"cannot reach the server: {why}")

    def remember(self, template: bytes, answer: KnownAnswer) -> None:
        """Keep the head of a whole answer."""
        if len(self.known) >= KNOWN:
            self.known.clear()
        self.known[template] = answer

    def release(self, connection: Upstream) -> None:
        """A connection whose answer is complete."""
        if self.closed or len(self._idle) >= MAX_IDLE_CONNECTIONS:
            connection.close()
            return
        while self._waiting:
            request = self._waiting.popleft()
            if not request.cancelled:
                self._start(connection, request)
                return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._trimmer is None:
            self._trimmer = self._loop.call_later(1.0, self._trim)

    def forget(self, connection: Upstream) -> None:
        """A connection that is gone."""
        self._all.discard(connection)
        if connection.request is None and connection in self._idle:
            self._idle.remove(connection)

    def _trim(self) -> None:
        """Close what was idle too long; the oldest are at the front."""
        self._trimmer = None
        limit = self._loop.time() - MAX_IDLE_S + 1.0
        while self._idle and self._idle[0].idle_since < limit:
            self._idle[0].close()
        if self._idle:
            self._trimmer = self._loop.call_later(1.0, self._trim)

    def close(self) -> None:
        """Close every connection; what is in flight ends without its handler being told."""
        self.closed = True
        if self._trimmer is not None:
            self._trimmer.cancel()
        for connection in tuple(self._all):
            connection.request = None
            connection.close()
        for task in tuple(self._tasks):
            task.cancel()
