"""What clients POST to a Streamable HTTP server: decode, check the mirrored headers against the body, decide, send on.

What goes on is exactly what was decided: the bytes that came where nothing was changed, and where a control changed
them, a head whose mirrored headers say what the body says now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callgate.errors import ProtocolError
from callgate.gate import express
from callgate.gate.native import learn_call
from callgate.gate.outcome import Outcome
from callgate.protocol.headers import changed_headers, check_request_headers
from callgate.protocol.message import Direction, Kind, Message, RequestId
from callgate.protocol.revisions import HEADERLESS, modern_version
from callgate.transport.http.exchange import Exchange
from callgate.transport.http.own_answers import respond_outcome
from callgate.transport.http.relay import Relay
from callgate.transport.http.request_plan import RequestPlan
from callgate.transport.http.sessions import Session

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.transport.http.route import HttpRoute

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
_REQUEST = Kind.REQUEST
_RESULT = Kind.RESULT
_ERROR = Kind.ERROR


class Posts:
    """See the module. Of one route."""

    def __init__(self, route: HttpRoute) -> None:
        self._route = route

    def handle(self, exchange: Exchange, plan: RequestPlan, channel: Channel, session: Session | None) -> None:
        raw = exchange.body
        native = channel.express
        if native is not None and (plan.handshake or (plan.session_id is None and not self._route.schemas)):
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
                    respond_outcome(exchange, passed)  # type: ignore[arg-type]  # not bytes, so an Outcome
                return
        message = channel.decode_client(raw, body)
        if type(message) is Message:
            self._one(exchange, plan, channel, session, message, body)
        elif type(message) is Outcome:
            respond_outcome(exchange, message)
        else:
            self._batch(exchange, plan, channel, session, message)  # type: ignore[arg-type]  # neither, so a list

    def _one(
        self,
        exchange: Exchange,
        plan: RequestPlan,
        channel: Channel,
        session: Session | None,
        message: Message,
        body: dict[str, Any] | None,
    ) -> None:
        """One message. `body` is its own where it is plain, so that others like it may go a short way from now on."""
        route = self._route
        schemas = route.schemas
        kind = message.kind
        claimed = modern_version(message.body)
        schema = schemas.of_call(exchange.principal, message.body) if schemas and claimed is not None else None
        if (claimed is not None or not plan.handshake) and (schema is not None or not plan.mirrors(message, claimed)):
            mismatch = check_request_headers(exchange.headers, message, schema)
            if mismatch is not None:
                respond_outcome(exchange, channel.refuse(mismatch, Direction.CLIENT, message.id))
                return
        if session is None and (kind is _RESULT or kind is _ERROR):
            channel = self._asking(exchange, message, channel)
            if channel.gate is not route.gate:  # asked before new rules came: patterns have other numbers there
                message = channel.codec.encode(message.body)
        if claimed is not None and plan.session_id is not None:
            session = None  # a modern request stands alone, whatever else its client sends along
            channel = route.channel(exchange.principal)
        if not channel.revision:
            channel.revision = plan.revision
        result = channel.client_message(message)
        if body is not None and result is exchange.body:
            express.learn_call(channel, body)
        if channel.express is not None and result == exchange.body:
            learn_call(channel, message)
        if type(result) is not bytes:
            outcome: Outcome = result  # type: ignore[assignment]  # type() narrows no union for mypy
            if outcome.forward is None:
                respond_outcome(exchange, outcome)
                return
            result = outcome.forward
            if claimed is not None:
                changed = self._plan_of_rewritten(exchange, result)
                if isinstance(changed, ProtocolError):
                    channel.pending.pop(message.id, None)  # type: ignore[arg-type]  # nothing waits under None
                    respond_outcome(exchange, channel.refuse(changed, Direction.CLIENT, message.id))
                    return
                plan = changed
        method = message.method
        relay = Relay(route, exchange, channel, (message.id,) if kind is _REQUEST else ())  # type: ignore[arg-type]
        relay.learns = method == "tools/list" and claimed is not None
        if kind is _REQUEST:
            relay.cancel_on_disconnect = channel.modern
            relay.endless = channel.modern and method == "subscriptions/listen"
        route.send(relay, plan, result, session, method in REPEATABLE)

    def _let_through(
        self, exchange: Exchange, plan: RequestPlan, channel: Channel, session: Session | None, request_id: int
    ) -> None:
        """A call that was decided a short way, here or in the native lane, and goes on as it came."""
        if not channel.revision:
            channel.revision = plan.revision
        relay = Relay(self._route, exchange, channel, (request_id,))
        relay.cancel_on_disconnect = channel.modern
        self._route.send(relay, plan, exchange.body, session, channel.pending[request_id].method in REPEATABLE)

    def _batch(
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
                respond_outcome(exchange, outcome)
                return
            result, reply = outcome.forward, outcome.reply
        ids: tuple[RequestId, ...] = tuple(m.id for m in messages if m.id is not None and m.id in channel.pending)
        relay = Relay(self._route, exchange, channel, ids)
        relay.batch_reply = reply
        relay.cancel_on_disconnect = False
        self._route.send(relay, plan, result, session, repeatable=False)

    def _plan_of_rewritten(self, exchange: Exchange, body: bytes) -> RequestPlan | ProtocolError:
        """The head for a request a control changed: its mirrored headers say what the body says now.

        The error where that cannot be known of one of them.
        """
        route = self._route
        decode = route.gate.codec.decode
        before: Message = decode(exchange.body, Direction.CLIENT)  # type: ignore[assignment]  # one object
        after: Message = decode(body, Direction.CLIENT)  # type: ignore[assignment]  # as above
        schema = route.schemas.of_call(exchange.principal, before.body)
        headers = changed_headers(exchange.headers, before.body, after.body, schema)
        if isinstance(headers, ProtocolError):
            return headers
        return route.own.plan(b"POST", headers)

    def _asking(self, exchange: Exchange, message: Message, channel: Channel) -> Channel:
        """Where a client's answer belongs when there is no session to tell."""
        if message.id is None:
            return channel
        return self._route.sessions.asked(exchange.principal, message.id) or channel
