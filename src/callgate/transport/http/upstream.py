"""One connection to an upstream, and one request on it: HTTP/1.1 in callbacks.

Bytes nobody asked for close the connection: it is reused only when the parser has consumed exactly one answer
and nothing after it, and only after the chunk that held its end has been fed whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import httptools

from callgate.transport.http.answer_plan import AnswerPlan
from callgate.transport.http.exchange import Headers
from callgate.transport.http.fields import BODYLESS, lowered
from callgate.transport.http.known_heads import body_start, split
from callgate.transport.http.waiting import place_of

if TYPE_CHECKING:
    from callgate.transport.http.client import Pool
    from callgate.transport.http.quick import QuickCall

HEAD_BYTES = 64 * 1024
"""Bytes of an upstream's status line and header."""
OVERHEAD_BYTES = HEAD_BYTES + 65536
"""Bytes in a row that are no body, and one read: the parser keeps them, in headers and in trailers alike."""
MAX_FIELDS = 256
_STATUS = slice(9, 12)
"""Where a status line has its status."""
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
    """What a head came to: see known_heads. `before` and `after` are its halves."""

    __slots__ = ("after", "before", "headers", "plan", "status")

    def __init__(self, before: bytes, after: bytes, status: int, headers: Headers) -> None:
        self.before = before
        self.after = after
        self.status = status
        self.headers = headers
        self.plan = AnswerPlan(status, headers)


class Upstream(asyncio.Protocol):
    """One connection to the origin."""

    __slots__ = (
        "_complete",
        "_headers",
        "_keep",
        "_last",
        "_overhead",
        "_parser",
        "_pool",
        "_status",
        "answering",
        "idle_since",
        "plan",
        "quick",
        "request",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self.request: Request | None = None
        self.quick: QuickCall | None = None
        """A call under way that needs no Request so far."""
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self._headers: Headers = []
        self._complete = False
        self._overhead = 0
        self.answering = False
        self.plan: AnswerPlan | None = None
        """Of the answer under way, where its head was known."""
        self._last: KnownAnswer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if self.quick is not None:
            self.quick.grow()
        request = self.request
        if request is None:
            return
        self.request = None
        if self.answering and exc is None and not any(name in _FRAMING for name, _ in self._headers):
            _tell(request, request.handler.on_end)
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
        call = self.quick
        if call is not None:
            last = self._last
            if last is not None and last.plan.plain and call.answered(last, data):
                return
            call.grow()
        if self.request is None:
            self.close()  # nobody asked
            return
        found = None
        if not self._overhead and not self.answering:
            last = self._last
            if last is not None and (start := body_start(last.before, last.after, data)):
                self._again(last, data[start:])
                return
            found = split(data)
            if found is not None:
                known = self._pool.known.get(found[0])
                if known is not None:
                    self._last = known
                    self._again(known, data[found[2] :])
                    return
            self.plan = None
        self._overhead += len(data)
        if not self.answering and self._overhead > OVERHEAD_BYTES:
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
        if self._overhead > OVERHEAD_BYTES and self.answering and not self._complete:
            self.fail("the trailer of the server's answer is too large")
            return
        if self._complete:
            # The status must stand in the very head that is kept: an interim answer (1xx) may come before the answer.
            if (
                found is not None
                and self._keep
                and self._status not in BODYLESS
                and data[_STATUS] == b"%d" % self._status
            ):
                template, at, _ = found
                self._pool.remember(template, KnownAnswer(template[:at], template[at:], self._status, self._headers))
            self._finish()

    def _again(self, known: KnownAnswer, body: bytes) -> None:
        """A whole answer with a head that was read before."""
        request = self.request
        if request is None:
            return
        plan = known.plan
        whole = request.whole
        if whole is not None and plan.plain and body and not request.paused:
            self.request = request.connection = None
            self._pool.release(self)
            _tell(request, whole, plan, body)
            return
        self.plan = plan
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
        self._overhead = 0
        request = self.request
        if request is not None:
            request.handler.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        self._overhead = 0
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
        self._overhead = 0
        if self._keep and request is not None:
            self._pool.release(self)
        else:
            self.close()
        if request is not None:
            request.connection = None
            _tell(request, request.handler.on_end)

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


def _tell(request: Request, hear: Callable[..., None], *what: object) -> None:
    """A defect in what becomes of an answer must cost one request, and its client no time."""
    try:
        hear(*what)
    except Exception as error:  # noqa: BLE001 - as the connection's _start
        request.handler.on_error(f"callgate failed on the server's answer ({place_of(error)})")


def _reason(error: httptools.HttpParserError) -> str:
    cause = error.__context__
    if isinstance(cause, _Unusable):
        return str(cause)
    if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
        return f"callgate failed on the server's answer ({place_of(cause)})"
    return "the server answered something that is not HTTP/1.1"


class Request:
    """One request under way; what its owner holds to slow it down or to end it.

    `whole`, where the handler has one, takes a plain answer with a known head at once: head, body and end.
    """

    __slots__ = ("body", "cancelled", "connection", "handler", "head", "paused", "repeatable", "reused", "whole")

    def __init__(
        self,
        handler: AnswerHandler,
        head: bytes,
        body: bytes,
        repeatable: bool,
        whole: Callable[[AnswerPlan, bytes], None] | None = None,
    ) -> None:
        self.handler = handler
        self.head = head
        self.body = body
        self.repeatable = repeatable
        self.whole = whole
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
