"""The answer to one POST: JSON when the answers are all there is to say, else an event stream."""

from __future__ import annotations

from callgate.protocol.message import RequestId
from callgate.transport.event_stream import EventStream
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.fields import JSON


class Reply:
    """Collects what belongs to one POST.

    `waiting` holds the ids without an answer. `batch`: the client sent an array and gets one.
    """

    __slots__ = ("_batch", "_parts", "exchange", "headers", "stream", "waiting")

    def __init__(
        self, exchange: Exchange, stream: EventStream, waiting: set[RequestId], *, batch: bool = False
    ) -> None:
        self.exchange = exchange
        self.stream = stream
        self.waiting = waiting
        self.headers: Headers = []
        self._parts: list[bytes] = []
        self._batch = batch

    @property
    def open(self) -> bool:
        """Whether a client is there to read."""
        return self.exchange.open if self.stream.exchange is None else self.stream.open

    def notify(self, data: bytes) -> bool:
        """A message before the answer: from now on this is an event stream. False: hold back."""
        if self.stream.exchange is None:
            self.stream.attach(self.exchange, self.headers)
            for part in self._parts:
                self.stream.send(part)
            self._parts.clear()
        return self.stream.send(data)

    def answer(self, request_id: RequestId | None, data: bytes, status: int = 200) -> bool:
        """One answer; the last one ends the reply. False: hold back. `status` applies to JSON."""
        self.waiting.discard(request_id)
        if self.stream.exchange is not None:
            held = self.stream.send(data)
            if not self.waiting:
                self.stream.finish()
            return held
        self._parts.append(data)
        if not self.waiting:
            self.stream.finished = True
            body = b"[" + b",".join(map(_bare, self._parts)) + b"]" if self._batch else data
            self._parts.clear()
            self.exchange.respond(status, [JSON, *self.headers], body)
        return True


def _bare(part: bytes) -> bytes:
    """Several errors of the gate come as one array; inside another array they stand alone."""
    return part[1:-1] if part[:1] == b"[" else part
