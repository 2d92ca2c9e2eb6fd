"""One server process for all stateless requests (2026-07-28) of one principal.

A process is no session in this revision: requests of unrelated clients may interleave on it. Each gets an id
of the gate's own (`idmap`), a channel of its own, and its answer on its own HTTP exchange. A client
that closes its exchange cancels its request; an answer that is on its way by then is put on record and
dropped. The process starts with the first request, starts again after a
crash, with growing pauses, and is stopped when nobody needs it. Requests wait while it is started; when the last
of them goes away, the start is given up. A client that reads slowly slows the process
down; when it does not read at all and others wait, it loses its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from callgate.errors import CallgateError, ProtocolError
from callgate.gate import answers
from callgate.gate.channel import Channel
from callgate.gate.outcome import Outcome
from callgate.protocol.headers import check_request_headers
from callgate.protocol.message import Direction, Kind, Message, RequestId
from callgate.protocol.revisions import META_LOG_LEVEL
from callgate.transport.bridge import Connect, Upstream, encode, ids_at, too_long
from callgate.transport.deadlines import Deadline
from callgate.transport.event_stream import KEEP_ALIVE_S, EventStream
from callgate.transport.http.exchange import Exchange
from callgate.transport.http.fields import JSON
from callgate.transport.idmap import Entry, IdMap, for_client
from callgate.transport.lane import REFUSED_IN_A_ROW
from callgate.transport.late_answers import LateAnswers
from callgate.transport.reply import Reply
from callgate.transport.starts import Begin, Start, handed
from callgate.transport.tool_schemas import ToolSchemas

STALL_S = 60.0
"""A client that does not read its event stream for so long loses it."""
PATIENCE_S = 5.0
"""The same while others wait for the process: it is not read while one client does not read."""
IDLE_S = 600.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STABLE_S = 30.0
"""A process that lived so long is started again without a pause."""
SERVER_BUSY_BYTES = 8 * 1024 * 1024
"""Waiting for a process that does not read, or is being started."""

HTTP_STATUS: Mapping[int, int] = {
    -32700: 400,
    -32600: 400,
    -32601: 404,
    -32602: 400,
    -32020: 400,
    -32021: 400,
    -32022: 400,
}
"""HTTP status of a server's JSON-RPC error (Streamable HTTP, 2026-07-28); others are 200."""


class Call:
    """One request in flight: its channel and its exchange."""

    __slots__ = ("channel", "deadline", "logs", "reply", "request", "stalled_at")

    def __init__(self, request: Message, channel: Channel, exchange: Exchange, deadline: Deadline) -> None:
        self.request = request
        self.channel = channel
        self.reply = Reply(exchange, EventStream(0, None), {request.id})  # type: ignore[arg-type]  # a request has an id
        self.deadline = deadline
        self.logs = _log_level(request) is not None
        self.stalled_at = 0.0
        """Since when the client has not read; 0: it reads."""


