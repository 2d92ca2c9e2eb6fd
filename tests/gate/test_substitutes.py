"""What the one who waits gets when a control refuses, or nothing can be put on record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callgate.gate.channel import Channel
from callgate.gate.verdicts import Deny, Finding
from tests.gate.fakes import FakeJournal, channel_of, control
from tests.gate.messages import MODERN, answer, call, dump, outcome, refused, without_underscore


def test_a_denied_tool_call_is_a_tool_result_the_model_can_read() -> None:
    channel, _ = channel_of(control("c", call=lambda e: Deny("not today", (Finding("c/x", "tool-poisoning", "m"),))))
    result = outcome(channel.client(call(4)))["result"]
    assert result["isError"] is True
    assert "not today" in result["content"][0]["text"]
    assert "c/x" in result["content"][0]["text"]
    assert "resultType" not in result
    assert outcome(channel.client(call(5, _meta=MODERN)))["result"]["resultType"] == "complete"
    assert not channel.pending


@pytest.mark.parametrize("id", [0, "", "0", -1])
def test_a_refusal_has_the_id_of_its_request(id: Any) -> None:
    channel, _ = channel_of(control("c", call=lambda event: Deny("no")))
    told = outcome(channel.client(call(id)))["id"]
    assert (type(told), told) == (type(id), id)


def test_other_denied_requests_get_an_error_outside_the_reserved_codes() -> None:
    channel, _ = channel_of(control("c", call=lambda e: Deny("no")))
    code = outcome(channel.client(dump(id=4, method="resources/read", params={"uri": "file:///x"})))["error"]["code"]
    assert not -32768 <= code <= -32000


def test_a_denied_answer_is_replaced_for_the_caller() -> None:
    channel, _ = channel_of(control("c", content=lambda e: Deny("bad result")))
    channel.client(call(4))
    out = refused(channel.server(answer(4)))
    substitute = json.loads(out.forward or b"")
    assert substitute["id"] == 4
    assert substitute["result"]["isError"] is True
    assert b"hi" not in (out.forward or b"")


def test_a_denied_notification_vanishes() -> None:
    channel, _ = channel_of(control("c", content=lambda e: Deny("noise")))
    out = refused(channel.server(dump(method="notifications/message", params={"data": "x"})))
    assert (out.forward, out.reply) == (None, None)


def full(mode: str) -> tuple[Channel, FakeJournal]:
    channel, journal = channel_of(mode=mode)
    channel.client(call(1))
    journal.full = True
    return channel, journal


def test_enforce_refuses_calls_when_evidence_cannot_be_written() -> None:
    channel, _ = full("enforce")
    out = refused(channel.client(call(2)))
    assert out.forward is None
    assert (out.status, out.rule) == (503, "evidence-unavailable")
    assert 2 not in channel.pending
    answered = refused(channel.server(answer(1, "the result")))
    assert b"the result" not in (answered.forward or b"")
    assert json.loads(answered.forward or b"")["id"] == 1
    listing = refused(channel.client(dump(id=3, method="tools/list")))
    assert json.loads(listing.reply or b"")["error"]["code"] == -31503


def test_a_changed_answer_without_evidence_is_refused_in_the_era_of_its_request() -> None:
    channel, journal = channel_of(control("joiner", pattern=b"_", content=without_underscore))
    channel.client(call(1, _meta=MODERN))
    channel.client(call(2))
    journal.full = True
    for id, modern in ((1, True), (2, False)):
        result = json.loads(refused(channel.server(answer(id, "a_b"))).forward or b"")["result"]
        assert ("resultType" in result) is modern


def test_observe_goes_on_without_evidence() -> None:
    channel, _ = full("observe")
    assert isinstance(channel.client(call(2)), bytes)
    assert isinstance(channel.server(answer(1)), bytes)
