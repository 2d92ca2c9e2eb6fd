"""What the gate itself answers a request whose message it refuses."""

from __future__ import annotations

from callgate.gate import answers
from callgate.gate.outcome import Outcome
from callgate.transport.http.exchange import Exchange
from callgate.transport.http.fields import JSON, NO_STORE


def respond_outcome(exchange: Exchange, outcome: Outcome) -> None:
    """A decision that lets nothing through."""
    reply = outcome.reply
    if reply is None:
        reply = answers.error(None, answers.DENIED, "Blocked by callgate", outcome.rule)
    exchange.respond(outcome.status, [JSON, NO_STORE], reply)


def respond_error(exchange: Exchange, status: int, rule: str, text: str) -> None:
    """A refusal before there is anything to decide; it is put on record."""
    exchange.refuse(status, rule, [JSON, NO_STORE], answers.error(None, -32600, f"callgate: {text}", rule))
