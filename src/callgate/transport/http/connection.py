"""One client connection: HTTP/1.1 in callbacks, from the first byte to the answer's last.

Requests are answered in order, one at a time. Parsing is llhttp in its strict mode: conflicting or
repeated framing headers, bare line feeds, folded lines and stray control characters are errors, and
an error closes the connection, so that nobody can smuggle a second request past a reader that frames
differently. Timeouts are plain deadlines that the server's sweep looks at; there is no timer per request:
`deadline` for a client that says nothing, `message_deadline` for a request that is being read, `unread_deadline` for
an answer that is not. They are kept apart, so that nothing a client sends gives it more time to read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import httptools

from callgate.transport.http.body import joined
from callgate.transport.http.exchange import Exchange, Headers, Route, SharedHeaders, Sink
from callgate.transport.http.fields import BODYLESS, JSON, NO_STORE, lowered, status_line
from callgate.transport.http.known_heads import body_start, split
from callgate.transport.http.quick import QuickCall
from callgate.transport.http.refusals import TOLD
from callgate.transport.http.request_head import RequestHead, without_upgrade
from callgate.transport.http.request_policy import Refusal

if TYPE_CHECKING:
    from callgate.transport.http.server import Endpoint, HttpServer, Site

MAX_TARGET = 8 * 1024
"""Bytes of a request target (414)."""
MAX_FIELDS = 128
"""Header fields of one request (431)."""
BYTES_PER_S = 16 * 1024
"""A body may take the header timeout plus its size at this pace (408); who reads an answer slower is dropped."""
LINGER_S = 2.0
"""How long a refused client's remaining bytes are read and dropped once it has the refusal, so that it sees it."""
PIPELINE = 8
"""Requests that may wait behind the one in progress before reading pauses."""

_IDLE, _HEAD, _BODY = 0, 1, 2
Quick: TypeAlias = Callable[["Connection", "KnownRequest", bytes], QuickCall | None]
_Pending: TypeAlias = tuple[Exchange, Route | Refusal, bool, bool]
NOT_FOUND = Refusal(404, "http-path", "nothing is served at this path")


class KnownRequest:
    """What a head came to: see known_heads. It holds for requests judged by `site` and for no others.

    `before` and `after` are its halves, set when it is remembered.
    """

    __slots__ = (
        "after", "before", "endpoint", "headers", "memo", "method", "principal", "query", "quick", "site", "through",
    )  # fmt: skip

    def __init__(
        self, site: Site, headers: Headers, method: bytes, endpoint: Endpoint, principal: str, query: str
    ) -> None:
        self.site = site
        self.before = self.after = b""
        self.headers = headers
        self.method = method
        self.endpoint = endpoint
        self.principal = principal
        self.query = query
        self.memo: dict[object, Any] = {}
        self.quick: Quick | None = getattr(endpoint.route, "quick_call", None) if method == b"POST" else None
        """The route's short way."""
        self.through: Callable[[Sink], Sink] | None = None
        """What answers that are not quick pass on their way to the connection."""

    def seen_as(
        self, headers: Headers, memo: dict[object, Any] | None, through: Callable[[Sink], Sink]
    ) -> KnownRequest:
        """The same as a route behind another one sees it."""
        seen = KnownRequest(self.site, headers, self.method, self.endpoint, self.principal, self.query)
        seen.before, seen.after = self.before, self.after
        if memo is not None:
            seen.memo = memo
        seen.through = through
        return seen


class _Stop(Exception):
    """Ends parsing from inside a parser callback."""


