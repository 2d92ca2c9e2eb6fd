"""Answers that come late or twice: after a cancellation, in a stream that is replayed."""

from __future__ import annotations

from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import ALLOW, Deny
from tests.gate.fakes import channel_of, control
from tests.gate.messages import answer, call, dump


def test_a_cancelled_request_may_be_answered_once_and_its_id_used_again() -> None:
    channel, _ = channel_of()
    channel.client(call(3))
    channel.client(dump(method="notifications/cancelled", params={"requestId": 3}))
    assert not channel.pending
    assert isinstance(channel.server(answer(3)), bytes)
    assert isinstance(channel.server(answer(3)), Outcome)
    assert isinstance(channel.client(call(3)), bytes)


def test_a_cancellation_that_goes_nowhere_cancels_nothing() -> None:
    refuses = control("c", call=lambda event: Deny("no") if "cancel" in event.method else ALLOW)
    channel, _ = channel_of(refuses)
    channel.client(call(3))
    note = dump(method="notifications/cancelled", params={"requestId": 3})
    assert isinstance(channel.client(note), Outcome)
    assert list(channel.pending) == [3]
    channel, journal = channel_of(control("c", content=lambda event: Deny("no")))
    channel.server(dump(id=3, method="roots/list"))
    assert isinstance(channel.server(note), Outcome)
    assert list(channel.asked) == [3]
    channel, journal = channel_of()
    channel.client(call(3))
    journal.full = True
    assert isinstance(channel.client(note), Outcome)
    assert list(channel.pending) == [3]


def test_the_record_of_a_cancelled_and_replayed_answer_says_how_long_it_took() -> None:
    channel, journal = channel_of(session="abc")
    channel.replayable = True
    channel.client(call(3))
    channel.client(dump(method="notifications/cancelled", params={"requestId": 3}))
    channel.replaying = True
    for _ in range(2):
        assert isinstance(channel.server(answer(3)), bytes)
        assert 0 <= journal.decisions[-1][10] < 60_000_000


def test_a_replayed_stream_may_repeat_an_answer() -> None:
    channel, _ = channel_of(session="abc")
    channel.replayable = True
    channel.client(call(3))
    channel.server(answer(3))
    assert isinstance(channel.server(answer(3)), Outcome)
    channel.replaying = True
    assert isinstance(channel.server(answer(3)), bytes)
    assert isinstance(channel.server(answer(4)), Outcome)


def test_an_answer_without_an_event_id_cannot_come_again() -> None:
    channel, _ = channel_of(session="abc")
    channel.client(call(3))
    channel.server(answer(3))
    channel.replaying = True
    assert isinstance(channel.server(answer(3)), Outcome)
