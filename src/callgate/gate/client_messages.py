"""What a message of the client goes through: a request, a notification, an answer to the server."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from callgate.errors import AuditError
from callgate.gate.answered import cancelled
from callgate.gate.engine import CLEAR
from callgate.gate.events import Event, Hook
from callgate.gate.hooks import CONNECT_METHODS
from callgate.gate.outcome import Outcome, goes_on
from callgate.gate.pending import Pending
from callgate.gate.refusals import name_not_text, reused_id, too_many_in_flight, unissued_answer
from callgate.gate.settling import pass_on, settle
from callgate.gate.substitutes import no_evidence
from callgate.protocol.message import Direction, Message, RequestId
from callgate.protocol.methods import META_VERSION, NAME_MEMBERS

if TYPE_CHECKING:
    from callgate.gate.channel import Channel

_CLIENT = Direction.CLIENT


def client_request(channel: Channel, message: Message) -> bytes | Outcome:
    """Judged by name; where it passes, it waits for its answer."""
    request_id: RequestId = message.id  # type: ignore[assignment]  # a request has an id
    method: str = message.method  # type: ignore[assignment]  # a request has a method
    pending = channel.pending
    if request_id in pending:
        return channel.refuse(reused_id(), _CLIENT, request_id, message.data)
    if len(pending) >= channel.in_flight:
        return channel.refuse(too_many_in_flight(channel.in_flight), _CLIENT, request_id, message.data)
    params = message.body.get("params")
    name = ""
    modern = False
    if params:
        member = NAME_MEMBERS.get(method)
        if member is not None:
            name = params.get(member)
            if type(name) is not str:
                if name is not None:  # ["x"] is "x" to a lax server, and nobody else
                    return channel.refuse(name_not_text(member), _CLIENT, request_id, message.data)
                name = ""
        meta = params.get("_meta")
        if meta and META_VERSION in meta:
            modern = True
            revision = meta[META_VERSION]
            if revision != channel.revision and type(revision) is str:
                channel.negotiated(revision)
    channel.modern = modern
    hook: Hook = "connect" if method in CONNECT_METHODS else "call"
    hits = message.hits
    gate = channel.gate
    clears = gate.clears_call
    if (
        hits
        or clears is None
        or gate.withheld.names
        or hook == "connect"
        or not clears(channel.conversation.server, method, name)
    ):
        asked = gate.asked(hook, hits)
        if asked or gate.withheld.names:
            event = Event(hook, _CLIENT, message, channel.conversation, method, name)
            decision = gate.decide(asked, event, channel.conversation.mode)
            if gate.withheld.names:
                decision = gate.withheld.refuse(event, decision)
            if decision is not CLEAR:
                return settle(channel, decision, event, params, pending)
    try:
        seq = channel.scope.decision(hook, 0, method, name, request_id, message.data, params, "allow", (), 0, 0)
    except AuditError:
        if channel.enforce:
            return no_evidence(_CLIENT, message, method, modern=modern)
        seq = 0
    pending[request_id] = Pending(method, name, seq, monotonic_ns(), modern)
    return message.data


def client_notification(channel: Channel, message: Message) -> bytes | Outcome:
    """Judged as what its method says: a lax server carries out a request that leaves out its id all the same."""
    method = message.method or ""
    params = message.body.get("params")
    name = ""
    if params and (member := NAME_MEMBERS.get(method)) is not None:
        name = params.get(member)
        if type(name) is not str:
            if name is not None:
                return channel.refuse(name_not_text(member), _CLIENT, None, message.data)
            name = ""
    result = pass_on(channel, "call", _CLIENT, message, method, name, None, params)
    if method == "notifications/cancelled" and goes_on(result):
        cancelled(channel, message, _CLIENT)
    return result


def client_answer(channel: Channel, message: Message) -> bytes | Outcome:
    """Passes where the server asked; each question is answered once."""
    request_id = message.id
    content = message.body.get("result") or message.body.get("error")
    if request_id is None:
        return pass_on(channel, "server_request", _CLIENT, message, "", "", None, content)
    waiting = channel.asked.pop(request_id, None)
    if waiting is None:
        waiting = channel.answered.late(_CLIENT, request_id, replaying=channel.replaying)
        if waiting is None:
            return channel.refuse(unissued_answer(), _CLIENT, None, message.data)
    if channel.replayable and channel.conversation.session:
        channel.answered.keep(_CLIENT, request_id, waiting)
    return pass_on(channel, "server_request", _CLIENT, message, waiting.method, waiting.name, waiting, content)