class Connection(asyncio.Protocol):
    """The server side of one TCP, TLS or unix connection."""

    __slots__ = (
        "_body",
        "_chunked",
        "_close",
        "_close_after",
        "_current",
        "_deadline_stage",
        "_endpoint",
        "_fed",
        "_head",
        "_http10",
        "_ignored",
        "_is_http10",
        "_last",
        "_parser",
        "_plain",
        "_principal",
        "_pumping",
        "_queue",
        "_reading_paused",
        "_refusal",
        "_sent",
        "_server",
        "_site",
        "_size",
        "_stage",
        "_stopped",
        "_target",
        "_unread",
        "deadline",
        "message_deadline",
        "transport",
        "unread_deadline",
        "write_paused",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[_Pending] = deque()
        self._current: Exchange | QuickCall | None = None
        self._stage = _IDLE
        self._deadline_stage = _IDLE
        self._fed = 0
        self._target = b""
        self._plain: KnownRequest | None = None
        self._last: KnownRequest | None = None
        self._stopped = False
        self._pumping = False
        self._reading_paused = False
        self._close_after = False
        self._chunked = False
        self._http10 = False
        self._ignored = False
        self._unread = 0
        self.write_paused = False
        self.deadline = self.message_deadline = self.unread_deadline = 0.0

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        server = self._server
        if not server.admit(self, self.transport):
            self._stopped = True
            exchange = Exchange(self, b"", "", "", [], b"", "", "")
            server.refused(Refusal(503, "http-connections", ""), exchange, self.transport)
            self.transport.write(self._render(503, [(b"retry-after", b"1"), NO_STORE], b"", close=True))
            self.transport.close()
            return
        self.deadline = server.now + server.site.listen.header_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._stopped = True
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
        if self._stopped:
            return
        found = None
        site = self._server.site
        # What may be too large goes through the parser, whose refusal says on record what was asked.
        if not self._fed and self._stage == _IDLE and len(data) <= site.limits.request_bytes:
            last = self._last
            if last is not None and last.site is site:
                if last.quick is not None and self._is_free and self._quick(last.quick, last, data):
                    return
                if start := body_start(last.before, last.after, data):
                    self._again(last, data[start:])
                    return
            found = split(data)
            if found is not None:
                known = site.known.get(found[0])
                if known is not None:
                    self._last = known
                    self._again(known, data[found[2] :])
                    return
                self._plain = None
        self._fed += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserUpgrade:
            # CONNECT was answered; what follows it is no HTTP.
            if not self._stopped:
                self._stopped = self._close_after = True
                if self._current is None and not self._queue:
                    self._finish_connection()
            return
        except httptools.HttpParserError as error:
            if not self._stopped:
                self._broken(error)
            return
        if found is not None and self._plain is not None and self._stage == _IDLE:
            self._server.site.remember(found[0], found[1], self._plain)
        if self._stage != self._deadline_stage:
            self._watch()
        if self._stage != _IDLE and self._fed > self._server.site.listen.header_bytes:
            what = "header" if self._stage == _HEAD else "trailer or a chunk's extension"
            self._stop(Refusal(431, "http-header-size", f"the {what} is larger than listen.header_bytes"))

    @property
    def _is_free(self) -> bool:
        """Whether a request that comes now is answered next, and the connection lives on."""
        return (
            self._current is None
            and not self._queue
            and not self._pumping
            and not self.write_paused
            and not self._server.draining
        )

    def _quick(self, quick: Quick, known: KnownRequest, data: bytes) -> bool:
        """Let the route try its short way; False: it did nothing."""
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

    def _parse(self, data: bytes) -> None:
        """Feed llhttp. A request that asks for another protocol is read again as if it did not (RFC 9110 section 7.8).

        For llhttp nothing behind such a head is HTTP any more. So a new parser gets the head that llhttp has read, but
        for the wish, and judges its framing once more.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                if not self._ignored:
                    raise
                data = data[wish.args[0] :]
                head = without_upgrade(self._parser.get_method(), self._target, self._version(), self._sent)
                self._ignored = False
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head)
            else:
                return

    def _version(self) -> bytes:
        version: str = self._parser.get_http_version()
        return version.encode()

    def pause_writing(self) -> None:
        self.write_paused = True
        self._unread = self.transport.get_write_buffer_size()
        self.unread_deadline = self._server.now + self._server.site.listen.idle_timeout_s

    def resume_writing(self) -> None:
        self.write_paused = False
        self.unread_deadline = 0.0
        exchange = self._current
        if exchange is not None:
            if exchange.on_drain is not None:
                exchange.on_drain()
        elif self._stopped and not self._queue:
            self._linger()
        else:
            self.deadline = self._server.now + self._server.site.listen.idle_timeout_s
            self._pump()

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._stopped:
            raise _Stop
        self._stage = _HEAD
        self._is_http10 = False
        self._sent: Headers = []
        self._body: bytes | bytearray = b""
        self._target = b""
        self._size = 0
        self._refusal: Refusal | None = None

    def on_url(self, url: bytes) -> None:
        self._target = self._target + url if self._target else url
        if len(self._target) > MAX_TARGET:
            self._stop(Refusal(414, "http-target-size", f"the request target is longer than {MAX_TARGET} bytes"))
            raise _Stop

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage == _HEAD:  # not so for a trailer, which is never merged into the header
            self._sent.append((lowered(name) or name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self._ignored = True
            return
        self._stage = _BODY
        server = self._server
        site = server.site
        sent = self._sent
        if self._fed > site.listen.header_bytes or len(sent) > MAX_FIELDS:
            size = sum(len(name) + len(value) + 4 for name, value in sent)
            if size > site.listen.header_bytes or len(sent) > MAX_FIELDS:
                self._stop(Refusal(431, "http-header-size", "the header is larger than listen.header_bytes"))
                raise _Stop
        self._fed = 0  # from here on it counts what is no body
        self._head = head = RequestHead(parser.get_method(), sent)
        self._close = not parser.should_keep_alive()
        self._is_http10 = False
        if self._close or head.connection is not None:
            # Only then can it be anything but HTTP/1.1.
            version = parser.get_http_version()
            if version == "1.0":
                self._close = self._is_http10 = True
            elif version != "1.1":
                self._stop(Refusal(505, "http-version", "only HTTP/1.1 and HTTP/1.0 are spoken here"))
                raise _Stop
        self._judge(head, head.length)
        if head.expect is not None:
            self._expected(head.expect)

    def _judge(self, head: RequestHead, length: int) -> None:
        """Who asks, and for what; or why not."""
        server = self._server
        self._site = site = server.site
        endpoints = site.endpoints
        target = self._target
        self._endpoint = endpoint = endpoints.get(target) or endpoints.get(target.partition(b"?")[0])
        principal = server.admission(head, endpoint)
        if type(principal) is Refusal:
            self._refusal = principal
        else:
            self._principal: str = principal  # type: ignore[assignment]  # type() narrows no union for mypy
            if length > site.limits.request_bytes:
                self._stop(_too_large(site.limits.request_bytes))
                raise _Stop

    def on_body(self, body: bytes) -> None:
        self._fed = 0
        self._size += len(body)
        if self._size > self._server.site.limits.request_bytes:
            self._stop(_too_large(self._server.site.limits.request_bytes))
            raise _Stop
        if self._refusal is None:
            self._body = joined(self._body, body)

    def on_message_complete(self) -> None:
        if self._ignored:
            return
        head = self._head
        if self._site is not self._server.site and self._refusal is None:
            self._judge(head, self._size)  # other rules came with the body, and the route may be closed by now
        self._stage = _IDLE
        self._deadline_stage = _IDLE
        self._fed = 0
        self.deadline = self.message_deadline = 0.0
        body = bytes(self._body)
        self._body = b""
        endpoint = self._endpoint
        target: Route | Refusal
        if self._refusal is not None or endpoint is None:
            exchange = self._as_asked(head.method)
            target = self._refusal or NOT_FOUND
        else:
            query = self._target.partition(b"?")[2].decode("latin-1") if b"?" in self._target else ""
            principal = self._principal
            exchange = Exchange(self, head.method, endpoint.path, query, head.kept, body, principal, endpoint.name)
            target = endpoint.route
            if head.ordinary and not self._close:
                self._plain = KnownRequest(self._server.site, head.kept, head.method, endpoint, principal, query)
        close = self._close
        if close:
            self._stopped = True
        self._turn(exchange, target, close, self._is_http10)

    def _again(self, known: KnownRequest, body: bytes) -> None:
        """A whole request with a head that was read and admitted before."""
        self.deadline = 0.0
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
        self._turn(exchange, endpoint.route, False, False)

    # -- order of requests -----------------------------------------------------------------------

    def _turn(self, exchange: Exchange, target: Route | Refusal, close: bool, http10: bool) -> None:
        """Start a request now, or when those before it are answered."""
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
            self._finish_connection()
            return
        self.deadline = self._server.idle_deadline
        if self._queue or self._reading_paused:
            self._pump()

    # -- QuickCall -------------------------------------------------------------------------------

    @property
    def takes_quick(self) -> bool:
        """Whether the answer needs nothing but what all answers have."""
        return not self._close_after

    @property
    def date_line(self) -> bytes:
        """The header that says what time it is."""
        return self._server.date_line

    def quick_answer(self, answer: bytes) -> None:
        """Send the whole answer to the call in progress."""
        self.transport.write(answer)
        self._current = None
        if self._queue or self._reading_paused:
            self._done()
        else:
            self.deadline = self._server.idle_deadline

    def grown(self, call: QuickCall, exchange: Exchange) -> None:
        """The call in progress is an exchange now."""
        if self._current is call:
            self._current = exchange

    # -- Sink ------------------------------------------------------------------------------------

    def send_response(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        if type(headers) is SharedHeaders and headers.status == status:
            lines = headers.lines or _shared_lines(headers)
        else:
            lines = _lines(status, headers)
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
        lines = _lines(status, headers)
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
            self._stopped = True
            self._queue.clear()
            self.transport.abort()
            return
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")
        self._done()

    def _render(self, status: int, headers: Headers, body: bytes, *, close: bool) -> bytes:
        lines = _lines(status, headers)
        if close:
            lines += b"connection: close\r\n"
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (lines, self._server.date_line, len(body), body)

    # -- refusing and closing --------------------------------------------------------------------

    def _watch(self) -> None:
        """A message has begun or its body is under way: it must be complete in time."""
        self._deadline_stage = self._stage
        listen = self._server.site.listen
        self.message_deadline = self._server.now + listen.header_timeout_s
        if self._stage == _BODY:
            self.message_deadline += max(self._head.length, 65536) / BYTES_PER_S

    def _expected(self, expect: bytes) -> None:
        """`Expect`: say 100 when the body is wanted and it is this request's turn; refuse before it is sent."""
        if expect.lower() != b"100-continue":
            self._stop(Refusal(417, "http-expect", "the only Expect understood is 100-continue"))
            raise _Stop
        if self._refusal is not None:
            self._stop(self._refusal)
            raise _Stop
        if self._current is None and not self._queue and not self._is_http10:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _broken(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            self._server.defect(cause)
            refusal = Refusal(500, "internal", "callgate failed; the message did not pass")
        elif isinstance(error, httptools.HttpParserInvalidMethodError):
            refusal = Refusal(405, "http-method", "this method is not known", ((b"allow", b"GET, POST, DELETE"),))
        else:
            refusal = Refusal(400, "http-malformed", "the request is not well-formed HTTP/1.1")
        self._stop(refusal)

    def _stop(self, refusal: Refusal) -> None:
        """Answer `refusal` in its turn, read nothing more as HTTP, then close."""
        if self._stopped:
            return
        self._stopped = True
        if self._stage == _IDLE:
            exchange = Exchange(self, b"", "", "", [], b"", "", "")
        else:
            exchange = self._as_asked(self._parser.get_method() if self._stage == _BODY else b"")
        self._stage = _IDLE
        self._body = b""
        self.deadline = self.message_deadline = 0.0
        self._queue.append((exchange, refusal, True, False))
        if self._current is None:
            self._pump()

    def _as_asked(self, method: bytes) -> Exchange:
        """The request as far as it was read, for a refusal: what evidence tells of it, and nothing else."""
        told = [(name, value if TOLD[name] else b"") for name, value in self._sent if name in TOLD]
        path = self._target.partition(b"?")[0]
        endpoint = self._server.site.endpoints.get(path)
        return Exchange(self, method, path.decode("latin-1"), "", told, b"", "", endpoint.name if endpoint else "")

    def _finish_connection(self) -> None:
        """Close after the answer. What the client still sends is read and dropped, lest a reset eat the answer."""
        self._stopped = True
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

    def sweep(self, now: float) -> None:
        """Look at the clock: end what has taken too long."""
        if 0.0 < self.unread_deadline < now:
            self._unread_for_long(now)
        elif 0.0 < self.message_deadline < now:
            self.message_deadline = 0.0
            self._stop(Refusal(408, "http-timeout", "the request was not complete in time"))
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
        if self._current is None and self._stage == _IDLE:
            self._stopped = True
            self.transport.close()

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered, or an answer is still on its way out."""
        return self._current is not None or self._stage != _IDLE or self.transport.get_write_buffer_size() > 0


def _lines(status: int, headers: Headers) -> bytes:
    """The status line and the headers, each with its line end."""
    return b"\r\n".join([status_line(status), *[name + b": " + value for name, value in headers], b""])


def _shared_lines(headers: SharedHeaders) -> bytes:
    headers.lines = _lines(headers.status, headers)
    return headers.lines


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "http-body-size", f"the body is larger than limits.request_bytes ({limit})")
