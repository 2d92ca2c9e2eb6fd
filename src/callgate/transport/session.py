"""One handshake-era session of Streamable HTTP, in front of an upstream that knows no HTTP.

Answers go on the POST that asked. What the server says by itself goes on the POST it belongs to where that is
known (progress), else on the only POST that waits, else on the GET stream, else on the newest POST;
and where there is none of these it waits for one, bounded: when the queue is full, nothing more is read from
the server until somebody listens. A client that goes away does not cancel; it may come back with
`Last-Event-ID`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from callgate.gate import answers
from callgate.gate.channel import Channel
from callgate.gate.outcome import Outcome
from callgate.protocol.message import Kind, Message, RequestId
from callgate.transport.bridge import Connect, Link
from callgate.transport.deadlines import Deadline, Deadlines
from callgate.transport.event_stream import KEEP_ALIVE_S, EventLog, EventStream, parse_event_id
from callgate.transport.http.exchange import Exchange
from callgate.transport.http.fields import JSON
from callgate.transport.reply import Reply

QUEUE_MESSAGES = 256
QUEUE_BYTES = 1 << 20
STALL_S = 60.0
"""A client that does not read for so long loses its session."""
IDLE_S = 1800.0
"""A session without requests and streams ends after so long."""
CANCELLED_S = 5.0
"""How long a cancelled request may still be answered by the server."""
STOP_GRACE_S = 2.0
_QUEUE = "queue"


class Session:
    """See the module. `now` is the loop's clock; `ended` is called once, when the session is over."""

    def __init__(
        self,
        session_id: bytes,
        channel: Channel,
        connect: Connect,
        timeout_s: float,
        now: Callable[[], float],
        ended: Callable[[Session], None],
    ) -> None:
        self.id = session_id
        self.principal = channel.conversation.principal
        self.over = False
        self.last_active = now()
        self._keep_alive_at = now() + KEEP_ALIVE_S
        self._now = now
        self._ended = ended
        self._timeout_s = timeout_s
        self._replies: dict[RequestId, Reply] = {}
        self._deadlines = Deadlines()
        self._cancelled: set[RequestId] = set()
        self._streams: dict[int, EventStream] = {}
        self._last_stream = 0
        self._listener: EventStream | None = None
        self._log = EventLog()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._blocked: dict[object, float] = {}
        self._initializing: RequestId | None = None
        self.link = Link(channel, self, connect)

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._replies)

    # -- from the client -------------------------------------------------------------------------

    def post(self, exchange: Exchange, message: Message | list[Message]) -> None:
        """A decoded POST."""
        self.last_active = self._now()
        batch = isinstance(message, list)
        messages = message if isinstance(message, list) else [message]
        upstream = self.link.upstream
        if upstream.queued > QUEUE_BYTES:
            text = "callgate: the server does not read its input"
            busy = answers.error(messages[0].id, answers.UNAVAILABLE, text, "server-busy")
            exchange.respond(503, [JSON, (b"retry-after", b"1")], busy)
            return
        asked = [one.id for one in messages if one.kind is Kind.REQUEST and one.id is not None]
        fresh = [one for one in asked if one not in self._replies]
        reply = Reply(exchange, self._stream(), set(), batch=batch)
        if messages[0].method == "initialize" and asked:
            self._initializing = asked[0]
            reply.headers.append((b"mcp-session-id", self.id))
        outcome = self.link.client(message)
        if self.over:  # the server's pipe broke: whoever waited has been told
            ended = answers.error(None, answers.UNAVAILABLE, "callgate: the session has ended", "session-ended")
            exchange.respond(404, [JSON], ended)
            return
        waiting = [one for one in fresh if one in self.link.channel.pending]
        self._cancelled_by(messages)
        if not waiting:
            self._streams.pop(reply.stream.key, None)
            self._acknowledge(exchange, outcome)
            return
        reply.waiting.update(waiting)
        for request_id in waiting:
            self._replies[request_id] = reply
            self._deadlines[request_id] = Deadline(self.last_active, self._timeout_s)
        exchange.on_disconnect = lambda: self._release(reply.stream)
        exchange.on_drain = lambda: self._drained(reply.notify, reply.stream)
        if outcome is not None and outcome.reply is not None:  # the refused part of a batch
            reply.answer(None, outcome.reply)
        if _QUEUE in self._blocked:
            self._flush(reply.notify, reply.stream)

    def _acknowledge(self, exchange: Exchange, outcome: Outcome | None) -> None:
        """Nothing to wait for: accepted, or refused."""
        if outcome is None or (outcome.forward is not None and outcome.reply is None):
            exchange.respond(202, [], b"")
        elif outcome.reply is None:
            exchange.respond(outcome.status, [], b"")
        else:
            exchange.respond(outcome.status, [JSON], outcome.reply)

    def _cancelled_by(self, messages: list[Message]) -> None:
        """A cancelled request need not be answered: it is not waited for much longer."""
        for message in messages:
            if message.method == "notifications/cancelled":
                request_id = message.names("requestId")
                if request_id is not None and request_id in self._deadlines:
                    self._cancelled.add(request_id)
                    self._deadlines[request_id].cut(self.last_active + CANCELLED_S)

    def listen(self, exchange: Exchange) -> None:
        """GET: the stream for what belongs to no request, or the rest of one that broke off."""
        self.last_active = self._now()
        last = exchange.header(b"last-event-id")
        missed: list[bytes] | None = None
        if last:
            place = parse_event_id(last)
            found = self._streams.get(place[0]) if place else None
            missed = self._log.after(*place) if place and found else None
            if found is None or found.exchange is None or missed is None:
                gone = answers.error(None, -32600, "callgate: these events are no longer kept", "events-gone")
                exchange.refuse(400, "events-gone", [JSON], gone)
                return
            stream = found
        else:
            stream = self._stream()
            if self._listener is not None:
                self._listener.finish()
            self._listener = stream
        if stream.exchange is not None:  # a client comes back before its broken connection is noticed
            stream.exchange.on_disconnect = None
            stream.exchange.finish()
        exchange.on_disconnect = lambda: self._release(stream)
        exchange.on_drain = lambda: self._drained(stream.send, stream)
        stream.attach(exchange, [], missed)
        self._release(stream)
        if stream is self._listener:
            self._flush(stream.send, stream)

    def _stream(self) -> EventStream:
        self._last_stream += 1
        stream = self._streams[self._last_stream] = EventStream(self._last_stream, self._log)
        if len(self._streams) > 4 * QUEUE_MESSAGES:
            for key in [key for key, old in self._streams.items() if old.finished][:QUEUE_MESSAGES]:
                del self._streams[key]
        return stream

    # -- from the server (Face) ------------------------------------------------------------------

    def answer(self, request_id: RequestId, data: bytes, kind: Kind) -> None:
        """The answer to a request of the client."""
        reply = self._replies.pop(request_id, None)
        self._deadlines.pop(request_id, None)
        self._cancelled.discard(request_id)
        if reply is None:
            return
        failed = request_id == self._initializing and kind is Kind.ERROR
        if request_id == self._initializing:
            self._initializing = None
            if failed:
                reply.headers.clear()
        self._keep_pace(reply.stream, reply.answer(request_id, data))
        if not reply.waiting and reply.stream.exchange is None:
            self._streams.pop(reply.stream.key, None)  # it was JSON: nothing to come back to
        if failed:
            self.end("initialize failed")

    def message(self, data: bytes, about: RequestId | None) -> None:
        """A request or notification of the server."""
        if self.over:
            return
        self._deadlines.goes_on(about, self._now(), self._timeout_s)
        reply = self._replies.get(about) if about is not None else None
        if reply is None or not reply.open:
            reply = self._only_or_newest(newest=self._listener is None or not self._listener.open)
        if reply is not None:
            self._keep_pace(reply.stream, reply.notify(data))
        elif self._listener is not None and self._listener.open and not self._queue:
            self._keep_pace(self._listener, self._listener.send(data))
        else:
            self._queue.append(data)
            self._queued += len(data)
            if self._queued > QUEUE_BYTES or len(self._queue) >= QUEUE_MESSAGES:
                self._block(_QUEUE)

    def _only_or_newest(self, *, newest: bool) -> Reply | None:
        if len(self._replies) == 1 or newest:
            for reply in reversed(self._replies.values()):
                if reply.open:
                    return reply
        return None

    def drained(self) -> None:
        """The server reads again; nothing waits on it here."""

    def gone(self, how: str) -> None:
        """The server is gone; the client starts anew when its next request gets 404."""
        self._finish()

    # -- pace ------------------------------------------------------------------------------------

    def _keep_pace(self, target: object, ok: bool) -> None:
        if not ok:
            self._block(target)

    def _block(self, target: object) -> None:
        if not self._blocked:
            self.link.upstream.pause()
        self._blocked.setdefault(target, self._now())

    def _release(self, target: object) -> None:
        self.last_active = self._now()
        if self._blocked.pop(target, None) is not None and not self._blocked:
            self.link.upstream.resume()

    def _drained(self, send: Callable[[bytes], bool], target: EventStream) -> None:
        """The client reads on: first what still waits in the queue."""
        if self._queue and (target is self._listener or _QUEUE in self._blocked):
            self._block(_QUEUE)
            self._blocked.pop(target, None)
            self._flush(send, target)
        else:
            self._release(target)

    def _flush(self, send: Callable[[bytes], bool], target: object) -> None:
        """Send what was queued."""
        while self._queue and target not in self._blocked:
            data = self._queue.popleft()
            self._queued -= len(data)
            self._keep_pace(target, send(data))
        self._release(_QUEUE)

    def tick(self, now: float) -> None:
        """About once a second: requests without answer, clients that do not read, idleness."""
        for request_id in self._deadlines.late(now):
            if not self.over:
                self._expire(request_id)
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + KEEP_ALIVE_S
            for stream in self._streams.values():
                stream.keep_alive()
        if any(now - since > STALL_S for target, since in self._blocked.items() if target is not _QUEUE):
            self.end("the client does not read")
        elif not self._replies and not (self._listener and self._listener.open) and now - self.last_active > IDLE_S:
            self.end("idle")

    def _expire(self, request_id: RequestId) -> None:
        if request_id in self._cancelled:
            text, rule = "callgate: the client cancelled the request", "request-cancelled"
        else:
            text, rule = f"callgate: no answer from the server within {self._timeout_s:g} s", "request-timeout"
            self.link.cancel(request_id, "timed out")
        self.answer(request_id, answers.error(request_id, answers.UNAVAILABLE, text, rule), Kind.ERROR)

    # -- the end ---------------------------------------------------------------------------------

    def end(self, why: str, grace_s: float = STOP_GRACE_S) -> None:
        """End the session and stop its server."""
        if self.over:
            return
        channel = self.link.channel
        waiting = list(channel.pending)
        for request_id, data in zip(waiting, channel.unanswered(f"the session ended: {why}"), strict=True):
            self.answer(request_id, data, Kind.ERROR)
        channel.close(why)
        self._finish()
        self.link.end(grace_s)

    def _finish(self) -> None:
        if self.over:
            return
        self.over = True
        for stream in self._streams.values():
            stream.finish()
        self._streams.clear()
        self._queue.clear()
        self._ended(self)
