"""One HTTP answer of a remote server: JSON, events, or a refusal; and taking up a broken stream again.

A handshake-era stream that ends before its answer may go on elsewhere: with the id of the last event, a GET gets
the rest (2025-11-25 servers do this on purpose, to poll). Whoever still waits when nothing more can come is told.
"""

from __future__ import annotations

from typing import Protocol

from callgate.errors import LimitExceeded
from callgate.protocol.message import RequestId
from callgate.protocol.sse import SseParser
from callgate.transport.http.body import joined
from callgate.transport.http.client import Request
from callgate.transport.http.exchange import Headers

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
ATTEMPTS = 5
"""Reconnections in a row that brought nothing."""


class Owner(Protocol):
    """What an answer needs of the relay."""

    @property
    def limit(self) -> int:
        """Largest message in bytes."""

    def incoming(self, data: bytes) -> None:
        """A message of the server."""

    def waits(self, request_id: RequestId) -> bool:
        """Whether a request is still without an answer."""

    def opened(self, session_id: bytes) -> None:
        """The answer to `initialize` named a session."""

    def refused(self, answer: RemoteAnswer, status: int, body: bytes) -> None:
        """The server answered with an HTTP error."""

    def failed(self, answer: RemoteAnswer, what: str) -> None:
        """No answer will come any more."""

    def reconnect(self, answer: RemoteAnswer, delay_s: float) -> None:
        """Connect again after `delay_s`, from `answer.last_event` on."""

    def settled(self, answer: RemoteAnswer) -> None:
        """What came before may be followed by the next message."""

    def answered(self, answer: RemoteAnswer) -> None:
        """Nobody waits for anything that this one may still bring."""

    def over(self, answer: RemoteAnswer) -> None:
        """Nothing more comes of this answer."""


class RemoteAnswer:
    """The answer to one POST, or the stream of a GET (`listening`)."""

    __slots__ = (
        "_attempts",
        "_body",
        "_owner",
        "_parser",
        "_retry_s",
        "_status",
        "cancelled",
        "ids",
        "last_event",
        "listening",
        "modern",
        "opening",
        "request",
    )

    def __init__(
        self,
        owner: Owner,
        ids: list[RequestId],
        *,
        opening: bool = False,
        modern: bool = False,
        listening: bool = False,
    ) -> None:
        self.ids = ids
        self.opening = opening
        self.modern = modern
        self.listening = listening
        self.cancelled = False
        self.last_event = b""
        self.request: Request | None = None
        self._owner = owner
        self._parser: SseParser | None = None
        self._body: bytes | bytearray = b""
        self._status = 0
        self._retry_s = FIRST_RETRY_S
        self._attempts = 0

    # -- AnswerHandler ---------------------------------------------------------------------------

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        self._parser = None
        self._body = b""
        kind = session_id = b""
        for name, value in headers:
            if name == b"content-type":
                kind = value.partition(b";")[0].strip().lower()
            elif name == b"mcp-session-id":
                session_id = value
        if status < 300:
            if self.opening and session_id:
                self._owner.opened(session_id)
            if kind == b"text/event-stream":
                self._parser = SseParser(self._owner.limit)

    def on_data(self, data: bytes) -> None:
        if self._parser is not None:
            self._events(self._parser, data)
            return
        if len(self._body) + len(data) > self._owner.limit:
            self._stop("the server's answer exceeds limits.response_bytes")
        else:
            self._body = joined(self._body, data)

    def _events(self, parser: SseParser, data: bytes) -> None:
        try:
            events = parser.feed(data)
        except LimitExceeded as error:
            self._stop(error.what)
            return
        for event in events:
            if event.id is not None:
                self.last_event = event.id
            if event.retry is not None:
                self._retry_s = min(event.retry / 1000, LONGEST_RETRY_S)
            if event.data:
                self._attempts = 0
                self._owner.incoming(event.data)
        if not self._waits:
            self._owner.settled(self)
            if not self.listening:
                self._owner.answered(self)

    def on_end(self) -> None:
        self.request = None
        if self._status >= 300:
            self._owner.refused(self, self._status, bytes(self._body))
            self._owner.over(self)
        elif self._parser is not None:
            self._ended("the server ended its answer early")
        else:
            body = bytes(self._body)
            if body.strip():
                self._owner.incoming(body)
            if self._waits:
                self._owner.failed(self, "the server did not answer the request")
            self._owner.over(self)

    def on_error(self, what: str) -> None:
        self.request = None
        self._ended(what)

    # -- ends ------------------------------------------------------------------------------------

    @property
    def _waits(self) -> bool:
        return any(self._owner.waits(request_id) for request_id in self.ids)

    def _ended(self, what: str) -> None:
        """The stream broke off or was closed: go on after its last event, if there is anything to wait for."""
        resumable = self.listening or (self.last_event and self._waits)
        if resumable and not self.modern and self._attempts < ATTEMPTS:
            delay = self._retry_s * 2**self._attempts
            self._attempts += 1
            self._owner.reconnect(self, min(delay, LONGEST_RETRY_S))
            return
        if self._waits:
            self._owner.failed(self, what)
        self._owner.over(self)

    def _stop(self, what: str) -> None:
        if self.request is not None:
            self.request.cancel()
            self.request = None
        self._owner.failed(self, what)
        self._owner.over(self)
