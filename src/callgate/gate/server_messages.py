"""What a message of the server goes through: an answer, a request of its own (handshake era), a notification."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from callgate.errors import AuditError
from callgate.gate.answered import cancelled
from callgate.gate.engine import CLEAR
from callgate.gate.events import Event, Hook
from callgate.gate.hooks import CATALOG_METHODS, answer_hook
from callgate.gate.outcome import Outcome, goes_on
from callgate.gate.refusals import reused_id, server_asks, too_many_in_flight, unissued_answer
from callgate.gate.settling import pass_on, settle
from callgate.gate.substitutes import no_evidence
from callgate.protocol.message import Direction, Message, RequestId

if TYPE_CHECKING:
    from callgate.gate.channel import Channel

_SERVER = Direction.SERVER


def server_answer(channel: Channel, message: Message) -> bytes | Outcome:
    """Passes to the request it answers, judged by what that one asked."""
    request_id = message.id
    if request_id is None:
        # An error without id answers something the server could not read: it is content like any other.
        return pass_on(channel, "content", _SERVER, message, "", "", None, {"error": message.body["error"]})
    waiting = channel.pending.pop(request_id, None)
    if waiting is None:
        waiting = channel.answered.late(_SERVER, request_id, replaying=channel.replaying)
        if waiting is None:
            return channel.refuse(unissued_answer(), _SERVER, None, message.data)
    elif channel.replayable and channel.conversation.session:
        channel.answered.keep(_SERVER, request_id, waiting)
    method = waiting.method
    name = waiting.name
    result = message.body.get("result")
    hook: Hook = "content"
    if result is None:
        result = {"error": message.body["error"]}
    elif method in CATALOG_METHODS or "resultType" in result:
        hook = answer_hook(method, result.get("resultType") == "input_required")
        if method == "initialize":
            revision = result.get("protocolVersion")
            if type(revision) is str:
                channel.negotiated(revision)
    gate = channel.gate
    asked = gate.asked(hook, message.hits) if message.hits else gate.always[hook]
    if asked:
        event = Event(hook, _SERVER, message, channel.conversation, method, name, waiting)
        decision = gate.decide(asked, event, channel.conversation.mode)
        if decision is not CLEAR:
            return settle(channel, decision, event, result, None)
    try:
        channel.scope.decision(
            hook,
            1,
            method,
            name,
            request_id,
            message.data,
            result,
            "allow",
            (),
            waiting.seq,
            (monotonic_ns() - waiting.started_ns) // 1000,
        )
    except AuditError:
        if channel.enforce:
            return no_evidence(_SERVER, message, method, modern=waiting.modern)
    if hook == "catalog" and gate.withheld.names:
        gate.withheld.learn([(Event(hook, _SERVER, message, channel.conversation, method, name, waiting), CLEAR)])
    return message.data


def server_notification(channel: Channel, message: Message) -> bytes | Outcome:
    """Content that nobody asked for."""
    method = message.method or ""
    result = pass_on(channel, "content", _SERVER, message, method, "", None, message.body.get("params"))
    if method == "notifications/cancelled" and goes_on(result):
        cancelled(channel, message, _SERVER)
    return result


def server_request(channel: Channel, message: Message) -> bytes | Outcome:
    """Where it passes, it waits for the client's answer."""
    request_id: RequestId = message.id  # type: ignore[assignment]  # a request has an id
    if channel.modern:
        return channel.refuse(server_asks(), _SERVER, request_id, message.data)
    asked = channel.asked
    if request_id in asked:
        if not channel.replaying:
            return channel.refuse(reused_id(), _SERVER, request_id, message.data)
    elif len(asked) >= channel.in_flight:
        return channel.refuse(too_many_in_flight(channel.in_flight), _SERVER, request_id, message.data)
    gate = channel.gate
    event = Event("server_request", _SERVER, message, channel.conversation, message.method or "")
    decision = gate.decide(gate.asked("server_request", message.hits), event, channel.conversation.mode)
    return settle(channel, decision, event, message.body.get("params"), asked)
