"""Messages that controls change: their edits are applied, and what they made is inspected again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from callgate.errors import ProtocolError
from callgate.gate.edits import EditConflict, apply
from callgate.gate.engine import Decision
from callgate.gate.events import Event
from callgate.gate.verdicts import Finding
from callgate.protocol.message import Message

if TYPE_CHECKING:
    from callgate.gate.engine import Gate

ROUNDS: Final = 3
"""Rewritten messages are inspected again, this often at most."""

Rounds: TypeAlias = list[tuple[Event, Decision]]
"""Each look at one message, and what the controls said of it."""


def rewrite(gate: Gate, event: Event, decision: Decision, rounds: Rounds) -> Message:
    """Apply edits and inspect what they made, until nothing more is to be changed.

    `rounds` gets what was inspected again, and what the controls said of it.
    """
    conversation = event.conversation
    message = event.message
    edits = decision.edits
    for _ in range(ROUNDS):
        body = message.copy_body()
        try:
            apply(body, edits)
            if event.hook == "catalog":
                _forbid_caching(body)
            message = gate.codec.encode(body)
        except (EditConflict, ProtocolError) as error:
            _conflict(decision, "two controls want to change the same place", str(error))
            return message
        except Exception as error:  # noqa: BLE001 - rubbish in an edit must deny, whatever it breaks
            what = f"an edit cannot be applied ({type(error).__name__})"
            _conflict(decision, "a control made an edit that cannot be applied", what)
            return event.message
        if not _same_envelope(message, event.message):
            what = "an edit changes the id, the method or the kind of the message"
            _conflict(decision, "a control wants to change who is answered or what is asked", what)
            return event.message
        changed = Event(event.hook, event.direction, message, conversation, event.method, event.name, event.request)
        again = gate.decide(gate.asked_again(event.hook, message.hits), changed, conversation.mode)
        rounds.append((changed, again))
        if again.outcome in ("deny", "ask"):
            decision.findings += again.findings
            decision.deny(again.reason, again.rule)
            return message
        decision.labels |= again.labels
        if again.outcome != "rewrite" or not again.edits:
            # What is news only now, for the first look said the rest.
            said = {(one.rule, one.message, one.evidence) for one in decision.findings}
            decision.findings += [one for one in again.findings if (one.rule, one.message, one.evidence) not in said]
            return message
        decision.findings += again.findings
        edits = again.edits
    decision.deny("the message could not be made safe", "rewrite-unstable")
    return message


def _conflict(decision: Decision, reason: str, what: str) -> None:
    decision.deny(reason, "edit-conflict")
    decision.findings.append(Finding("edit-conflict", "fail-open", what, severity="high"))


def _forbid_caching(body: dict[str, Any]) -> None:
    """What is withheld changes with an approval, and may differ by caller: no cache may keep it (2026-07-28)."""
    result = body.get("result")
    if type(result) is dict:
        if "ttlMs" in result:
            result["ttlMs"] = 0
        if "cacheScope" in result:
            result["cacheScope"] = "private"


def _same_envelope(message: Message, original: Message) -> bool:
    return (message.kind, message.id, message.method) == (original.kind, original.id, original.method)
