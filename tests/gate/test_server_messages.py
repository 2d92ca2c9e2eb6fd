"""Answers, requests and notifications of the server."""

from __future__ import annotations

import json

import pytest

from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import ALLOW, Remove, Rewrite
from tests.gate.fakes import channel_of, control
from tests.gate.messages import MODERN, answer, call, dump, outcome, refused


def test_an_answer_nobody_asked_for_is_dropped() -> None:
    channel, journal = channel_of()
    out = refused(channel.server(answer(9)))
    assert (out.forward, out.reply, out.rule) == (None, None, "response-unknown-id")
    channel.client(call())
    channel.server(answer())
    assert refused(channel.server(answer(text="second thoughts"))).forward is None
    assert journal.outcomes().count("deny") == 2


def test_the_server_asks_and_the_client_answers() -> None:
    channel, journal = channel_of()
    ask = dump(id=5, method="elicitation/create", params={"message": "name?", "requestedSchema": {}})
    assert channel.server(ask) == ask
    assert isinstance(channel.client(dump(id=5, result={"action": "decline"})), bytes)
    assert [d[0] for d in journal.decisions] == ["server_request", "server_request"]
    assert isinstance(channel.client(dump(id=5, result={"action": "accept"})), Outcome)


def test_a_modern_server_sends_no_requests() -> None:
    channel, _ = channel_of()
    channel.client(call(_meta=MODERN))
    out = refused(channel.server(dump(id=5, method="roots/list")))
    assert out.forward is None
    assert json.loads(out.reply or b"")["error"]["code"] == -32601


def test_input_required_is_a_server_request() -> None:
    seen: list[str] = []
    channel, _ = channel_of(control("c", server_request=lambda e: seen.append(e.method) or ALLOW))
    channel.client(call(_meta=MODERN))
    channel.server(dump(id=1, result={"resultType": "input_required", "requestState": "s"}))
    assert seen == ["tools/call"]


@pytest.mark.parametrize("method", ["tools/list", "initialize", "prompts/list", "resources/list", "server/discover"])
def test_a_catalogue_stays_one_whatever_result_type_it_claims(method: str) -> None:
    """A client that does not know `resultType` reads the list all the same."""
    withhold = control("w", catalog=lambda event: Rewrite((Remove("/result/tools/0"),)))
    channel, journal = channel_of(withhold)
    channel.client(dump(id=1, method=method, params={}))
    result = channel.server(dump(id=1, result={"resultType": "input_required", "tools": [{"name": "x"}]}))
    assert outcome(result)["result"]["tools"] == []
    assert journal.decisions[-1][0] == "catalog"
