"""SSE towards a client: events with ids, and a bounded memory of them for `Last-Event-ID`."""

from __future__ import annotations

from collections import deque

from callgate.transport.http.exchange import Exchange, Headers

SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
KEEP_ALIVE_S = 25.0
"""Between comments on an open stream."""
LOG_BYTES = 1 << 20
LOG_EVENTS = 1000


class EventLog:
    """The last events of all streams of one session: at most LOG_EVENTS and LOG_BYTES."""

    __slots__ = ("_bytes", "_events", "_lost")

    def __init__(self) -> None:
        self._events: deque[tuple[int, int, bytes]] = deque()
        self._bytes = 0
        self._lost: dict[int, int] = {}

    def add(self, stream: int, number: int, event: bytes) -> None:
        """Remember event `number` of `stream`, forgetting the oldest of the session where there is no room."""
        self._events.append((stream, number, event))
        self._bytes += len(event)
        while self._bytes > LOG_BYTES or len(self._events) > LOG_EVENTS:
            old_stream, old_number, old = self._events.popleft()
            self._bytes -= len(old)
            self._lost[old_stream] = old_number
            if len(self._lost) > LOG_EVENTS:
                del self._lost[next(iter(self._lost))]

    def after(self, stream: int, number: int) -> list[bytes] | None:
        """The events of `stream` after `number`; None when some of them are forgotten."""
        if self._lost.get(stream, 0) > number:
            return None
        return [event for key, count, event in self._events if key == stream and count > number]


class EventStream:
    """One SSE stream of a session. It outlives its connection, so that the client can come back for the rest."""

    __slots__ = ("_log", "_sent", "exchange", "finished", "key")

    def __init__(self, key: int, log: EventLog | None) -> None:
        self.key = key
        self.exchange: Exchange | None = None
        self.finished = False
        self._log = log
        self._sent = 0

    def attach(self, exchange: Exchange, extra: Headers, missed: list[bytes] | None = None) -> None:
        """Send events over `exchange` from now on, after those the client missed."""
        self.exchange = exchange
        exchange.start_stream(200, SSE_HEADERS + extra)
        if missed:
            exchange.write(b"".join(missed))
        if self.finished:
            exchange.finish()

    @property
    def open(self) -> bool:
        """Whether a client is there to read."""
        return self.exchange is not None and self.exchange.open

    def send(self, data: bytes) -> bool:
        """One message (JSON without line breaks) as an event. False: the client reads too slowly, hold back."""
        if self._log is None:
            event = b"event: message\ndata: " + data + b"\n\n"
        else:
            self._sent += 1
            event = b"id: %d-%d\nevent: message\ndata: %b\n\n" % (self.key, self._sent, data)
            self._log.add(self.key, self._sent, event)
        return self.exchange.write(event) if self.exchange is not None else True

    def keep_alive(self) -> None:
        """A comment, so that nothing between here and the client takes the stream for dead."""
        if self.open and self.exchange is not None:
            self.exchange.write(b":\n\n")

    def finish(self) -> None:
        """No further event."""
        self.finished = True
        if self.exchange is not None:
            self.exchange.finish()


def parse_event_id(text: bytes) -> tuple[int, int] | None:
    """(stream, number) of an event id this module made, or None."""
    stream, dash, number = text.partition(b"-")
    if not dash or len(text) > 40 or not (stream.isdigit() and number.isdigit()):
        return None
    return int(stream), int(number)
