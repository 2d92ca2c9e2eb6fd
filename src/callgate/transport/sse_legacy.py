"""HTTP+SSE of revision 2024-11-05 towards clients: `GET …/sse` opens the stream, `POST …/messages` sends.

The stream is the session: its first event names the address to post to, every answer comes as an event, and
when it closes, the server it stood for is stopped.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from callgate.errors import CallgateError
from callgate.gate import answers
from callgate.gate.channel import Channel
from callgate.gate.outcome import Outcome
from callgate.protocol.message import Kind, RequestId
from callgate.transport.bridge import Connect, Link
from callgate.transport.deadlines import Deadline, Deadlines
from callgate.transport.event_stream import KEEP_ALIVE_S, EventStream
from callgate.transport.http.exchange import Exchange
from callgate.transport.http.fields import JSON
from callgate.transport.http.sessions import session_label
from callgate.transport.session import STALL_S, STOP_GRACE_S
from callgate.transport.starts import Begin, handed

OpenChannel = Callable[[Exchange, str], Channel]


class SseSession:
    """One stream and its server."""

    def __init__(self, channel: Channel, connect: Connect, timeout_s: float, now: Callable[[], float]) -> None:
        self.principal = channel.conversation.principal
        self.over = False
        self.stream = EventStream(0, None)
        self._keep_alive_at = now() + KEEP_ALIVE_S
        self._now = now
        self._timeout_s = timeout_s
        self._deadlines = Deadlines()
        self._stalled_at = 0.0
        self.link = Link(channel, self, connect)

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._deadlines)

    def open(self, exchange: Exchange, address: bytes) -> None:
        """Start the stream on `exchange`; `address` is where its client posts to."""
        exchange.on_disconnect = lambda: self.end("the client went away")
        exchange.on_drain = self._drained
        self.stream.attach(exchange, [])
        exchange.write(b"event: endpoint\ndata: " + address + b"\n\n")

    def post(self, exchange: Exchange) -> None:
        """A message of the client; what there is to say goes on the stream."""
        channel = self.link.channel
        message = channel.decode_client(exchange.body)
        if isinstance(message, Outcome):
            exchange.respond(message.status, [JSON], message.reply or b"")
            return
        if self.link.upstream.queued > 1 << 20:
            text = "callgate: the server does not read its input"
            busy = answers.error(None, answers.UNAVAILABLE, text, "server-busy")
            exchange.respond(503, [JSON, (b"retry-after", b"1")], busy)
            return
        outcome = self.link.client(message)
        exchange.respond(202, [], b"")
        for one in message if isinstance(message, list) else [message]:
            if one.kind is Kind.REQUEST and one.id is not None and one.id in channel.pending:
                self._deadlines.setdefault(one.id, Deadline(self._now(), self._timeout_s))
        if outcome is not None and outcome.reply is not None:
            self._send(outcome.reply)

    # -- Face ------------------------------------------------------------------------------------

    def answer(self, request_id: RequestId, data: bytes, kind: Kind) -> None:
        """The answer to a request of the client."""
        if self._deadlines.pop(request_id, None) is not None:  # else it comes after its timeout
            self._send(data)

    def message(self, data: bytes, about: RequestId | None) -> None:
        """A request or notification of the server."""
        self._deadlines.goes_on(about, self._now(), self._timeout_s)
        self._send(data)

    def drained(self) -> None:
        """The server reads again; nothing waits on it here."""

    def gone(self, how: str) -> None:
        """The server is gone, and the stream with it."""
        self._finish()

    # -- pace and end ----------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if not self.over and not self.stream.send(data) and not self._stalled_at:
            self._stalled_at = self._now()
            self.link.upstream.pause()

    def _drained(self) -> None:
        if self._stalled_at:
            self._stalled_at = 0.0
            self.link.upstream.resume()

    def tick(self, now: float) -> None:
        """About once a second: requests without answer, a client that does not read."""
        for request_id in self._deadlines.late(now):
            if self.over:
                break
            self.link.cancel(request_id, "timed out")
            text = f"callgate: no answer from the server within {self._timeout_s:g} s"
            self.answer(request_id, answers.error(request_id, answers.UNAVAILABLE, text, "request-timeout"), Kind.ERROR)
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + KEEP_ALIVE_S
            self.stream.keep_alive()
        if self._stalled_at and now - self._stalled_at > STALL_S:
            self.end("the client does not read")

    def end(self, why: str, grace_s: float = STOP_GRACE_S) -> None:
        """End the session and stop its server."""
        if self.over:
            return
        for data in self.link.channel.unanswered(f"the session ended: {why}"):
            self._send(data)
        self.link.channel.close(why)
        self._finish()
        self.link.end(grace_s)

    def _finish(self) -> None:
        self.over = True
        self._deadlines.clear()
        self.stream.finish()


class SseFace:
    """The two addresses of HTTP+SSE for one server."""

    def __init__(self, open_channel: OpenChannel, begin: Begin, timeout_s: float, now: Callable[[], float]) -> None:
        self.sessions: dict[str, SseSession] = {}
        self._open_channel = open_channel
        self._begin = begin
        self._timeout_s = timeout_s
        self._now = now

    def open(self, exchange: Exchange) -> None:
        """`GET …/sse`."""
        session_id = secrets.token_urlsafe(18)

        def ready(result: Connect | CallgateError) -> None:
            try:
                connect = handed(result)
            except CallgateError as error:
                text = f"callgate: the server could not be started: {error.what}"
                exchange.respond(502, [JSON], answers.error(None, answers.UNAVAILABLE, text, "server-start"))
                return
            channel = self._open_channel(exchange, session_label(session_id.encode()))
            session = SseSession(channel, connect, self._timeout_s, self._now)
            self.sessions[session_id] = session
            base = exchange.path.rpartition("/")[0]
            session.open(exchange, f"{base}/messages?session={session_id}".encode())

        start = self._begin(ready)
        exchange.on_disconnect = lambda: start.cancel("the client went away before it was started")

    def post(self, exchange: Exchange) -> None:
        """`POST …/messages?session=…`. A session of another principal is as good as none."""
        session = self.sessions.get(exchange.query.removeprefix("session="))
        if session is None or session.over or session.principal != exchange.principal:
            unknown = answers.error(None, answers.UNAVAILABLE, "callgate: no such session", "session-unknown")
            exchange.refuse(404, "session-unknown", [JSON], unknown)
        else:
            session.post(exchange)

    def sweep(self) -> None:
        """Forget sessions that are over."""
        for session_id in [key for key, session in self.sessions.items() if session.over]:
            del self.sessions[session_id]
