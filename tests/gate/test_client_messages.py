"""Requests, notifications and answers of the client."""

from __future__ import annotations

from typing import Any

import pytest

from callgate.config import Limits
from callgate.gate.events import Event
from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import ALLOW, Deny, Finding, Remove, Rewrite
from tests.gate.fakes import channel_of, control
from tests.gate.messages import answer, call, dump, outcome, refused, withhold_evil


@pytest.mark.parametrize("second", [1, "1"])
def test_ids_are_typed(second: Any) -> None:
    channel, _ = channel_of()
    channel.client(call("1" if second == 1 else 1))
    assert isinstance(channel.client(call(second)), bytes)


def test_an_id_in_flight_cannot_be_used_again() -> None:
    channel, journal = channel_of()
    channel.client(call(7))
    error = outcome(channel.client(call(7)))
    assert error["id"] == 7
    assert error["error"]["data"]["rule"] == "id-in-flight"
    assert journal.outcomes() == ["allow", "deny"]
    channel.server(answer(7))
    assert isinstance(channel.client(call(7)), bytes)


def test_a_client_cannot_answer_what_the_server_did_not_ask() -> None:
    channel, _ = channel_of()
    out = refused(channel.client(dump(id=5, result={"action": "accept"})))
    assert out.forward is None
    assert out.status == 400


def clearing(verdict: Any, names: set[str]) -> Any:
    """A control that wants every call and says beforehand which names it allows."""
    made = control("a", call=verdict)
    type(made).clears_call = staticmethod(
        lambda server, method, name: (server, method) == ("s", "tools/call") and name in names
    )
    return made


def test_a_control_is_not_asked_about_a_call_that_it_clears() -> None:
    asked: list[str] = []

    def verdict(event: Event) -> Any:
        asked.append(event.name)
        return Deny("no") if event.name == "bad" else ALLOW

    channel, journal = channel_of(clearing(verdict, {"echo"}))
    assert isinstance(channel.client(call(1, name="echo")), bytes)
    assert isinstance(channel.client(call(2, name="other")), bytes)
    assert isinstance(channel.client(call(3, name="bad")), Outcome)
    assert isinstance(
        channel.client(b'{"jsonrpc":"2.0","id":4,"method":"prompts/get","params":{"name":"echo"}}'), bytes
    )
    assert asked == ["other", "bad", "echo"]
    assert journal.outcomes() == ["allow", "allow", "deny", "allow"]


def test_one_control_cannot_clear_for_another() -> None:
    def never(event: Event) -> Any:
        return Deny("no")

    for others in ((control("b", call=never),), (clearing(never, set()),)):
        for order in (1, -1):
            controls = [clearing(lambda event: ALLOW, {"echo"}), *others][::order]
            channel, _ = channel_of(*controls)
            assert isinstance(channel.client(call(1, name="echo")), Outcome)


def test_a_pattern_in_a_cleared_call_wakes_its_controls() -> None:
    channel, _ = channel_of(
        clearing(lambda event: ALLOW, {"echo"}), control("b", b"attack", call=lambda event: Deny("no"))
    )
    assert isinstance(channel.client(call(1, name="echo")), bytes)
    assert isinstance(channel.client(call(2, name="echo", text="attack")), Outcome)


def test_what_was_withheld_is_refused_although_it_is_cleared() -> None:
    def withhold(event: Event) -> Any:
        return Rewrite((Remove("/result/tools/0"),), (Finding("b/x", "tool-poisoning", "m", "/result/tools/0"),))

    channel, _ = channel_of(clearing(lambda event: ALLOW, {"echo"}), control("b", catalog=withhold))
    channel.client(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
    channel.server(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"}]}}')
    assert isinstance(channel.client(call(2, name="echo")), Outcome)
    assert isinstance(channel.client(call(3, name="other")), bytes)


def test_too_many_in_flight() -> None:
    channel, _ = channel_of(limits=Limits(in_flight=2))
    channel.client(call(1))
    channel.client(call(2))
    assert outcome(channel.client(call(3)))["error"]["data"]["rule"] == "limit-in-flight"


def test_a_call_without_an_id_is_judged_as_the_call_it_is() -> None:
    """A lax server carries out what is no notification by its method, and answers nobody."""
    seen: list[str] = []

    def verdict(event: Event) -> Any:
        seen.append(event.name)
        return Deny("no") if event.name == "bad" else ALLOW

    channel, journal = channel_of(control("a", call=verdict), control("c", pattern=b"evil", catalog=withhold_evil))
    channel.client(dump(id=1, method="tools/list"))
    channel.server(dump(id=1, result={"tools": [{"name": "b", "description": "evil"}]}))
    for name, passes in (("a", True), ("b", False), ("bad", False)):
        result = channel.client(dump(method="tools/call", params={"name": name, "arguments": {}}))
        assert isinstance(result, bytes) is passes
        if not passes:
            assert (refused(result).forward, refused(result).reply) == (None, None)
    assert isinstance(channel.client(dump(method="tools/call", params={"name": ["b"]})), Outcome)
    assert isinstance(channel.client(dump(method="prompts/get", params={"name": "b"})), bytes)
    assert seen == ["", "a", "b", "bad", "b"]
    assert [record[3] for record in journal.decisions[2:5]] == ["a", "b", "bad"]


@pytest.mark.parametrize("name", [["echo"], 5, {"a": 1}, True])
def test_a_name_that_is_no_string_is_nobodys_name(name: Any) -> None:
    channel, _ = channel_of()
    assert (
        outcome(channel.client(dump(id=1, method="tools/call", params={"name": name})))["error"]["data"]["rule"]
        == "jsonrpc-params"
    )