class SharedProcess:
    """See the module. `begin` starts the process; `observer` is a channel for what belongs to no request."""

    def __init__(
        self,
        observer: Channel,
        begin: Begin,
        timeout_s: float,
        now: Callable[[], float],
    ) -> None:
        self.principal = observer.conversation.principal
        self.renew(observer)
        self._begin = begin
        self._timeout_s = timeout_s
        self._keep_alive_at = now() + KEEP_ALIVE_S
        self._now = now
        self._upstream: Upstream | None = None
        self._start: Start | None = None
        self._unsent: dict[int, bytes] = {}
        """What waits for the process, by the gate's id of the request; notifications below 0."""
        self._unsent_bytes = 0
        self._notes = 0
        self._started = 0.0
        self._not_before = 0.0
        self._pause = 0.0
        self._last_active = now()
        self._refused = 0
        self._stopping = False
        self._schemas = ToolSchemas()
        self._calls: IdMap[Call] = IdMap()
        self._late = LateAnswers()
        self._stalled: set[Call] = set()
        """Calls for whose clients the process waits."""

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._calls.entries)

    @property
    def running(self) -> bool:
        """Whether there is a process, or one is being started."""
        return self._upstream is not None or self._start is not None

    def renew(self, observer: Channel) -> None:
        """Decode and judge by another gate from now on; requests in flight keep their channels."""
        self._observer = observer
        observer.modern = True

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost without this object: no process, no pause to keep."""
        return not self.busy and now > self._not_before and now - self._last_active > LONGEST_PAUSE_S

    # -- from clients ----------------------------------------------------------------------------

    def post(self, exchange: Exchange, message: Message, channel: Channel) -> None:
        """A decoded request or notification; its headers are checked against it first."""
        self._last_active = self._now()
        error = check_request_headers(exchange.headers, message, self._schemas.of_call(message.body))
        if error is not None:
            outcome = channel.refuse(error, Direction.CLIENT, message.id)
            exchange.respond(outcome.status, [JSON], outcome.reply or b"")
            return
        if message.method == "initialize":
            # Some servers would take the whole process for one of the handshake era.
            outcome = channel.refuse(_removed(), Direction.CLIENT, message.id)
            exchange.respond(404, [JSON], outcome.reply or b"")
            return
        decided = channel.client_message(message)
        if isinstance(decided, Outcome):
            if decided.forward is None:
                exchange.respond(decided.status, [JSON] if decided.reply else [], decided.reply or b"")
                return
            message = self._observer.codec.decode(decided.forward, Direction.CLIENT)  # type: ignore[assignment]  # one object
        if message.kind is not Kind.REQUEST:
            # A cancellation names an id of another POST; here closing that POST is what cancels.
            if message.method != "notifications/cancelled":
                if why := self._too_much():
                    refusal = answers.error(None, answers.UNAVAILABLE, f"callgate: {why}", "server-busy")
                    exchange.refuse(503, "server-busy", [JSON, (b"retry-after", b"1")], refusal)
                    return
                self._notes += 1
                self._send(-self._notes, message.data)
            exchange.respond(202, [], b"")
            return
        why = self._unavailable()
        if why is not None:
            self._refuse(exchange, channel, why)
            return
        call = Call(message, channel, exchange, Deadline(self._last_active, self._timeout_s))
        gate_id, body = self._calls.open(call, message.body)
        exchange.on_disconnect = lambda: self._left(gate_id)
        exchange.on_drain = lambda: self._drained(call)
        self._send(gate_id, encode(body))

    def _send(self, gate_id: int, data: bytes) -> None:
        """To the process, or to what waits for it; a notification without either is of no use to anybody."""
        if self._upstream is not None:
            self._upstream.send(data)
        elif self._start is not None:
            self._unsent[gate_id] = data
            self._unsent_bytes += len(data)

    def _left(self, gate_id: int) -> None:
        call = self._cancel(gate_id, "the client closed the request")
        if call is not None:
            call.channel.close()

    def _unavailable(self) -> str | None:
        """Start the process if need be; why no request can be taken now, or None."""
        most = self._observer.in_flight
        if len(self._calls.entries) >= most:
            return f"more than {most} requests without an answer"
        if self._stopping:
            return "the server is being stopped"
        if self._upstream is not None or self._start is not None:
            return self._too_much()
        now = self._now()
        if now < self._not_before:
            return f"the server keeps ending; it is started again in {self._not_before - now:.1f} s"
        self._start = self._begin(self._ready)
        return None

    def _too_much(self) -> str | None:
        """Why nothing more can wait for the process, or None."""
        if self._upstream is not None:
            return "the server does not read its input" if self._upstream.queued > SERVER_BUSY_BYTES else None
        return "the server is still being started" if self._unsent_bytes > SERVER_BUSY_BYTES else None

    def _ready(self, result: Connect | CallgateError) -> None:
        """The start is over: send what waits for it, or refuse it."""
        self._start = None
        unsent = self._take_unsent()
        self._started = self._now()
        try:
            self._upstream = handed(result)(self)
        except CallgateError as error:
            self._back_off(self._started)
            entries = list(self._calls.entries.values())
            self._calls.entries.clear()
            for entry in entries:
                self._refuse(entry.owner.reply.exchange, entry.owner.channel, error.what)
                entry.owner.channel.close()
            return
        for entry in self._calls.entries.values():
            entry.owner.deadline = Deadline(self._started, self._timeout_s)
        for data in unsent:
            self._upstream.send(data)

    def _take_unsent(self) -> list[bytes]:
        unsent = list(self._unsent.values())
        self._unsent.clear()
        self._unsent_bytes = 0
        return unsent

    @staticmethod
    def _refuse(exchange: Exchange, channel: Channel, why: str) -> None:
        for data in channel.unanswered(why):
            exchange.respond(503, [JSON, (b"retry-after", b"1")], data)

    def _cancel(self, gate_id: int, why: str) -> Call | None:
        """Forget the request and tell the server."""
        entry = self._calls.close(gate_id)
        if entry is None:
            return None
        call = entry.owner
        self._drained(call)
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": entry.id, "reason": why}}
        message = call.channel.codec.encode(note)
        call.channel.client_message(message)  # on record under the client's own id
        if self._upstream is not None:
            self._late.cancel(gate_id, call.channel, entry.id, message)
            self._upstream.send(encode({**note, "params": {"requestId": gate_id, "reason": why}}))
        self._unsent_bytes -= len(self._unsent.pop(gate_id, b""))
        if self._start is not None and not self._calls.entries:
            self._give_up(why)
        return call

    def _give_up(self, why: str) -> None:
        """Nobody needs the process that is being started."""
        if self._start is not None:
            self._start.cancel(why)
            self._start = None
            self._take_unsent()

    # -- from the server (ProcessEvents) ---------------------------------------------------------

    def line(self, data: bytes) -> None:
        """One line of the server."""
        try:
            message = self._observer.codec.decode(data, Direction.SERVER)
        except ProtocolError as error:
            self._malformed(error)
            return
        if isinstance(message, list):
            self._observer.server(data)  # no batches in this revision: refused and on record
            self._strike()
        elif message.kind >= Kind.RESULT:
            self._answer(message)
        elif message.kind is Kind.NOTIFICATION:
            self._notification(message)
        else:
            self._strike()
            decided = self._observer.server_message(message)
            if isinstance(decided, Outcome) and decided.reply is not None and self._upstream is not None:
                self._upstream.send(decided.reply)

    def _answer(self, message: Message) -> None:
        found = self._calls.answer(message.body)
        if found is None:
            if not self._late_answer(message):
                self._observer.server_message(message)  # nobody asked: refused and on record
                self._strike()
            return
        self._refused = 0
        entry, body = found
        call = entry.owner
        decided = call.channel.server_message(self._mapped(message, body, call.channel, entry.id))
        status = 200
        if call.request.method == "tools/list":
            self._schemas.learn(body.get("result"))
        if isinstance(decided, Outcome):
            decided = decided.forward or b""
        elif message.kind is Kind.ERROR:
            status = HTTP_STATUS.get(body["error"]["code"], 200)
        self._finish(call, decided, status)

    def _late_answer(self, message: Message) -> bool:
        """Put on record what answers a request that was cancelled; nobody is there to get it."""
        late = self._late.take(message.id)
        if late is None:
            return False
        channel, request_id = late
        body = for_client(message.body, message.id, request_id)
        channel.server_message(self._mapped(message, body, channel, request_id))
        return True

    def _notification(self, message: Message) -> None:
        found = self._calls.notification(message.body)
        if found is None and message.method == "notifications/message":
            found = self._only_logger(message)
        entry = self._calls.find(found[0]) if found is not None else None
        if found is None or entry is None:
            self._observer.refuse(_unrelated(), Direction.SERVER)
            if not self._calls.is_late(message.body):
                self._strike()
            return
        self._refused = 0
        call = entry.owner
        call.deadline.goes_on(self._now(), self._timeout_s)
        decided = call.channel.server_message(self._mapped(message, found[1], call.channel, entry.id))
        if isinstance(decided, Outcome):
            if decided.forward is None:
                return
            decided = decided.forward
        if message.method == "notifications/cancelled":  # the server ends a subscription
            self._calls.close(found[0])
            call.reply.notify(decided)
            call.reply.stream.finish()
            self._drained(call)
            call.channel.close()
        elif not call.reply.notify(decided):
            self._hold_back(call)

    def _mapped(self, message: Message, body: dict[str, Any], channel: Channel, request_id: RequestId) -> Message:
        """The message as its client gets it: with ids that client chose, which were inspected on their way in."""
        if channel.codec is not self._observer.codec:
            return channel.codec.encode(body)  # for the gate from before a reload, whose patterns have other numbers
        known = request_id if message.id is not None else None
        return Message(body, encode(body), message.kind, message.method, known, message.hits)

    def _only_logger(self, message: Message) -> tuple[int, dict[str, Any]] | None:
        """Log messages on stdio name no request: they go to the only one that asked for logs, or to nobody."""
        loggers = [gate_id for gate_id, entry in self._calls.entries.items() if entry.owner.logs]
        return (loggers[0], message.body) if len(loggers) == 1 else None

    def _strike(self) -> None:
        """One more line in a row that reached nobody."""
        self._refused += 1
        if self._refused > REFUSED_IN_A_ROW and self._upstream is not None:
            self._upstream.stop(0.0)

    def _malformed(self, error: ProtocolError) -> None:
        self._strike()
        entry = self._calls.find(error.request_id) if error.is_answer else None
        if entry is None:
            outcome = self._observer.refuse(error, Direction.SERVER, error.request_id)
            if outcome.reply is not None and self._upstream is not None:
                self._upstream.send(outcome.reply)
        else:
            self._calls.close(error.request_id)  # type: ignore[arg-type]  # find() accepts integers only
            self._refused_answer(entry, error)

    def _refused_answer(self, entry: Entry[Call], error: ProtocolError) -> None:
        outcome = entry.owner.channel.refuse(error, Direction.SERVER, entry.id)
        self._finish(entry.owner, outcome.forward or b"", 502)

    def too_long(self, edges: list[bytes], *, endless: bool) -> None:
        """Lines over the limit were dropped. Where their ids can be read, who waits is told."""
        error = too_long(self._observer.limits.response_bytes)
        entries = [self._calls.close(one) for one in ids_at(edges) if type(one) is int]
        for entry in entries:
            if entry is not None:
                self._refused_answer(entry, error)
        if not any(entries):
            self._observer.refuse(error, Direction.SERVER)

    def drained(self) -> None:
        """The server reads again; requests were refused meanwhile, none waits here."""

    def exited(self, how: str) -> None:
        """The process is gone: everybody who waits is told, and the next start may have to wait."""
        self._upstream = None
        self._late.clear()
        self._stalled.clear()
        entries = list(self._calls.entries.values())
        self._calls.entries.clear()
        for entry in entries:
            for data in entry.owner.channel.unanswered(f"the server {how}"):
                self._finish(entry.owner, data, 502)
        now = self._now()
        if now - self._started < STABLE_S and not self._stopping:
            self._back_off(now)
        else:
            self._pause = 0.0
        self._stopping = False

    def _back_off(self, now: float) -> None:
        self._not_before = now + self._pause
        self._pause = min(LONGEST_PAUSE_S, self._pause * 2 or FIRST_PAUSE_S)

    def _finish(self, call: Call, data: bytes, status: int) -> None:
        call.reply.answer(call.request.id, data, status)
        self._drained(call)
        call.channel.close()

    # -- pace ------------------------------------------------------------------------------------

    def _hold_back(self, call: Call) -> None:
        """A client reads more slowly than the server writes: the server waits, and with it the whole process."""
        call.stalled_at = call.stalled_at or self._now()
        if self._upstream is not None and not self._stalled:
            self._upstream.pause()
        self._stalled.add(call)

    def _drained(self, call: Call) -> None:
        call.stalled_at = 0.0
        if call in self._stalled:
            self._stalled.discard(call)
            if self._upstream is not None and not self._stalled:
                self._upstream.resume()

    def _abort(self, gate_id: int) -> None:
        call = self._cancel(gate_id, "the client does not read")
        if call is not None:
            call.reply.exchange.abort()
            call.channel.close("the client does not read")

    def tick(self, now: float) -> None:
        """About once a second: requests without answer, clients that do not read, idleness."""
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + KEEP_ALIVE_S
            for entry in self._calls.entries.values():
                entry.owner.reply.stream.keep_alive()
        patience = PATIENCE_S if len(self._calls.entries) > 1 else STALL_S
        for gate_id, entry in list(self._calls.entries.items()):
            call = entry.owner
            if call.stalled_at and now - call.stalled_at > patience:
                self._abort(gate_id)
            elif call.deadline.at < now and call.request.method != "subscriptions/listen":
                self._cancel(gate_id, "timed out")
                text = f"callgate: no answer from the server within {self._timeout_s:g} s"
                data = answers.error(call.request.id, answers.UNAVAILABLE, text, "request-timeout")
                self._finish(call, data, 504)
        if self._upstream is not None and not self.busy and now - self._last_active > IDLE_S:
            self.stop(2.0)

    def stop(self, grace_s: float) -> None:
        """Stop the process; the next request starts it again."""
        if not self.busy:
            self._give_up("nobody waits for it any more")
        if self._upstream is not None:
            self._stopping = True
            self._upstream.stop(grace_s)


def _log_level(request: Message) -> Any:
    params = request.body.get("params")
    meta = params.get("_meta") if type(params) is dict else None
    return meta.get(META_LOG_LEVEL) if type(meta) is dict else None


def _removed() -> ProtocolError:
    return ProtocolError("method-removed", "initialize was removed in revision 2026-07-28", rpc_code=-32601)


def _unrelated() -> ProtocolError:
    return ProtocolError("notification-unrelated", "a notification that belongs to no request in flight")
