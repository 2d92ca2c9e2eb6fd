"""From a decision to what becomes of the message: edited, on record, then refused or forwarded."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from callgate.errors import AuditError
from callgate.gate.engine import CLEAR, Decision
from callgate.gate.events import Event, Hook
from callgate.gate.outcome import HTTP_OK, Outcome
from callgate.gate.pending import Pending
from callgate.gate.rewriting import rewrite
from callgate.gate.substitutes import denied, no_evidence
from callgate.protocol.message import Direction, Message, RequestId

if TYPE_CHECKING:
    from callgate.gate.channel import Channel


def settle(
    channel: Channel, decision: Decision, event: Event, content: Any, table: dict[RequestId, Pending] | None
) -> bytes | Outcome:
    """Carry out what the controls decided: edit, record, refuse, or forward.

    `table` is where a request that passes is to wait for its answer; None for all other messages.
    """
    gate = channel.gate
    original = message = event.message
    direction = event.direction
    method = event.method
    waiting = event.request
    rounds = [(event, decision)]
    if decision.outcome == "rewrite" and decision.edits:
        message = rewrite(gate, event, decision, rounds)
    if decision.labels:
        channel.conversation.labels |= decision.labels
    outcome = decision.outcome
    if outcome == "ask":
        # No approver is connected to this gate, and nobody's silence is a yes.
        decision.reason = f"{decision.reason}: needs a person's approval, and no approver is connected"
        outcome = "deny"
    about = spent = 0
    modern = direction is Direction.CLIENT and channel.modern
    if waiting is not None:
        about = waiting.seq
        spent = (monotonic_ns() - waiting.started_ns) // 1000
        modern = waiting.modern
    try:
        seq = channel.scope.decision(
            event.hook,
            int(direction),
            method,
            event.name,
            message.id,
            message.data,
            content,
            outcome,
            tuple(decision.findings),
            about,
            spent,
        )
    except AuditError:
        if channel.enforce:
            gate.withheld.learn(rounds, shown=False)
            return no_evidence(direction, message, method, modern=modern)
        seq = 0
    gate.withheld.learn(rounds, shown=outcome != "deny")
    if outcome == "deny":
        return denied(message, method, decision, modern=modern)
    if table is not None:
        table[message.id] = Pending(method, event.name, seq, monotonic_ns(), modern)  # type: ignore[index]
    return message.data if message is original else Outcome(message.data, None, decision.rule, HTTP_OK)


def pass_on(
    channel: Channel,
    hook: Hook,
    direction: Direction,
    message: Message,
    method: str,
    name: str,
    waiting: Pending | None,
    content: Any,
) -> bytes | Outcome:
    """Decide a message nobody waits for an answer to: notifications, answers to the server."""
    gate = channel.gate
    asked = gate.asked(hook, message.hits)
    names_withheld = hook == "call" and gate.withheld.names
    if asked or names_withheld:
        event = Event(hook, direction, message, channel.conversation, method, name, waiting)
        decision = gate.decide(asked, event, channel.conversation.mode)
        if names_withheld:
            decision = gate.withheld.refuse(event, decision)
        if decision is not CLEAR:
            return settle(channel, decision, event, content, None)
    about = waiting.seq if waiting else 0
    try:
        channel.scope.decision(
            hook, int(direction), method, name, message.id, message.data, content, "allow", (), about, 0
        )
    except AuditError:
        if channel.enforce:
            return no_evidence(direction, message, method, modern=channel.modern)
    return message.data
