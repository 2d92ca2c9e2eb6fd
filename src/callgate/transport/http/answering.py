"""The answering half of a client's connection: requests in their order, each with its answer, and the end of it all.

One request is answered at a time, and those behind it wait: more than a few, and nothing more is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from callgate.transport.http.answer_head import lines_of, shared_lines
from callgate.transport.http.exchange import Exchange, Headers, Route, SharedHeaders
from callgate.transport.http.fields import BODYLESS, JSON, NO_STORE
from callgate.transport.http.quick import QuickCall
from callgate.transport.http.request_policy import Refusal
from callgate.transport.http.request_reader import NOT_FOUND

if TYPE_CHECKING:
    from callgate.transport.http.server import HttpServer

PIPELINE: Final = 8
"""Requests that may wait behind the one in progress before reading pauses."""
BYTES_PER_S: Final = 16 * 1024
"""A body may take the header timeout plus its size at this pace (408); who reads an answer slower is dropped."""
LINGER_S: Final = 2.0
"""How long a refused client's remaining bytes are read and dropped once it has the refusal, so that it sees it."""

_Pending: TypeAlias = tuple[Exchange, Route | Refusal, bool, bool]


class Answering(asyncio.Protocol):
    """See the module. Implements `exchange.Sink`, and what a QuickCall asks of its client."""

    __slots__ = (
        "_chunked", "_close_after", "_current", "_http10", "_pumping", "_queue", "_reading_paused", "_server",
        "deadline", "message_deadline", "stopped", "transport", "write_paused",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._queue: deque[_Pending] = deque()
        self._current: Exchange | QuickCall | None = None
        self._pumping = False
        self._reading_paused = False
        self._close_after = False
        self._chunked = False
        self._http10 = False
        self.stopped = False
        """Nothing more is read as HTTP."""
        self.write_paused = False
        self.deadline = 0.0
        """When a client that says nothing has done so for long enough."""
        self.message_deadline = 0.0
        """When the request that is being read must be complete."""

    # -- order of requests -----------------------------------------------------------------------

    def turn(self, exchange: Exchange, target: Route | Refusal, close: bool, http10: bool) -> None:
        """Start a request now, or when those before it are answered."""
        self.deadline = 0.0
        if self._current is None and not self._queue and not self._pumping and not self.write_paused:
            self._start(exchange, target, close, http10)
            return
        self._queue.append((exchange, target, close, http10))
        if len(self._queue) >= PIPELINE and not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def _start(self, exchange: Exchange, target: Route | Refusal, close: bool, http10: bool) -> None:
        self._http10 = http10
        self._close_after = close or self._server.draining
        self._current = exchange
        if type(target) is Refusal:
            self._server.refused(target, exchange, self.transport)
            exchange.respond(target.status, [JSON, NO_STORE, *target.headers], self._server.error_body(target))
            return
        try:
            target.handle(exchange)  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - a defect in a route must cost one request, not the gateway
            self._server.failed(exchange, error)

    def _pump(self) -> None:
        """Start what waits, without recursion: an answer may come before `handle` returns."""
        if self._pumping:
            return
        self._pumping = True
        queue = self._queue
        while queue and self._current is None and not self.write_paused:
            exchange, target, close, http10 = queue.popleft()
            if type(target) is not Refusal:  # other rules may have come while it waited, and its route be closed
                endpoint = self._server.site.endpoints.get(exchange.path.encode())
                target = NOT_FOUND if endpoint is None else endpoint.route
            self._start(exchange, target, close, http10)
        self._pumping = False
        if self._reading_paused and not queue and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    def _done(self) -> None:
        self._current = None
        if self._close_after:
            self._finish()
            return
        self.deadline = self._server.idle_deadline
        if self._queue or self._reading_paused:
            self._pump()

    # -- QuickCall -------------------------------------------------------------------------------

    def quick_date(self) -> bytes | None:
        """The header that says what time it is; None where the answer needs another one that not all answers have."""
        return None if self._close_after else self._server.date_line

    def quick_answer(self, answer: bytes) -> None:
        """Send the whole answer to the call in progress."""
        self.transport.write(answer)
        self._current = None
        if self._queue or self._reading_paused:
            self._done()
        else:
            self.deadline = self._server.idle_deadline

    def grown(self, call: QuickCall, exchange: Exchange) -> None:
        """The call in progress is an exchange now. One that was answered already has nobody to answer."""
        if self._current is call:
            self._current = exchange
        else:
            exchange.sink = None

    # -- Sink ------------------------------------------------------------------------------------

    def send_response(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        if type(headers) is SharedHeaders and headers.status == status:
            lines = headers.lines or shared_lines(headers)
        else:
            lines = lines_of(status, headers)
        if self._close_after:
            lines += b"connection: close\r\n"
        if status in BODYLESS:
            head = b"%b%b\r\n" % (lines, self._server.date_line)
            body = b""
        else:
            head = b"%b%bcontent-length: %d\r\n\r\n" % (lines, self._server.date_line, len(body))
            if exchange.method == b"HEAD":
                body = b""
        if len(body) > 65536:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)
        self._current = None
        if self._close_after or self._queue or self._reading_paused:
            self._done()
        else:
            self.deadline = self._server.idle_deadline

    def refused(self, exchange: Exchange, status: int, rule: str) -> None:
        self._server.refused(Refusal(status, rule, ""), exchange, self.transport)

    def send_head(self, exchange: Exchange, status: int, headers: Headers) -> None:
        self._chunked = not self._http10
        if not self._chunked:
            self._close_after = True
        lines = lines_of(status, headers)
        if self._close_after:
            lines += b"connection: close\r\n"
        if self._chunked:
            lines += b"transfer-encoding: chunked\r\n"
        self.transport.write(b"%b%b\r\n" % (lines, self._server.date_line))

    def send_data(self, exchange: Exchange, data: bytes) -> bool:
        if data:
            if not self._chunked:
                self.transport.write(data)
            elif len(data) > 65536:
                self.transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
            else:
                self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return not self.write_paused

    def send_end(self, exchange: Exchange, complete: bool) -> None:
        if not complete:
            self._current = None
            self.stopped = True
            self._queue.clear()
            self.transport.abort()
            return
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")
        self._done()

    # -- after the last answer -------------------------------------------------------------------

    def _finish(self) -> None:
        """Close after the answer. What the client still sends is read and dropped, lest a reset eat the answer."""
        self.stopped = True
        self._queue.clear()
        transport = self.transport
        self.message_deadline = 0.0
        self._linger()
        if self._half_closes:
            transport.write_eof()
        else:
            transport.close()

    @property
    def _half_closes(self) -> bool:
        """Whether what the client still sends can be read after the last answer."""
        transport = self.transport
        return transport.can_write_eof() and not self._reading_paused and not transport.is_closing()

    def _linger(self) -> None:
        """All is said. What the client has not read of it yet, it gets."""
        seconds = LINGER_S + self.transport.get_write_buffer_size() / BYTES_PER_S
        if not self._half_closes:  # and over TLS, nobody knows what is on its way still
            seconds = self._server.site.listen.idle_timeout_s
        self.deadline = 0.0 if self.write_paused else self._server.now + seconds
