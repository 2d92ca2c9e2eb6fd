"""One client connection: HTTP/1.1 in callbacks, from the first byte to the answer's last.

Requests are answered in order, one at a time. Timeouts are plain deadlines that the server's sweep looks at; there is
no timer per request: `deadline` for a client that says nothing, `message_deadline` for a request that is being read,
`unread_deadline` for an answer that is not. They are kept apart, so that nothing a client sends gives it more time to
read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from callgate.transport.http.answer_head import lines_of
from callgate.transport.http.answering import BYTES_PER_S, Answering
from callgate.transport.http.exchange import Exchange, Route
from callgate.transport.http.fields import NO_STORE
from callgate.transport.http.known_heads import body_start, split
from callgate.transport.http.known_request import KnownRequest, Quick
from callgate.transport.http.quick import QuickCall
from callgate.transport.http.request_policy import Refusal
from callgate.transport.http.request_reader import BODY, IDLE, RequestReader

if TYPE_CHECKING:
    from callgate.transport.http.server import HttpServer


class Connection(Answering):
    """The server side of one TCP, TLS or unix connection."""

    __slots__ = ("_last", "_reader", "_unread", "_watched", "_within", "unread_deadline")

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self._reader = RequestReader(server, self)
        self._last: KnownRequest | None = None
        self._watched = IDLE
        self._within = 0.0
        self._unread = 0
        self.unread_deadline = 0.0

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        server = self._server
        if not server.admit(self, self.transport):
            self.stopped = True
            exchange = Exchange(self, b"", "", "", [], b"", "", "")
            server.refused(Refusal(503, "http-connections", ""), exchange, self.transport)
            lines = lines_of(503, [(b"retry-after", b"1"), NO_STORE])
            self.transport.write(b"%bconnection: close\r\n%bcontent-length: 0\r\n\r\n" % (lines, server.date_line))
            self.transport.close()
            return
        self.deadline = server.now + server.site.listen.header_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:
        self.stopped = True
        self._server.connections.discard(self)
        self._queue.clear()
        if type(self._current) is QuickCall:
            self._current.grow()
        exchange: Exchange | None = self._current  # type: ignore[assignment]  # as it is now
        if exchange is not None:
            self._current = None
            exchange.sink = None
            gone = exchange.on_disconnect
            exchange.on_disconnect = exchange.on_drain = None
            if gone is not None:
                gone()

    def data_received(self, data: bytes) -> None:
        if self.stopped:
            return
        found = None
        site = self._server.site
        # What may be too large goes through the parser, whose refusal says on record what was asked.
        reader = self._reader
        if not reader.fed and reader.stage == IDLE and len(data) <= site.limits.request_bytes:
            last = self._last
            if last is not None and last.site is site:
                if last.quick is not None and self._quick(last.quick, last, data):
                    return
                if start := body_start(last.before, last.after, data):
                    self._again(last, data[start:])
                    return
            found = split(data)
            if found is not None:
                known = site.known.get(found[0])
                if known is not None:
                    self._last = known
                    if known.quick is None or not self._quick(known.quick, known, data):
                        self._again(known, data[found[2] :])
                    return
                reader.plain = None
        if not reader.feed(data):
            return
        if found is not None and reader.plain is not None and reader.stage == IDLE:
            site.remember(found[0], found[1], reader.plain)
        if reader.stage != IDLE:
            self._watch()

    def _quick(self, quick: Quick, known: KnownRequest, data: bytes) -> bool:
        """Let the route try its short way; False: it did nothing.

        That is only for a request that is answered next, on a connection that lives on.
        """
        if self._current is not None or self._queue or self._pumping or self.write_paused or self._server.draining:
            return False
        try:
            call = quick(self, known, data)
        except Exception as error:  # noqa: BLE001 - as in _start
            exchange = Exchange(
                self, known.method, known.endpoint.path, "", [], b"", known.principal, known.endpoint.name
            )
            self._current = exchange
            self._server.failed(exchange, error)
            return True
        if call is None:
            return False
        self.deadline = 0.0
        self._http10 = self._close_after = False
        self._current = call
        return True

    def _again(self, known: KnownRequest, body: bytes) -> None:
        """A whole request with a head that was read and admitted before."""
        endpoint = known.endpoint
        exchange = Exchange(
            self,
            known.method,
            endpoint.path,
            known.query,
            known.headers,
            body,
            known.principal,
            endpoint.name,
            known.memo,
        )
        self.turn(exchange, endpoint.route, False, False)

    def pause_writing(self) -> None:
        self.write_paused = True
        self._unread = self.transport.get_write_buffer_size()
        self.unread_deadline = self._server.idle_deadline

    def resume_writing(self) -> None:
        self.write_paused = False
        self.unread_deadline = 0.0
        exchange = self._current
        if exchange is not None:
            if exchange.on_drain is not None:
                exchange.on_drain()
        elif self.stopped and not self._queue:
            self._linger()
        else:
            self.deadline = self._server.idle_deadline
            self._pump()

    # -- request_reader.Asked --------------------------------------------------------------------

    def asked(self, exchange: Exchange, target: Route | Refusal, close: bool, http10: bool) -> None:
        self._watched = IDLE
        self.message_deadline = 0.0
        self.stopped = close
        self.turn(exchange, target, close, http10)

    def wanted(self) -> None:
        if self._current is None and not self._queue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def stop(self, refusal: Refusal) -> None:
        """Answer `refusal` in its turn, read nothing more as HTTP, then close."""
        if self.stopped:
            return
        self.stopped = True
        exchange = self._reader.abandon()
        self.deadline = self.message_deadline = 0.0
        self._queue.append((exchange, refusal, True, False))
        if self._current is None:
            self._pump()

    def tunnel(self) -> None:
        self.stopped = self._close_after = True
        if self._current is None and not self._queue:
            self._finish()

    # -- time ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """A message has begun or its body is under way: it must be complete in time.

        A body in chunks does not say how long it is: it has time for what has come of it.
        """
        reader = self._reader
        if reader.stage != self._watched:
            self._watched = reader.stage
            self._within = self._server.now + self._server.site.listen.header_timeout_s
        self.message_deadline = self._within
        if reader.stage == BODY:
            self.message_deadline += max(reader.head.length, reader.size, 65536) / BYTES_PER_S

    def sweep(self, now: float) -> None:
        """Look at the clock: end what has taken too long."""
        if 0.0 < self.unread_deadline < now:
            self._unread_for_long(now)
        elif 0.0 < self.message_deadline < now:
            self.message_deadline = 0.0
            self.stop(Refusal(408, "http-timeout", "the request was not complete in time"))
        elif 0.0 < self.deadline < now:
            self.deadline = 0.0
            if not self.write_paused and not self.message_deadline:
                self.transport.abort()

    def _unread_for_long(self, now: float) -> None:
        """Drop a client that does not read on; one that does, if slowly, may."""
        timeout = self._server.site.listen.idle_timeout_s
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        if before - self._unread < timeout * BYTES_PER_S:
            self.transport.abort()
        else:
            self.unread_deadline = now + timeout

    def drain(self) -> None:
        """No further request after the one in progress."""
        self._close_after = True
        if self._current is None and self._reader.stage == IDLE:
            self.stopped = True
            self.transport.close()

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered, or an answer is still on its way out."""
        return self._current is not None or self._reader.stage != IDLE or self.transport.get_write_buffer_size() > 0
