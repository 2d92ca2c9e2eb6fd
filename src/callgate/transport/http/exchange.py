"""One HTTP request and its answer, as routes see it.

The connection (`connection.py`) reads and checks a request, makes an Exchange and hands it to the Route of
its path. The route answers at once or later, from any callback of the event loop: either `respond`
(one write: head and body together) or `start_stream`, `write` …, `finish`. There is no coroutine, task
or future per request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case, order kept, duplicates kept."""


class SharedHeaders(list[tuple[bytes, bytes]]):
    """Headers that many answers of one status share: whoever writes them keeps their rendered `lines` here.

    Nobody changes them. `lines` is the status line and a line for each header, empty until the first answer.
    """

    __slots__ = ("lines", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        super().__init__(headers)
        self.status = status
        self.lines = b""


class Sink(Protocol):
    """What writes an exchange's answer: the connection it came on, or a recorder in a test."""

    def send_response(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None: ...

    def refused(self, exchange: Exchange, status: int, rule: str) -> None:
        """Put on record that the gate itself refuses the request; its answer follows."""

    def send_head(self, exchange: Exchange, status: int, headers: Headers) -> None: ...

    def send_data(self, exchange: Exchange, data: bytes) -> bool: ...

    def send_end(self, exchange: Exchange, complete: bool) -> None: ...


class Exchange:
    """One request with its whole body, and the means to answer it.

    `path` is the decoded part before `?`, `query` the raw part after it. `headers` holds what the client
    sent, names in lower case, already checked (Host, Origin, Content-Type, bearer token) and without
    `authorization`, `cookie`, `proxy-*` and hop-by-hop headers. `principal` is the verified caller.

    `memo`, where there is one, belongs to all exchanges with this very header list: what a route derives from
    the header alone it may keep there, under itself as the key. `headers` is then shared: do not change it.

    `on_disconnect` is called once when the client goes away before the answer is finished; after it (and
    after `finish`, `respond` or `abort`) every further call is ignored. `on_drain` is called when a
    stream whose `write` returned False may go on.
    """

    __slots__ = (
        "body",
        "headers",
        "memo",
        "method",
        "on_disconnect",
        "on_drain",
        "path",
        "principal",
        "query",
        "route",
        "sink",
        "streaming",
    )

    def __init__(
        self,
        sink: Sink | None,
        method: bytes,
        path: str,
        query: str,
        headers: Headers,
        body: bytes,
        principal: str,
        route: str,
        memo: dict[object, Any] | None = None,
    ) -> None:
        self.sink = sink
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.principal = principal
        self.route = route
        self.streaming = False
        self.memo = memo
        self.on_disconnect: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of header `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def open(self) -> bool:
        """Whether an answer can still be written."""
        return self.sink is not None

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer. `content-length`, `date` and `connection` are added; do not pass them."""
        sink = self.sink
        if sink is not None:
            self.sink = self.on_disconnect = self.on_drain = None  # no reference cycle is left to be collected
            sink.send_response(self, status, headers, body)

    def refuse(self, status: int, rule: str, headers: Headers, body: bytes) -> None:
        """The whole answer to a request that the gate refuses before its message was decided: also put on record."""
        if self.sink is not None:
            self.sink.refused(self, status, rule)
        self.respond(status, headers, body)

    def start_stream(self, status: int, headers: Headers) -> None:
        """The head of an answer whose body follows by `write` (chunked, or until close for HTTP/1.0)."""
        if self.sink is not None:
            self.streaming = True
            self.sink.send_head(self, status, headers)

    def write(self, data: bytes) -> bool:
        """A piece of the body, sent at once. False: above the high-water mark, stop until `on_drain`."""
        if self.sink is None:
            return True
        return self.sink.send_data(self, data)

    def finish(self) -> None:
        """The body is complete."""
        sink = self.sink
        if sink is not None:
            self.sink = self.on_disconnect = self.on_drain = None
            sink.send_end(self, True)

    def abort(self) -> None:
        """The body cannot be completed: close the connection so that the client sees it was cut."""
        sink = self.sink
        if sink is not None:
            self.sink = self.on_disconnect = self.on_drain = None
            sink.send_end(self, False)


class Route(Protocol):
    """What answers the exchanges of one path: one configured server."""

    def handle(self, exchange: Exchange) -> None:
        """Called on the event loop when the whole request is there. Must not block."""

    async def close(self, grace_s: float) -> None:
        """Finish or end what is in flight within `grace_s` seconds, then let go of the upstream."""
