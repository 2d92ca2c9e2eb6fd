"""Messages that break the protocol: who is told, what is on record, what passes in observe mode."""

from __future__ import annotations

import json

import orjson

from callgate.config import ControlConfig
from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import Deny
from tests.gate.fakes import channel_of, control
from tests.gate.messages import answer, call, dump, outcome, refused


def test_an_unreadable_answer_becomes_an_error_for_its_caller() -> None:
    channel, _ = channel_of()
    channel.client(call(1))
    out = refused(channel.server(b'{"jsonrpc":"2.0","id":1,"result":[]}'))
    assert json.loads(out.forward or b"")["id"] == 1
    assert not channel.pending


def test_everybody_a_refused_batch_would_have_answered_is_told() -> None:
    answers = b"[" + answer(1) + b"," + answer("two") + b"," + dump(id=3, method="ping") + b"]"
    unreadable = answers.replace(b'"ping"', b"[]")
    for revision, batch in (("2025-06-18", answers), ("2025-03-26", unreadable), ("2025-06-18", unreadable)):
        channel, journal = channel_of()
        channel.revision = revision
        for id in (1, "two", 3, 4):
            channel.client(call(id))
        told = json.loads(refused(channel.server(batch)).forward or b"")
        assert [one["id"] for one in told] == [1, "two"]
        assert all(one["error"]["code"] == -31403 for one in told)
        assert list(channel.pending) == [3, 4]
        assert journal.decisions[-1][5] == batch
        assert json.loads(refused(channel.server(b"[" + answer(4) + b",[]]")).forward or b"")["id"] == 4
        assert json.loads(refused(channel.server(b" [" + answer(3) + b",[]]")).forward or b"")["id"] == 3


def test_a_refused_batch_answers_nobody_who_does_not_wait() -> None:
    channel, _ = channel_of()
    channel.client(call(1))
    for batch in (b"[]", b"[" + answer(2) + b"]", b"[[1]]", b'[{"id":true}]', b'[{"id":[1]}]', b"[1", b"[" * 900):
        assert refused(channel.server(batch)).forward is None
    assert list(channel.pending) == [1]


def test_an_unreadable_answer_of_the_client_ends_what_the_server_waits_for() -> None:
    """Its id is the server's: told to the client, it would mean a request of its own."""
    channel, _ = channel_of()
    channel.client(call(5))
    channel.server(dump(id=5, method="roots/list"))
    out = refused(channel.client(dump(id=5, result=[])))
    assert json.loads(out.reply or b"")["id"] is None
    told = json.loads(out.forward or b"")
    assert (told["id"], told["error"]["data"]["rule"]) == (5, "jsonrpc-result")
    assert not channel.asked
    assert 5 in channel.pending
    assert refused(channel.client(dump(id=5, result=[]))).forward is None


def test_garbage_is_refused_and_the_channel_goes_on() -> None:
    channel, journal = channel_of()
    assert refused(channel.server(b"Listening on port 3000")).forward is None
    assert outcome(channel.client(b"{"))["error"]["code"] == -32700
    assert isinstance(channel.client(call()), bytes)
    assert journal.outcomes() == ["deny", "deny", "allow"]


def test_observe_passes_what_the_strict_parser_refuses_as_long_as_it_is_json() -> None:
    channel, journal = channel_of(mode="observe")
    twice = b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"pong"}'
    assert channel.client(twice) == twice
    assert journal.outcomes() == ["would-deny"]
    assert isinstance(channel.server(dump(id=1, result={})), bytes)
    assert isinstance(channel.client(b"{"), Outcome)


def test_what_passes_uninspected_is_still_one_line() -> None:
    channel, _ = channel_of(mode="observe")
    inner = call(id=9, name="evil")
    raw = b'{"jsonrpc":"2.0","id":1,"id":1,"method":"x","params":{"k":\n' + inner + b"\r\n}}"
    passed = channel.client(raw)
    assert isinstance(passed, bytes)
    assert b"\n" not in passed
    assert b"\r" not in passed
    assert orjson.loads(passed) == orjson.loads(raw)


def test_no_reader_of_lines_ends_one_in_what_passes_uninspected() -> None:
    channel, _ = channel_of(mode="observe")
    raw = '{"jsonrpc":"2.0","id":1,"id":1,"method":"x","params":{"k":"a\u2028b\x85c"}}'.encode()
    passed = channel.client(raw)
    assert isinstance(passed, bytes)
    assert passed.isascii()
    assert orjson.loads(passed) == orjson.loads(raw)


def test_what_passes_uninspected_takes_no_place_in_flight() -> None:
    channel, _ = channel_of(mode="observe")
    channel.client(dump(id=1, method="tools/list"))
    channel.client(b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}')
    assert channel.pending[1].method == "tools/list"


def test_who_asks_in_a_batch_that_passes_uninspected_is_answered() -> None:
    channel, journal = channel_of(mode="observe")
    channel.revision = "2025-03-26"
    odd = b"[" + call(1) + b"," + call("2") + b',{"id":true},5]'
    assert channel.client(odd) == odd
    assert list(channel.pending) == [1, "2"]
    assert channel.server(answer(1)) == answer(1)
    odd = b"[" + answer("2") + b",5]"
    assert channel.server(odd) == odd
    assert not channel.pending
    assert journal.outcomes() == ["would-deny", "allow", "would-deny"]


def test_nothing_passes_uninspected_where_a_control_enforces() -> None:
    twice = b'{"jsonrpc":"2.0","id":1,"id":1,"result":{}}'
    for mode, passes in ((None, True), ("observe", True), ("enforce", False)):
        controls = {"c": ControlConfig(mode=mode)}
        channel, _ = channel_of(control("c", content=lambda event: Deny("no")), mode="observe", controls=controls)
        channel.client(call(1))
        assert isinstance(channel.server(twice), bytes) is passes


def test_the_record_of_a_refused_message_has_its_bytes() -> None:
    channel, journal = channel_of()
    raw = b'{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}'
    refused(channel.client(raw))
    assert journal.decisions[-1][5] == raw
