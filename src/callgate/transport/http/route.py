"""The route to one Streamable HTTP server.

POST: decode, check the mirrored headers against the body, decide, forward exactly what was decided.
GET opens the handshake era's server stream, DELETE ends a session; a modern server answers both with
405, and that passes. Channels: one per handshake-era session; one per exchange in the modern era and
for servers without sessions, whose rare requests of their own find their answers by id and principal.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from callgate.config import ServerConfig
from callgate.errors import AuditError, ConfigError, ProtocolError
from callgate.gate import answers, express
from callgate.gate.native import learn_call
from callgate.gate.outcome import Outcome
from callgate.protocol.headers import SCHEMA_KEYWORD, changed_headers, check_request_headers
from callgate.protocol.message import Direction, Kind, Message, RequestId
from callgate.protocol.revisions import HEADERLESS, modern_version
from callgate.transport.http.client import Origin, Pool
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.fields import HOP_BY_HOP, JSON, NO_STORE
from callgate.transport.http.notices import Notices
from callgate.transport.http.quick import QuickCall
from callgate.transport.http.relay import Relay
from callgate.transport.http.request_plan import RequestPlan
from callgate.transport.http.sessions import Session, SessionTable, session_label
from callgate.transport.http.waiting import until
from callgate.transport.tool_schemas import ToolSchemas

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.gate.engine import Gate
    from callgate.transport.http.connection import Connection
    from callgate.transport.http.known_request import KnownRequest

REPEATABLE = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "completion/complete",
        "tasks/get",
    }
)
"""Requests that may reach the server twice when a kept-alive connection breaks under them."""
PRINCIPALS = 256
"""Callers whose lists of tools are remembered."""
FREE_CHANNELS = 256
"""Channels of answered modern exchanges kept for reuse, per principal and route."""
_REQUEST = Kind.REQUEST
_RESULT = Kind.RESULT
_ERROR = Kind.ERROR


class HttpRoute:
    """See the module. Implements `exchange.Route`; raises ConfigError for a URL or header that cannot be used."""

    def __init__(self, config: ServerConfig, gate: Gate) -> None:
        self.config = config
        self.gate = gate
        self.limits = gate.config.limits
        self.sessions = SessionTable(config.sessions)
        self.pool = Pool(Origin(config.url))
        self.notices = Notices(self)
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()
        self._relays: set[Relay | QuickCall] = set()
        self._free: dict[str, list[Channel]] = {}
        self._schemas: dict[str, ToolSchemas] = {}
        """By principal: what lists of tools said of arguments that travel in headers."""
        self.deadline = self.now + config.request_timeout_s
        self._own_names: frozenset[bytes] = frozenset()
        self._start: dict[bytes, bytes] = {}
        self.renew_headers(_configured(config))
        self._ticker = self._loop.call_later(1.0, self._tick)
        self._troubles = 0

    def renew_headers(self, headers: Headers) -> None:
        """Send these, the gate's own, with every request from now on."""
        self._own_names = frozenset(name for name, _ in headers)
        origin = self.pool.origin
        tail = b" " + origin.target + b" HTTP/1.1\r\nhost: " + origin.host_header
        tail += b"".join(b"\r\n" + name + b": " + value for name, value in headers)
        tail += b"\r\naccept-encoding: identity"
        self._start = {method: method + tail for method in (b"POST", b"GET", b"DELETE")}

    # -- Route -----------------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        memo = exchange.memo
        if memo is None:
            plan = self._plan(exchange)
        else:
            known: RequestPlan | None = memo.get(self)
            if known is None or known.start is not self._start[exchange.method]:  # or with headers of before
                known = memo[self] = self._plan(exchange)
            plan = known
        if plan.repeated:
            _respond_error(exchange, 400, "header-repeated", f"{plan.repeated} appears more than once")
            return
        principal = exchange.principal
        session_id = plan.session_id
        session: Session | None = None
        if session_id is not None:
            found = self.sessions.find(session_id, principal, self.now)
            if found is True:
                _respond_error(exchange, 404, "session-unknown", "no such session; initialize again")
                return
            if found is False:
                channel = self._channel(principal, session_label(session_id))
            else:
                session = found
                channel = session.channel
        elif not plan.handshake and (free := self._free.get(principal)):
            channel = free.pop()
        else:
            channel = self._channel(principal)
        if exchange.method == b"POST":
            self._post(exchange, plan, channel, session)
        else:
            self._other(exchange, plan, channel, session)

    def quick_call(self, client: Connection, known: KnownRequest, data: bytes) -> QuickCall | None:
        """Decide a call the native way and send it, where everything about it is plain; None: nothing was done."""
        plan: RequestPlan | None = known.memo.get(self)
        if plan is None or plan.start is not self._start[b"POST"] or plan.repeated:
            return None
        session_id = plan.session_id
        session: Session | None = None
        if session_id is not None:
            session = self.sessions.peek(session_id, known.principal)
            if session is None or not plan.handshake:
                return None
            channel = session.channel
        else:
            free = self._free.get(known.principal)
            if not free or plan.handshake or self._schemas:
                return None
            channel = free[-1]
        native = channel.express
        connection = self.pool.take() if native is not None else None
        if connection is None:
            return None
        decided = None
        try:
            decided = native.request(channel, data, known.before, known.after, plan.lines, *plan.mirrored)  # type: ignore[union-attr]
        finally:
            if decided is None:
                self.pool.give_back(connection)
        if decided is None:
            return None
        if session is not None:
            self.sessions.used(session_id, session, self.now)  # type: ignore[arg-type]  # a session has an id
            session.busy += 1
        else:
            free.pop()  # type: ignore[union-attr]  # without a session it comes from there
        if not channel.revision:
            channel.revision = plan.revision
        request_id, sent = decided
        call = QuickCall(self, client, known, channel, session, request_id, sent, connection)
        self._relays.add(call)
        connection.quick = call
        connection.transport.write(sent)  # type: ignore[union-attr]  # `take` gives none without
        return call

    def _plan(self, exchange: Exchange) -> RequestPlan:
        return RequestPlan(self._start[exchange.method], exchange.headers, self._own_names)

    def _plan_of_rewritten(self, exchange: Exchange, body: bytes) -> RequestPlan | ProtocolError:
        """The head for a request a control changed: its mirrored headers say what the body says now.

        The error where that cannot be known of one of them.
        """
        decode = self.gate.codec.decode
        before: Message = decode(exchange.body, Direction.CLIENT)  # type: ignore[assignment]  # one object
        after: Message = decode(body, Direction.CLIENT)  # type: ignore[assignment]  # as above
        schema = self._schema_of(exchange.principal, before)
        headers = changed_headers(exchange.headers, before.body, after.body, schema)
        if isinstance(headers, ProtocolError):
            return headers
        return RequestPlan(self._start[b"POST"], headers, self._own_names)

    def _schema_of(self, principal: str, message: Message) -> dict[str, Any] | None:
        """The input schema of the tool a request calls, where it has arguments that travel in headers."""
        schemas = self._schemas.get(principal)
        return schemas.of_call(message.body) if schemas is not None else None

    def learn(self, principal: str, body: bytes) -> None:
        """Take note of an answer to `tools/list`, as its caller gets it."""
        if SCHEMA_KEYWORD.encode() in body or principal in self._schemas:
            message = self.gate.codec.decode(body, Direction.SERVER)
            if isinstance(message, Message) and message.kind is _RESULT:
                if len(self._schemas) >= PRINCIPALS:
                    self._schemas.clear()
                self._schemas.setdefault(principal, ToolSchemas()).learn(message.body["result"])

    async def close(self, grace_s: float) -> None:
        for relay in tuple(self._relays):
            if relay.endless:
                relay.end("the gate is shutting down; connect again")
        await until(lambda: not self._relays, grace_s)
        for relay in tuple(self._relays):
            relay.end("the gate is shutting down")
        self._ticker.cancel()
        self.notices.close()
        self.pool.close()
        self.sessions.clear()

    def renew(self, config: ServerConfig, gate: Gate) -> None:
        """Judge later requests by another gate. Sessions go on; what they wait for is kept."""
        self.config = config
        self.gate = gate
        self.limits = gate.config.limits
        self._free.clear()
        self.sessions.limit = config.sessions
        for session in self.sessions.sessions():
            old = session.channel
            new = self._channel(session.principal, old.conversation.session)
            new.take_over(old)
            session.channel = new

    # -- requests --------------------------------------------------------------------------------

    def _channel(self, principal: str, session: str = "") -> Channel:
        return self.gate.channel(server=self.config.name, principal=principal, session=session, transport="http")

    def _post(self, exchange: Exchange, plan: RequestPlan, channel: Channel, session: Session | None) -> None:
        raw = exchange.body
        native = channel.express
        if native is not None and (plan.handshake or (plan.session_id is None and not self._schemas)):
            request_id = native.call_mirrored(channel, raw, *plan.mirrored)
            if request_id is not None:
                self._let_through(exchange, plan, channel, session, request_id)
                return
        body = channel.codec.plain(raw) if plan.handshake else None
        if body is not None:
            passed = express.call(channel, body, raw)
            if passed is not None:
                if type(passed) is bytes:
                    self._let_through(exchange, plan, channel, session, body["id"])
                else:
                    _respond_outcome(exchange, passed)  # type: ignore[arg-type]  # not bytes, so an Outcome
                return
        message = channel.decode_client(raw, body)
        if type(message) is not Message:
            if type(message) is Outcome:
                _respond_outcome(exchange, message)
            else:
                self._post_batch(exchange, plan, channel, session, message)  # type: ignore[arg-type]
            return
        kind = message.kind
        claimed = modern_version(message.body)
        schema = self._schema_of(exchange.principal, message) if self._schemas and claimed is not None else None
        if (claimed is not None or not plan.handshake) and (schema is not None or not plan.mirrors(message, claimed)):
            mismatch = check_request_headers(exchange.headers, message, schema)
            if mismatch is not None:
                _respond_outcome(exchange, channel.refuse(mismatch, Direction.CLIENT, message.id))
                return
        if session is None and (kind is _RESULT or kind is _ERROR):
            channel = self._asking(exchange, message, channel)
            if channel.gate is not self.gate:  # asked before new rules came: patterns have other numbers there
                message = channel.codec.encode(message.body)
        if claimed is not None and plan.session_id is not None:
            session = None  # a modern request stands alone, whatever else its client sends along
            channel = self._channel(exchange.principal)
        if not channel.revision:
            channel.revision = plan.revision
        result = channel.client_message(message)
        if body is not None and result is raw:
            express.learn_call(channel, body)
        if channel.express is not None and result == raw:
            learn_call(channel, message)
        if type(result) is not bytes:
            outcome: Outcome = result  # type: ignore[assignment]  # type() narrows no union for mypy
            if outcome.forward is None:
                _respond_outcome(exchange, outcome)
                return
            result = outcome.forward
            if claimed is not None:
                changed = self._plan_of_rewritten(exchange, result)
                if isinstance(changed, ProtocolError):
                    channel.pending.pop(message.id, None)  # type: ignore[arg-type]  # nothing waits under None
                    _respond_outcome(exchange, channel.refuse(changed, Direction.CLIENT, message.id))
                    return
                plan = changed
        method = message.method
        relay = Relay(self, exchange, channel, (message.id,) if kind is _REQUEST else ())  # type: ignore[arg-type]
        relay.opening = method == "initialize"
        relay.learns = method == "tools/list" and claimed is not None
        if kind is _REQUEST:
            relay.cancel_on_disconnect = channel.modern
            relay.endless = channel.modern and method == "subscriptions/listen"
        self._send(relay, plan, result, session, method in REPEATABLE)

    def _let_through(
        self, exchange: Exchange, plan: RequestPlan, channel: Channel, session: Session | None, request_id: int
    ) -> None:
        """A call that was decided a short way, here or in the native lane, and goes on as it came."""
        if not channel.revision:
            channel.revision = plan.revision
        relay = Relay(self, exchange, channel, (request_id,))
        relay.cancel_on_disconnect = channel.modern
        self._send(relay, plan, exchange.body, session, channel.pending[request_id].method in REPEATABLE)

    def _post_batch(
        self,
        exchange: Exchange,
        plan: RequestPlan,
        channel: Channel,
        session: Session | None,
        messages: list[Message],
    ) -> None:
        """A batch of 2025-03-26: the members that pass go on together, the refusals join their answers."""
        if not channel.revision:
            channel.revision = HEADERLESS if plan.headerless else plan.revision
        result = channel.client_batch(messages)
        reply = None
        if type(result) is not bytes:
            outcome: Outcome = result  # type: ignore[assignment]  # as above
            if outcome.forward is None:
                _respond_outcome(exchange, outcome)
                return
            result, reply = outcome.forward, outcome.reply
        ids: tuple[RequestId, ...] = tuple(m.id for m in messages if m.id is not None and m.id in channel.pending)
        relay = Relay(self, exchange, channel, ids)
        relay.batch_reply = reply
        relay.cancel_on_disconnect = False
        self._send(relay, plan, result, session, repeatable=False)

    def _asking(self, exchange: Exchange, message: Message, channel: Channel) -> Channel:
        """Where a client's answer belongs when there is no session to tell."""
        if message.id is None:
            return channel
        return self.sessions.asked(exchange.principal, message.id) or channel

    def _other(self, exchange: Exchange, plan: RequestPlan, channel: Channel, session: Session | None) -> None:
        """GET opens or resumes a stream, DELETE ends a session."""
        resumes = exchange.header(b"last-event-id") if exchange.method == b"GET" else None
        if resumes is not None and session is None:
            channel = self.sessions.resumed(exchange.principal, resumes) or channel
        relay = Relay(self, exchange, channel, ())
        relay.endless = exchange.method == b"GET"
        if exchange.method == b"DELETE" and plan.session_id is not None and session is not None:
            self.sessions.remove(plan.session_id)
            session = None
        if resumes is not None:
            channel.replaying = relay.resumes = True
            if session is not None:
                session.replays += 1
        self._send(relay, plan, b"", session, repeatable=True)

    def _send(self, relay: Relay, plan: RequestPlan, body: bytes, session: Session | None, repeatable: bool) -> None:
        if session is not None:
            relay.session = session
            session.busy += 1
        self._relays.add(relay)
        if relay.exchange.method == b"POST":
            head = b"%b\r\ncontent-length: %d\r\n\r\n" % (plan.lines, len(body))
        else:
            head = plan.lines + b"\r\n\r\n"
        relay.request = self.pool.send(relay, head, body, repeatable=repeatable, whole=relay.whole)

    # -- what relays ask of their route ----------------------------------------------------------

    def left(self, relay: Relay) -> None:
        """An exchange is over."""
        try:
            self._relays.remove(relay)
        except KeyError:
            return
        session = relay.session
        if session is not None:
            session.busy -= 1
            if relay.resumes:
                session.replays -= 1
                session.channel.replaying = session.replays > 0

    def quick_left(self, call: QuickCall) -> None:
        """A call is over that had a plain answer."""
        self._relays.discard(call)
        if call.session is not None:
            call.session.busy -= 1
        elif call.gate is self.gate:
            self.free(call.known.principal, call.channel)

    def grown(self, call: QuickCall, relay: Relay) -> None:
        """`relay` stands in for `call` from now on."""
        self._relays.discard(call)
        self._relays.add(relay)

    def repeats(self, method: str) -> bool:
        """Whether a request of this method may reach the server twice."""
        return method in REPEATABLE

    def free(self, principal: str, channel: Channel) -> None:
        """A modern exchange is answered and its Channel waits for nothing: the next one may have it."""
        if channel.modern and not channel.pending:
            free = self._free.get(principal)
            if free is None:
                if len(self._free) >= FREE_CHANNELS:
                    self._free.clear()
                free = self._free[principal] = []
            if len(free) < FREE_CHANNELS:
                free.append(channel)

    def opened(self, exchange: Exchange, session_id: bytes, channel: Channel, *, new: bool) -> Session | None:
        """The server named a session in its answer: it belongs to this caller from now on."""
        found = self.sessions.find(session_id, exchange.principal, self.now)
        if found is True:
            return None
        if found is False:
            channel.conversation.session = label = session_label(session_id)
            channel.scope.belongs_to(label)
            found = self.sessions.add(session_id, exchange.principal, channel, self.now) or True
        if found is True:
            return None
        found.busy += 1  # type: ignore[union-attr]
        return found  # type: ignore[return-value]

    def forget(self, exchange: Exchange) -> None:
        """The server does not know this session any more."""
        session_id = exchange.header(b"mcp-session-id")
        if session_id is not None:
            self.sessions.remove(session_id)

    def trouble(self, what: str) -> None:
        """Put a failure of the server on record, ten a second at most."""
        self._troubles += 1
        if self._troubles <= 10:
            try:
                self.gate.journal.note("upstream-failed", {"server": self.config.name, "what": what})
            except AuditError:
                pass  # the journal counts it as lost; whoever waits is told all the same

    def post_back(self, exchange: Exchange, message: bytes) -> None:
        """Send a message of the gate's own to the server: why its request was refused."""
        wanted = (b"mcp-session-id", b"mcp-protocol-version")
        session = [field for field in exchange.headers if field[0] in wanted]
        self.notices.add(self._start[b"POST"], session, message)

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        self.deadline = now + self.config.request_timeout_s
        self._troubles = 0
        for relay in tuple(self._relays):
            if relay.deadline < now:
                relay.timed_out()
        self.notices.sweep(now)
        self.sessions.expire(now)
        self._ticker = self._loop.call_later(min(1.0, self.config.request_timeout_s / 4), self._tick)


