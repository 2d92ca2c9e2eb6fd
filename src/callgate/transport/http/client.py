"""The upstream side of HTTP: a pool of keep-alive connections to one origin, in callbacks.

One request is in flight on a connection; the one used last is used first (it is warm, and the others may
age out). A request that ends early closes its connection: that is what cancels it upstream.

**Retry.** An idle connection may be closed by the server at the very moment we write to it. Such a
request is sent again, once, on a fresh connection, and only when the caller says it is repeatable: a
`tools/call` might have run. To make the race rare for the others, a connection that was idle for
MAX_IDLE_S is not used again: Node.js and uvicorn close theirs after 5 seconds.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from callgate.transport.http.answer_plan import AnswerPlan
from callgate.transport.http.known_heads import KNOWN
from callgate.transport.http.origin import Origin
from callgate.transport.http.upstream import AnswerHandler, KnownAnswer, Request, Upstream

__all__ = ["AnswerHandler", "Origin", "Pool", "Request", "Upstream"]

CONNECT_TIMEOUT_S = 10.0
MAX_IDLE_S = 4.0
MAX_IDLE_CONNECTIONS = 256
MAX_OPENING = 64
"""Connections being opened at once, per origin."""


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

    def send(
        self,
        handler: AnswerHandler,
        head: bytes,
        body: bytes,
        *,
        repeatable: bool = False,
        whole: Callable[[AnswerPlan, bytes], None] | None = None,
    ) -> Request:
        """Send one request. `head` ends with the empty line; for `whole` see Request."""
        request = Request(handler, head, body, repeatable, whole)
        connection = self.take()
        if connection is None:
            self.connect(request)
            return request
        request.reused = True
        request.connection = connection
        connection.request = request
        transport: asyncio.Transport = connection.transport  # type: ignore[assignment]  # `take` gives none without
        if len(body) > 65536:
            transport.writelines((head, body))
        else:
            transport.write(head + body)
        return request

    def take(self) -> Upstream | None:
        """A connection that waits for its next request, or None. Who takes one sends on it or gives it back."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    def give_back(self, connection: Upstream) -> None:
        """A connection that was taken and not used."""
        self._idle.append(connection)

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
            connection.request = connection.quick = None
            connection.close()
        for task in tuple(self._tasks):
            task.cancel()
