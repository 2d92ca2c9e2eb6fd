"""One client-server pair: what goes through, what is negotiated, how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callgate.errors import AuditError
from callgate.gate.outcome import Outcome
from tests.gate.fakes import channel_of
from tests.gate.messages import MODERN, answer, call, dump


def test_a_call_and_its_answer_pass_unchanged_and_leave_two_linked_records() -> None:
    channel, journal = channel_of()
    assert channel.client(call()) == call()
    assert channel.server(answer()) == answer()
    first, second = journal.decisions
    assert first[:5] == ("call", 0, "tools/call", "echo", 1)
    assert second[:5] == ("content", 1, "tools/call", "echo", 1)
    assert second[9] == 1  # about: the record of the request
    assert not channel.pending


def test_what_was_inspected_is_what_is_sent() -> None:
    channel, _ = channel_of()
    spaced = b'{ "jsonrpc":"2.0", "id":1, "method":"p\\u0069ng" }'
    assert channel.client(spaced) == b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def test_a_channel_of_new_rules_knows_what_the_old_one_knew() -> None:
    old, _ = channel_of(session="abc")
    old.replayable = True
    old.client(dump(id=0, method="initialize", params={"protocolVersion": "2025-03-26"}))
    old.server(dump(id=0, result={"protocolVersion": "2025-03-26"}))
    for id in (1, 2, 3):
        old.client(call(id))
    old.server(answer(1))
    old.client(dump(method="notifications/cancelled", params={"requestId": 2}))
    new, _ = channel_of(session="abc")
    new.take_over(old)
    assert new.revision == new.conversation.revision == "2025-03-26"
    assert isinstance(new.server(answer(2)), bytes)  # cancelled, and answered all the same
    assert isinstance(new.server(answer(1)), Outcome)
    new.replaying = True
    assert isinstance(new.server(answer(1)), bytes)
    assert isinstance(old.server(answer(3)), bytes)  # an exchange that began under the old rules
    assert not new.pending
    assert isinstance(new.server(answer(3)), bytes)


def test_revision_is_known_after_either_negotiation() -> None:
    channel, _ = channel_of()
    channel.client(call(_meta=MODERN))
    assert channel.revision == channel.conversation.revision == "2026-07-28"
    assert channel.modern


def test_a_gone_server_answers_everybody_who_waits() -> None:
    channel, journal = channel_of()
    channel.client(call(1))
    channel.client(call("two"))
    assert {json.loads(e)["id"] for e in channel.unanswered("the server ended")} == {1, "two"}
    assert channel.unanswered("again") == []
    channel.client(call(3))
    channel.close("the client ended")
    assert journal.notes[-1][1]["unanswered"] == 1


@pytest.mark.parametrize("revision", ["2025-06-18\r\nx: y", "x" * 33, "\u0662025"])
def test_a_revision_that_is_none_is_not_taken_over(revision: str) -> None:
    channel, _ = channel_of()
    channel.client(dump(id=1, method="initialize", params={}))
    channel.server(dump(id=1, result={"protocolVersion": revision}))
    assert channel.revision == channel.conversation.revision == ""


def test_a_channel_closes_when_the_log_is_full() -> None:
    channel, journal = channel_of()
    channel.client(call())

    def full(kind: str, fields: dict[str, Any]) -> int:
        raise AuditError("disk full")

    journal.note = full  # type: ignore[method-assign]
    channel.close("the server is gone")
    assert not channel.pending
