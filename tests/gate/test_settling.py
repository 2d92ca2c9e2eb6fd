"""From a decision to its effect: what waits, what is on record, which labels rise."""

from __future__ import annotations

import json

from callgate.gate.events import Event
from callgate.gate.verdicts import ALLOW, Annotate, Ask, Deny, Finding, ReplaceValue, Rewrite
from tests.gate.fakes import channel_of, control
from tests.gate.messages import answer, call, dump, outcome, refused


def test_ask_without_an_approver_is_no() -> None:
    channel, journal = channel_of(control("c", call=lambda e: Ask("delete everything")))
    told = outcome(channel.client(call()))["result"]
    assert told["isError"] is True
    assert "no approver is connected" in told["content"][0]["text"]
    assert journal.outcomes() == ["deny"]
    assert not channel.pending


def test_a_changed_request_waits_for_its_answer() -> None:
    change = control("c", call=lambda event: Rewrite((ReplaceValue("/params/arguments/text", "ho"),)))
    channel, journal = channel_of(change)
    out = refused(channel.client(call(4)))
    assert json.loads(out.forward or b"")["params"]["arguments"] == {"text": "ho"}
    assert out.reply is None
    assert channel.pending[4].seq == 1
    assert channel.server(answer(4)) == answer(4)
    assert journal.decisions[-1][9] == 1  # about: the record of the request


def test_labels_rise_and_never_fall() -> None:
    """Those of a message that is refused rise too: it was said."""

    def note(event: Event) -> Annotate:
        return Annotate((Finding("n/x", "tool-poisoning", "m"),), frozenset({event.method}))

    refuses = control("r", call=lambda event: Deny("no") if event.method == "b" else ALLOW)
    channel, journal = channel_of(control("n", call=note), refuses)
    for id, method in enumerate("abc"):
        channel.client(dump(id=id, method=method))
    assert channel.conversation.labels == {"a", "b", "c"}
    assert journal.outcomes() == ["annotate", "deny", "annotate"]
    assert list(channel.pending) == [0, 2]
