"""Batches, which revision 2025-03-26 has and no other: decided message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.gate.outcome import HTTP_OK, Outcome
from callgate.gate.refusals import no_batches
from callgate.protocol.message import Direction, Message

if TYPE_CHECKING:
    from callgate.gate.channel import Channel


def decide_batch(channel: Channel, messages: list[Message], direction: Direction) -> bytes | Outcome:
    """What passes goes on as one batch; what is refused is answered as one."""
    if channel.revision != "2025-03-26":
        return channel.refuse(no_batches(channel.revision), direction, None, _joined([one.data for one in messages]))
    forward: list[bytes] = []
    replies: list[bytes] = []
    rule = ""
    decide = channel.client_message if direction is Direction.CLIENT else channel.server_message
    for message in messages:
        result = decide(message)
        if type(result) is bytes:
            forward.append(result)
            continue
        outcome: Outcome = result  # type: ignore[assignment]  # type() narrows no union for mypy
        rule = rule or outcome.rule
        if outcome.forward is not None:
            forward.append(outcome.forward)
        if outcome.reply is not None:
            replies.append(outcome.reply)
    joined = _joined(forward) if forward else None
    if joined is not None and not replies and not rule:
        return joined
    return Outcome(joined, _joined(replies) if replies else None, rule, HTTP_OK)


def _joined(parts: list[bytes]) -> bytes:
    return b"[" + b",".join(parts) + b"]"
