"""What the one who waits gets in place of a message that does not pass: refused by a control, or not on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.gate import answers
from callgate.gate.outcome import HTTP_FORBIDDEN, HTTP_OK, HTTP_UNAVAILABLE, Outcome
from callgate.protocol.message import Direction, Kind, Message, RequestId

if TYPE_CHECKING:
    from callgate.gate.engine import Decision

_REQUEST = Kind.REQUEST
_NOTIFICATION = Kind.NOTIFICATION
_EVIDENCE = "the evidence log cannot be written, so nothing passes; free disk space or see callgate audit verify"


def denied(message: Message, method: str, decision: Decision, *, modern: bool) -> Outcome:
    """The outcome of a control's refusal. `modern`: whether who waits is of the stateless era."""
    if message.kind is _REQUEST:
        request_id: RequestId = message.id  # type: ignore[assignment]  # a request has an id
        refused = answers.refusal(request_id, method, decision.reason, decision.rule, modern=modern)
        return Outcome(None, refused, decision.rule, HTTP_OK if method == "tools/call" else HTTP_FORBIDDEN)
    if message.kind is _NOTIFICATION or message.id is None:
        return Outcome(None, None, decision.rule, HTTP_FORBIDDEN)
    substitute = answers.refusal(message.id, method, decision.reason, decision.rule, modern=modern)
    return Outcome(substitute, None, decision.rule, HTTP_OK)


def no_evidence(direction: Direction, message: Message, method: str, *, modern: bool) -> Outcome:
    """The log cannot be written: in enforce mode nothing passes."""
    rule = "evidence-unavailable"
    if message.kind is _NOTIFICATION or message.id is None:
        return Outcome(None, None, rule, HTTP_UNAVAILABLE)
    if method == "tools/call":
        answer = answers.tool_error(message.id, _EVIDENCE, rule, modern=modern)
    else:
        answer = answers.error(message.id, answers.UNAVAILABLE, f"Blocked by callgate: {_EVIDENCE}", rule)
    if message.kind is _REQUEST:
        return Outcome(None, answer, rule, HTTP_UNAVAILABLE)
    return Outcome(answer if direction is Direction.SERVER else None, None, rule, HTTP_UNAVAILABLE)