def _configured(config: ServerConfig) -> Headers:
    """The headers of `[servers.NAME.headers]`, checked: one line each, and none that frames the message."""
    headers: Headers = []
    for name, value in config.headers.items():
        key = name.lower()
        token = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
        if not token or key.encode() in HOP_BY_HOP or key in ("host", "content-length", "accept-encoding"):
            raise ConfigError(
                f"servers.{config.name}.headers: {name!r} cannot be set", next_step="set headers such as Authorization"
            )
        if not value.isascii() or any(c < " " or c == "\x7f" for c in value):
            raise ConfigError(
                f"servers.{config.name}.headers.{name}: the value must be one line of ASCII",
                next_step="remove line breaks and other control characters",
            )
        headers.append((key.encode(), value.strip().encode()))
    return headers


def _respond_outcome(exchange: Exchange, outcome: Outcome) -> None:
    reply = outcome.reply
    if reply is None:
        reply = answers.error(None, answers.DENIED, "Blocked by callgate", outcome.rule)
    exchange.respond(outcome.status, [JSON, NO_STORE], reply)


def _respond_error(exchange: Exchange, status: int, rule: str, text: str) -> None:
    exchange.refuse(status, rule, [JSON, NO_STORE], answers.error(None, -32600, f"callgate: {text}", rule))
