"""One exchange with a Streamable HTTP server: the server's answer on its way through the gate.

A JSON answer is held until it is whole and has been decided; an event stream is cut at the ends of its
events, each event's data goes through the Channel, and all events of a chunk leave in one write. Status
and end-to-end headers pass; framing, redirects and cookies do not. Bodies that are not MCP never pass:
the status does, with a short body of our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.errors import LimitExceeded, ProtocolError
from callgate.gate import answers
from callgate.gate.outcome import Outcome
from callgate.protocol.message import Direction, Kind, RequestId
from callgate.protocol.sse import SseParser, encode_event
from callgate.transport.http.answer_plan import AnswerPlan
from callgate.transport.http.body import joined
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.fields import JSON, NO_STORE
from callgate.transport.lane import REFUSED_IN_A_ROW

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.transport.http.client import Request
    from callgate.transport.http.route import HttpRoute
    from callgate.transport.http.sessions import Session

FOREVER = float("inf")
LONGEST_CALL = 12
"""A call may keep its stream for this many times `request_timeout_s`, whatever progress it reports."""


class Relay:
    """See the module. Implements `client.AnswerHandler`."""

    __slots__ = (
        "_body",
        "_last_event",
        "_parser",
        "_plan",
        "_refused",
        "_size",
        "_status",
        "batch_reply",
        "cancel_on_disconnect",
        "channel",
        "deadline",
        "endless",
        "exchange",
        "gate",
        "ids",
        "learns",
        "request",
        "resumes",
        "route",
        "session",
        "started",
    )

    def __init__(self, route: HttpRoute, exchange: Exchange, channel: Channel, ids: tuple[RequestId, ...]) -> None:
        self.route = route
        self.gate = route.gate
        self.exchange = exchange
        self.channel = channel
        self.ids = ids
        """Requests this exchange carries: who must hear of a failure."""
        self.session: Session | None = None
        self.request: Request | None = None
        self.batch_reply: bytes | None = None
        """Refusals of a batch's members, to be joined with the answers of the others."""
        self.cancel_on_disconnect = True
        self.endless = False
        """A stream that lives until one side ends it: subscriptions/listen, or the GET stream."""
        self.learns = False
        """`tools/list`: the answer says which arguments travel in headers."""
        self.resumes = False
        """A GET stream that names the last event its client got: answers may come twice."""
        self.deadline = route.deadline
        self.started = route.now
        self._parser: SseParser | None = None
        self._last_event: bytes | None = None
        self._body: bytes | bytearray = b""
        self._size = 0
        self._refused = 0
        exchange.on_disconnect = self._disconnected

    # -- client.AnswerHandler --------------------------------------------------------------------

    def on_head(self, status: int, headers: Headers) -> None:
        request = self.request
        plan = request.connection.plan if request is not None and request.connection is not None else None
        if plan is None:
            plan = AnswerPlan(status, headers)
        self._status = status
        self._plan: AnswerPlan = plan
        if plan.refusal is not None:
            self._refuse(*plan.refusal)
        elif plan.session_id is not None and not self._session(status, plan.session_id):
            self._refuse(
                "the server's new session cannot be kept", "end sessions, or raise `sessions` of this server", 503
            )
        elif status == 404 and self.session is not None:
            self.route.forget(self.exchange)
        elif plan.events:
            self._parser = SseParser(self.route.limits.response_bytes)
            if self.endless:
                self.deadline = FOREVER
            exchange = self.exchange
            exchange.on_drain = self._drained
            exchange.start_stream(status, plan.headers)
            if self.batch_reply is not None:
                exchange.write(encode_event(self.batch_reply))

    def on_data(self, data: bytes) -> None:
        if self._parser is not None:
            self._events(self._parser, data)
            return
        self._size += len(data)
        if self._size > self.route.limits.response_bytes:
            self._refuse("the server's answer is larger than limits.response_bytes", "raise that limit")
            return
        self._body = joined(self._body, data)

    def on_end(self) -> None:
        self._leave()
        if self._parser is not None:
            self._stream_ended()
            return
        body = bytes(self._body)
        if not body:
            self._answer_empty()
        elif self._status == 200 and self._plan.json:
            self._answer(self.channel.server(body))
        else:
            self._answer_other(body)

    def whole(self, plan: AnswerPlan, body: bytes) -> None:
        """A plain answer all at once: what `on_head`, `on_data` and `on_end` come to for it."""
        self._status = plan.status
        self._plan = plan
        if len(body) > self.route.limits.response_bytes:
            self.on_data(body)
            return
        self.request = None
        self.route.left(self)
        self._answer(self.channel.server(body))

    def on_error(self, what: str) -> None:
        self._failed(what, "see whether it runs and `callgate audit tail`", 502)

    # -- the answer as JSON ----------------------------------------------------------------------

    def _answer(self, result: bytes | Outcome) -> None:
        """A JSON body that the Channel has decided."""
        if type(result) is bytes:
            body = result
        else:
            outcome: Outcome = result  # type: ignore[assignment]  # type() narrows no union for mypy
            self._reply_to_server(outcome)
            if outcome.forward is None:
                self._failed("the server's answer was refused: " + outcome.rule, "see `callgate audit tail`", 502)
                return
            body = outcome.forward
        if self.learns:
            self.route.learn(self.exchange.principal, body)
        pending = self.channel.pending
        for request_id in self.ids:  # a JSON body is all there is: what it does not answer, nothing will
            pending.pop(request_id, None)
        if self.batch_reply is not None:
            body = _joined(body, self.batch_reply)
        if self.session is None and self.gate is self.route.gate:
            self.route.free.add(self.exchange.principal, self.channel)
        self.exchange.respond(self._status, self._plan.headers, body)

    def _answer_empty(self) -> None:
        headers = self._without_type()
        if self.batch_reply is not None:
            self.exchange.respond(200, [*headers, JSON], self.batch_reply)
        elif self._status == 200 and self.ids:
            self._failed("the server answered with nothing", "see the server's log", 502)
        else:
            self._give_up_ids()
            self.exchange.respond(self._status, headers, b"")

    def _without_type(self) -> Headers:
        """The headers that pass, for a body that does not."""
        return [field for field in self._plan.headers if field[0] != b"content-type"]

    def _answer_other(self, body: bytes) -> None:
        """Any status but 200, or a body that does not claim to be JSON: only MCP passes."""
        status = self._status
        if self._plan.json:
            decided = self._decide_error(body) if status >= 400 else self.channel.server(body)
            forward = decided if type(decided) is bytes else decided.forward  # type: ignore[union-attr]
            if forward is not None:
                self._give_up_ids()
                self.exchange.respond(status, self._plan.headers, forward)
                return
        if status == 200:
            self._failed("the server answered with something that is not MCP", "see whether url is right", 502)
            return
        headers = self._without_type()
        if status < 400:
            self.exchange.respond(status, headers, b"")
            return
        text = f"the server answered HTTP {status} without an MCP message"
        self._give_up_ids()
        self.exchange.respond(status, [*headers, JSON], self._error(text, "upstream-status"))

    def _decide_error(self, body: bytes) -> bytes | Outcome:
        """The body of an HTTP error: an error message that need not answer a request (SDKs use a fixed id)."""
        channel = self.channel
        try:
            message = channel.codec.decode(body, Direction.SERVER)
        except ProtocolError as error:
            return channel.refuse(error, Direction.SERVER)
        if isinstance(message, list):
            return channel.server(body)
        if message.kind is Kind.ERROR and message.id not in channel.pending:
            message.id = None
        return channel.server_message(message)

    # -- the answer as events --------------------------------------------------------------------

    def _events(self, parser: SseParser, data: bytes) -> None:
        try:
            events = parser.feed(data)
        except LimitExceeded as error:
            self._refuse(error.what, error.next_step)
            return
        if not self.endless:
            timeout = self.route.config.request_timeout_s
            self.deadline = min(self.route.deadline, self.started + LONGEST_CALL * timeout)
        decide = self.channel.server
        out: list[bytes] = []
        for event in events:
            if event.id is not None:
                self._last_event = event.id
                self.channel.replayable = True
            payload = event.data
            if not payload:
                out.append(event.raw)  # a comment, or the event that opens a resumable stream
                continue
            result = decide(payload)
            if type(result) is bytes:
                if self.learns:
                    self.route.learn(self.exchange.principal, result)
                out.append(event.with_data(result))
                self._refused = 0
                continue
            outcome: Outcome = result  # type: ignore[assignment]  # type() narrows no union for mypy
            self._refused += 1
            if outcome.forward is not None:
                if self.learns:
                    self.route.learn(self.exchange.principal, outcome.forward)
                out.append(event.with_data(outcome.forward))
                self._refused = 0
            self._reply_to_server(outcome)
            if self._refused > REFUSED_IN_A_ROW:
                self._refuse("the server sends nothing but what cannot pass", "see `callgate audit tail`")
                return
        if self.session is None and self.channel.asked:
            self.route.sessions.ask(self.exchange.principal, self.channel)
        exchange = self.exchange
        if exchange.sink is None:
            self._size += len(data)
            if self._size > self.route.limits.response_bytes:
                self._cancel()
        elif out and not exchange.write(out[0] if len(out) == 1 else b"".join(out)) and self.request is not None:
            self.request.pause()

    def _stream_ended(self) -> None:
        """The server closed the stream in good order; the answer may come on another one."""
        if self._last_event is not None and self.session is None and not self.channel.modern:
            self.route.sessions.resumable(self.exchange.principal, self._last_event, self.channel)
        if self._last_event is None and not self.endless:
            # There is nothing to come back to: what was not answered, or answered with what was refused, never will be.
            self._end_stream("the server ended its stream without an answer", "upstream-failed")
        else:
            self.exchange.finish()

    def _drained(self) -> None:
        if self.request is not None:
            self.request.resume()

    # -- failing ---------------------------------------------------------------------------------

    def _refuse(self, what: str, next_step: str, status: int = 502) -> None:
        """Something in the answer cannot pass: cancel the rest of it."""
        if self.request is not None:
            self.request.cancel()
        self._failed(what, next_step, status)

    def _failed(self, what: str, next_step: str, status: int) -> None:
        """Tell whoever waits, in the form they wait for."""
        self._leave()
        exchange = self.exchange
        self.route.trouble(what)
        if exchange.sink is None:
            return
        rule = "upstream-timeout" if status == 504 else "upstream-failed"
        text = f"{what}; {next_step}"
        if self._parser is None:
            exchange.respond(status, [JSON, NO_STORE], self._error(text, rule))
        elif self._last_event is not None and not self.channel.modern:
            exchange.abort()  # the client sees a broken stream and resumes after the last event it got
        else:
            self._end_stream(text, rule)

    def _end_stream(self, text: str, rule: str) -> None:
        """End a stream with an error for each request that waits on it."""
        for request_id in self.ids:
            if self.channel.pending.pop(request_id, None) is not None:
                error = answers.error(request_id, answers.UNAVAILABLE, f"callgate: {text}", rule)
                self.exchange.write(encode_event(error, b"message"))
        self.exchange.finish()

    def _error(self, text: str, rule: str) -> bytes:
        self._give_up_ids()
        message = f"callgate: {text}"
        if len(self.ids) <= 1:
            return answers.error(self.ids[0] if self.ids else None, answers.UNAVAILABLE, message, rule)
        return b"[" + b",".join(answers.error(i, answers.UNAVAILABLE, message, rule) for i in self.ids) + b"]"

    def _give_up_ids(self) -> None:
        """No answer will come any more."""
        for request_id in self.ids:
            self.channel.pending.pop(request_id, None)

    def _reply_to_server(self, outcome: Outcome) -> None:
        if outcome.reply is not None and not self.channel.modern:
            self.route.post_back(self.exchange, outcome.reply)

    # -- ends ------------------------------------------------------------------------------------

    def _session(self, status: int, session_id: bytes) -> bool:
        """A session id in the answer: opened by `initialize`, or used by a client whose session was forgotten."""
        if self.session is not None or status >= 300 or self.channel.modern:
            return True
        self.session = self.route.sessions.opened(session_id, self.exchange.principal, self.channel, self.route.now)
        return self.session is not None

    def _disconnected(self) -> None:
        """The client went away.

        In the modern era, and for a GET stream, that ends the exchange upstream too. A handshake-era request
        goes on, unheard and bounded, for a disconnect is not a cancellation there.
        """
        if self.cancel_on_disconnect:
            self._cancel()
        else:
            if self.request is not None:
                self.request.resume()
            self._size = 0

    def _cancel(self) -> None:
        if self.request is not None:
            self.request.cancel()
        self._leave()

    def timed_out(self) -> None:
        """No answer within the time, or a stream that fell silent."""
        if self.request is not None:
            self.request.cancel()
        seconds = self.route.config.request_timeout_s
        self._failed(f"no answer from the server within {seconds:g} s", "raise request_timeout_s of this server", 504)

    def end(self, why: str) -> None:
        """The gate shuts down."""
        if self.request is not None:
            self.request.cancel()
        self._leave()
        exchange = self.exchange
        if exchange.sink is None:
            return
        if self._parser is not None:
            self._end_stream(why, "shutting-down")
        else:
            exchange.respond(503, [JSON, NO_STORE, (b"retry-after", b"1")], self._error(why, "shutting-down"))

    def _leave(self) -> None:
        self.request = None
        self.route.left(self)


def _joined(body: bytes, reply: bytes) -> bytes:
    """Two answers of one batch as one array."""
    inner = body[1:-1] if body.startswith(b"[") else body
    return b"[" + inner + b"," + reply[1:-1] + b"]" if inner else reply
