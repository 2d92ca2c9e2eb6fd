"""Messages that break the protocol: put on record, and told to whoever waits. In observe mode most of them pass."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from callgate.errors import AuditError, LimitExceeded, ProtocolError
from callgate.gate import answers
from callgate.gate.outcome import HTTP_BAD_REQUEST, HTTP_OK, HTTP_TOO_LARGE, Outcome
from callgate.gate.pending import Pending
from callgate.protocol.codec import one_line, parse_leniently
from callgate.protocol.fragments import id_at_head, id_at_tail
from callgate.protocol.message import Direction, RequestId

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.gate.verdicts import Finding

_CLIENT = Direction.CLIENT


def refuse(
    channel: Channel, error: ProtocolError, direction: Direction, request_id: RequestId | None, data: bytes
) -> Outcome:
    """See `Channel.refuse`."""
    _record(channel, direction, request_id, data, "deny", channel.gate.finding_of(error))
    text = f"{error.what}; {error.next_step}" if error.next_step else error.what
    if direction is _CLIENT:
        status = HTTP_TOO_LARGE if error.rule == "limit-request-bytes" else HTTP_BAD_REQUEST
        # The id of an answer is the server's: to the client it would mean a request of its own.
        known = None if error.is_answer else request_id
        reply = answers.error(known, error.rpc_code, f"Refused by callgate: {text}", error.rule)
        return Outcome(None, reply, error.rule, status)
    # What the server said is not repeated; its caller, if one waits, learns that the answer was refused.
    answered = _answered_in(data) if data.lstrip().startswith(b"[") else []
    if error.is_answer and request_id is not None and request_id not in answered:
        answered.append(request_id)
    text_of_answer = f"Refused by callgate: the server's answer was refused: {text}"
    told = [
        answers.error(one, answers.DENIED, text_of_answer, error.rule)
        for one in answered
        if channel.pending.pop(one, None) is not None
    ]
    forward: bytes | None = None
    if told:
        forward = told[0] if len(told) == 1 else b"[" + b",".join(told) + b"]"
    back: bytes | None = None
    if request_id is not None and not error.is_answer:
        code = -32601 if error.rule == "server-request" else error.rpc_code
        back = answers.error(request_id, code, f"Refused by callgate: {text}", error.rule)
    return Outcome(forward, back, error.rule, HTTP_OK)


def malformed(channel: Channel, raw: bytes, error: ProtocolError, direction: Direction) -> bytes | Outcome:
    """In observe mode a message that is at least JSON passes as it came, and the log says it was not inspected.

    Not where a control enforces all the same: what it cannot see it cannot refuse.
    """
    too_large = isinstance(error, LimitExceeded) and error.rule.endswith("-bytes")
    body = None if channel.enforce or channel.gate.enforces or too_large else parse_leniently(raw)
    if body is None:
        outcome = refuse(channel, error, direction, error.request_id, raw)
        asked = error.request_id if direction is _CLIENT and error.is_answer else None
        if asked is not None and channel.asked.pop(asked, None) is not None:
            text = f"Refused by callgate: the client's answer was refused: {error.what}"
            outcome.forward = answers.error(asked, answers.DENIED, text, error.rule)
        return outcome
    finding = replace(channel.gate.finding_of(error), message=f"passed uninspected: {error.what}")
    _record(channel, direction, _id_of(body), raw, "would-deny", finding)
    for one in body if type(body) is list else [body]:
        request_id = _id_of(one)
        if request_id is not None:
            _follow(channel, one, request_id, direction)
    # Between tokens a line break means what a space means, but to a reader of lines it ends the message.
    return one_line(raw.replace(b"\n", b" ").replace(b"\r", b" "))


def answer_too_long(channel: Channel, edges: list[bytes]) -> list[bytes]:
    """See `Channel.answer_too_long`."""
    errors: list[bytes] = []
    for edge in edges:
        for request_id in (id_at_head(edge), id_at_tail(edge)):
            if request_id is not None and channel.pending.pop(request_id, None) is not None:
                text = "Refused by callgate: the server's answer exceeds limits.response_bytes"
                errors.append(answers.error(request_id, answers.DENIED, text, "limit-response-bytes"))
    return errors


def _record(
    channel: Channel, direction: Direction, request_id: RequestId | None, data: bytes, outcome: str, finding: Finding
) -> None:
    hook = "call" if direction is _CLIENT else "content"
    try:
        channel.scope.decision(hook, int(direction), "", "", request_id, data, None, outcome, (finding,), 0, 0)
    except AuditError:
        pass  # it is refused anyway, or passes since the gate only observes


def _id_of(body: Any) -> RequestId | None:
    request_id = body.get("id") if type(body) is dict else None
    return request_id if type(request_id) in (str, int) else None


def _follow(channel: Channel, body: dict[str, Any], request_id: RequestId, direction: Direction) -> None:
    """Keep correlation right for a message that passed uninspected."""
    method = body.get("method")
    pending, asked = channel.pending, channel.asked
    mine, theirs = (pending, asked) if direction is _CLIENT else (asked, pending)
    if type(method) is str:
        if request_id not in mine and len(mine) < channel.in_flight:
            mine[request_id] = Pending(method, "", 0, monotonic_ns(), modern=channel.modern)
    else:
        theirs.pop(request_id, None)


def _answered_in(batch: bytes) -> list[RequestId]:
    """The ids that a batch of the server seems to answer."""
    items = parse_leniently(batch)
    if type(items) is not list:
        return []
    found = (item.get("id") for item in items if type(item) is dict and "method" not in item)
    return list(dict.fromkeys(one for one in found if type(one) is int or type(one) is str))
