"""Correlation, refusal, rewriting and evidence of one client-server pair."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from callgate.config import ControlConfig, Limits
from callgate.errors import AuditError
from callgate.gate.channel import Channel
from callgate.gate.events import Event
from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import ALLOW, Annotate, Ask, Deny, Finding, Remove, ReplaceSpan, ReplaceValue, Rewrite
from tests.gate.fakes import FakeJournal, channel_of, control, gate_of

MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def dump(**members: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", **members})


def call(id: Any = 1, name: str = "echo", **params: Any) -> bytes:
    return dump(id=id, method="tools/call", params={"name": name, "arguments": {"text": "hi"}, **params})


def answer(id: Any = 1, text: str = "hi") -> bytes:
    return dump(id=id, result={"content": [{"type": "text", "text": text}]})


def refused(result: object) -> Outcome:
    assert isinstance(result, Outcome), result
    return result


def outcome(result: object) -> dict[str, Any]:
    out = refused(result)
    data = out.reply if out.reply is not None else out.forward
    assert data is not None
    loaded: dict[str, Any] = json.loads(data)
    return loaded


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


def test_an_answer_nobody_asked_for_is_dropped() -> None:
    channel, journal = channel_of()
    out = refused(channel.server(answer(9)))
    assert (out.forward, out.reply, out.rule) == (None, None, "response-unknown-id")
    channel.client(call())
    channel.server(answer())
    assert refused(channel.server(answer(text="second thoughts"))).forward is None
    assert journal.outcomes().count("deny") == 2


def test_a_client_cannot_answer_what_the_server_did_not_ask() -> None:
    channel, _ = channel_of()
    out = refused(channel.client(dump(id=5, result={"action": "accept"})))
    assert out.forward is None
    assert out.status == 400


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


def test_an_answer_without_an_event_id_cannot_come_again() -> None:
    channel, _ = channel_of(session="abc")
    channel.client(call(3))
    channel.server(answer(3))
    channel.replaying = True
    assert isinstance(channel.server(answer(3)), Outcome)


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


# -- eras and batches --------------------------------------------------------------------------------


def test_batches_exist_in_2025_03_26_only() -> None:
    channel, _ = channel_of()
    batch = b"[" + call(1) + b"," + dump(method="notifications/initialized") + b"]"
    assert outcome(channel.client(batch))["error"]["data"]["rule"] == "jsonrpc-batch"
    channel.client(dump(id=0, method="initialize", params={"protocolVersion": "2025-03-26"}))
    channel.server(dump(id=0, result={"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {}}))
    assert channel.client(batch) == batch
    assert isinstance(channel.server(b"[" + answer(1) + b"]"), bytes)


def test_a_batch_is_decided_message_by_message() -> None:
    channel, _ = channel_of(control("no-b", call=lambda e: Deny("not b") if e.name == "b" else ALLOW))
    channel.revision = "2025-03-26"
    out = refused(channel.client(b"[" + call(1, "a") + b"," + call(2, "b") + b"," + call(3, "c") + b"]"))
    assert [m["id"] for m in json.loads(out.forward or b"")] == [1, 3]
    assert [m["id"] for m in json.loads(out.reply or b"")] == [2]


def test_revision_is_known_after_either_negotiation() -> None:
    channel, _ = channel_of()
    channel.client(call(_meta=MODERN))
    assert channel.revision == channel.conversation.revision == "2026-07-28"
    assert channel.modern


# -- controls ----------------------------------------------------------------------------------------


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


def test_ask_without_an_approver_is_no() -> None:
    channel, journal = channel_of(control("c", call=lambda e: Ask("delete everything")))
    assert outcome(channel.client(call()))["result"]["isError"] is True
    assert journal.outcomes() == ["deny"]


def test_edits_reach_the_bytes() -> None:
    hook = lambda e: Rewrite((Remove("/result/content/0"),))  # noqa: E731 - a control in one line
    channel, journal = channel_of(control("c", pattern=b"secret", content=hook))
    channel.client(call())
    two = dump(id=1, result={"content": [{"type": "text", "text": "secret"}, {"type": "text", "text": "fine"}]})
    out = refused(channel.server(two))
    assert json.loads(out.forward or b"")["result"]["content"] == [{"type": "text", "text": "fine"}]
    assert journal.outcomes() == ["allow", "rewrite"]
    assert journal.decisions[-1][5] == out.forward  # the record is of the bytes that went out


def test_a_rewritten_message_is_inspected_again() -> None:
    """Removing something may put together what a control looks for."""
    joiner = control("joiner", pattern=b"_", content=_without_underscore)
    bomb = control("bomb", pattern=b"bomb", content=lambda e: Deny("bomb"))
    channel, _ = channel_of(joiner, bomb)
    channel.client(call())
    assert json.loads(refused(channel.server(answer(text="bo_mb"))).forward or b"")["result"]["isError"] is True


def test_what_the_second_look_notes_is_on_record_and_raises_its_labels() -> None:
    def note(event: Event) -> Annotate:
        return Annotate((Finding("n/bomb", "tool-poisoning", "a bomb"),), frozenset({"bombs"}))

    joiner = control("joiner", pattern=b"_", content=_without_underscore)
    for text in ("bo_mb", "bomb bo_mb"):
        channel, journal = channel_of(joiner, control("n", pattern=b"bomb", content=note))
        channel.client(call())
        channel.server(answer(text=text))
        assert [finding.rule for finding in journal.decisions[-1][8]] == ["n/bomb"]
        assert channel.conversation.labels == {"bombs"}


def _without_underscore(event: Any) -> Rewrite:
    text = event.message.body["result"]["content"][0]["text"]
    at = text.index("_")
    return Rewrite((ReplaceSpan("/result/content/0/text", at, at + 1, ""),))


def test_a_list_with_something_withheld_is_cached_by_nobody() -> None:
    channel, _ = channel_of(control("c", catalog=lambda e: Rewrite((Remove("/result/tools/0"),))))
    channel.client(dump(id=1, method="tools/list"))
    listing = {"tools": [{"name": "a"}], "ttlMs": 60000, "cacheScope": "public", "resultType": "complete"}
    out = refused(channel.server(dump(id=1, result=listing)))
    assert json.loads(out.forward or b"")["result"] == {
        "tools": [], "ttlMs": 0, "cacheScope": "private", "resultType": "complete"
    }  # fmt: skip


def test_what_is_withheld_from_a_list_cannot_be_called_by_name() -> None:
    bad = control("c", pattern=b"evil", catalog=_withhold_evil)
    channel, _ = channel_of(bad)
    listing = {"tools": [{"name": "a"}, {"name": "b", "description": "evil"}]}
    channel.client(dump(id=1, method="tools/list"))
    channel.server(dump(id=1, result=listing))
    assert isinstance(channel.client(call(2, "a")), bytes)
    assert "c/evil" in outcome(channel.client(call(3, "b")))["result"]["content"][0]["text"]
    assert isinstance(channel.client(dump(id=4, method="prompts/get", params={"name": "b"})), bytes)
    channel.client(dump(id=5, method="tools/list"))
    channel.server(dump(id=5, result={"tools": [{"name": "a"}, {"name": "b", "description": "fine now"}]}))
    assert isinstance(channel.client(call(6, "b")), bytes)


def test_a_list_that_reaches_nobody_gives_nothing_back() -> None:
    """What was withheld stays so until a list that passes shows it again."""
    refuses = control("d", pattern=b"nonsense", catalog=lambda event: Deny("no"))
    joiner = control("j", pattern=b"_", catalog=_joined_description)
    channel, journal = channel_of(control("c", pattern=b"evil", catalog=_withhold_evil), refuses, joiner)

    def listed(description: str) -> None:
        channel.client(dump(id=1, method="tools/list"))
        channel.server(dump(id=1, result={"tools": [{"name": "b", "description": description}]}))

    listed("evil")
    for refused_list in ("nonsense", "non_sense", "nonsense and evil"):
        listed(refused_list)
        assert journal.outcomes()[-1] == "deny"
        assert isinstance(channel.client(call(2, "b")), Outcome)
    journal.full = True
    listed("fine")
    listed("fi_ne")
    journal.full = False
    assert isinstance(channel.client(call(2, "b")), Outcome)
    listed("fine")
    assert isinstance(channel.client(call(2, "b")), bytes)


def test_what_only_the_second_look_withholds_cannot_be_called_by_name_either() -> None:
    """A text that is hidden from the first look by what another control takes out of it."""
    joiner = control("j", pattern=b"_", catalog=_joined_description)
    channel, _ = channel_of(joiner, control("c", pattern=b"evil", catalog=_withhold_evil))
    channel.client(dump(id=1, method="tools/list"))
    listing = channel.server(dump(id=1, result={"tools": [{"name": "b", "description": "ev_il"}, {"name": "a"}]}))
    assert outcome(listing)["result"]["tools"] == [{"name": "a"}]
    assert isinstance(channel.client(call(2, "b")), Outcome)
    assert isinstance(channel.client(call(3, "a")), bytes)


def _joined_description(event: Any) -> Rewrite:
    at = event.message.body["result"]["tools"][0]["description"].index("_")
    return Rewrite((ReplaceSpan("/result/tools/0/description", at, at + 1, ""),))


def test_a_call_without_an_id_is_judged_as_the_call_it_is() -> None:
    """A lax server carries out what is no notification by its method, and answers nobody."""
    seen: list[str] = []

    def verdict(event: Event) -> Any:
        seen.append(event.name)
        return Deny("no") if event.name == "bad" else ALLOW

    channel, journal = channel_of(control("a", call=verdict), control("c", pattern=b"evil", catalog=_withhold_evil))
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


def test_what_one_principal_sees_changes_nothing_for_another() -> None:
    gate, _ = gate_of(control("c", pattern=b"evil", catalog=_withhold_evil))
    for principal, text in (("a", "evil"), ("b", "fine")):
        channel = gate.channel(server="s", principal=principal)
        channel.client(dump(id=1, method="tools/list"))
        channel.server(dump(id=1, result={"tools": [{"name": "t", "description": text}]}))
    assert isinstance(gate.channel(server="s", principal="a").client(call(2, "t")), Outcome)
    assert isinstance(gate.channel(server="s", principal="b").client(call(2, "t")), bytes)


def _withhold_evil(event: Any) -> Rewrite:
    tools = event.message.body["result"]["tools"]
    bad = [f"/result/tools/{n}" for n, tool in enumerate(tools) if "evil" in tool.get("description", "")]
    return Rewrite(tuple(map(Remove, bad)), tuple(Finding("c/evil", "tool-poisoning", "m", p) for p in bad))


def test_what_the_gate_made_itself_is_no_news_to_controls_without_patterns() -> None:
    seen: list[int] = []
    ledger = control("ledger", content=lambda e: seen.append(len(e.message.body["result"]["content"])) or ALLOW)
    joiner = control("joiner", pattern=b"_", content=_without_underscore)
    channel, _ = channel_of(ledger, joiner)
    channel.client(call())
    channel.server(answer(text="a_b"))
    assert seen == [1]


def test_a_rewrite_that_never_settles_is_denied() -> None:
    more = control("c", pattern=b"x", content=lambda e: Rewrite((ReplaceValue("/result/content", ["x"]),)))
    channel, _ = channel_of(more)
    channel.client(call())
    assert refused(channel.server(answer(text="x"))).rule == "rewrite-unstable"


def test_conflicting_edits_deny() -> None:
    one = control("one", content=lambda e: Rewrite((ReplaceValue("/result/content", []),)))
    two = control("two", content=lambda e: Rewrite((ReplaceValue("/result/content", [1]),)))
    channel, _ = channel_of(one, two)
    channel.client(call())
    assert refused(channel.server(answer())).rule == "edit-conflict"


def test_input_required_is_a_server_request() -> None:
    seen: list[str] = []
    channel, _ = channel_of(control("c", server_request=lambda e: seen.append(e.method) or ALLOW))
    channel.client(call(_meta=MODERN))
    channel.server(dump(id=1, result={"resultType": "input_required", "requestState": "s"}))
    assert seen == ["tools/call"]


# -- evidence ----------------------------------------------------------------------------------------


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
    channel, journal = channel_of(control("joiner", pattern=b"_", content=_without_underscore))
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


def test_a_gone_server_answers_everybody_who_waits() -> None:
    channel, journal = channel_of()
    channel.client(call(1))
    channel.client(call("two"))
    assert {json.loads(e)["id"] for e in channel.unanswered("the server ended")} == {1, "two"}
    assert channel.unanswered("again") == []
    channel.client(call(3))
    channel.close("the client ended")
    assert journal.notes[-1][1]["unanswered"] == 1


@pytest.mark.parametrize("method", ["tools/list", "initialize", "prompts/list", "resources/list", "server/discover"])
def test_a_catalogue_stays_one_whatever_result_type_it_claims(method: str) -> None:
    """A client that does not know `resultType` reads the list all the same."""
    withhold = control("w", catalog=lambda event: Rewrite((Remove("/result/tools/0"),)))
    channel, journal = channel_of(withhold)
    channel.client(dump(id=1, method=method, params={}))
    result = channel.server(dump(id=1, result={"resultType": "input_required", "tools": [{"name": "x"}]}))
    assert outcome(result)["result"]["tools"] == []
    assert journal.decisions[-1][0] == "catalog"


@pytest.mark.parametrize(
    "edits",
    [
        (None,),
        "abc",
        (Remove("result"),),
        (Remove(5),),  # type: ignore[arg-type]
        (ReplaceValue("/result/content", object()),),
        (ReplaceSpan("/result/content/0/text", 0, 1, None),),  # type: ignore[arg-type]
        (ReplaceValue("/id", 99),),
        (ReplaceValue("/id", [1]),),
    ],
)
def test_rubbish_in_edits_denies(edits: Any) -> None:
    channel, journal = channel_of(control("c", content=lambda event: Rewrite(edits)))
    channel.client(call())
    assert outcome(channel.server(answer(text="secret")))["id"] == 1
    assert b"secret" not in (refused(channel.server(answer())).forward or b"")
    assert journal.outcomes()[1] == "deny"


def test_a_question_about_a_changed_message_is_no_yes() -> None:
    change = control("change", content=lambda event: Rewrite((ReplaceSpan("/result/content/0/text", 0, 1, "Q"),)))
    ask = control("ask", b"Qi", content=lambda event: Ask("shall it pass"))
    channel, journal = channel_of(change, ask)
    channel.client(call())
    assert outcome(channel.server(answer()))["result"]["isError"] is True
    assert journal.outcomes()[-1] == "deny"


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


def test_nothing_passes_uninspected_where_a_control_enforces() -> None:
    twice = b'{"jsonrpc":"2.0","id":1,"id":1,"result":{}}'
    for mode, passes in ((None, True), ("observe", True), ("enforce", False)):
        controls = {"c": ControlConfig(mode=mode)}
        channel, _ = channel_of(control("c", content=lambda event: Deny("no")), mode="observe", controls=controls)
        channel.client(call(1))
        assert isinstance(channel.server(twice), bytes) is passes


@pytest.mark.parametrize("revision", ["2025-06-18\r\nx: y", "x" * 33, "\u0662025"])
def test_a_revision_that_is_none_is_not_taken_over(revision: str) -> None:
    channel, _ = channel_of()
    channel.client(dump(id=1, method="initialize", params={}))
    channel.server(dump(id=1, result={"protocolVersion": revision}))
    assert channel.revision == channel.conversation.revision == ""


def test_the_record_of_a_refused_message_has_its_bytes() -> None:
    channel, journal = channel_of()
    raw = b'{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}'
    refused(channel.client(raw))
    assert journal.decisions[-1][5] == raw


def test_a_channel_closes_when_the_log_is_full() -> None:
    channel, journal = channel_of()
    channel.client(call())

    def full(kind: str, fields: dict[str, Any]) -> int:
        raise AuditError("disk full")

    journal.note = full  # type: ignore[method-assign]
    channel.close("the server is gone")
    assert not channel.pending


@pytest.mark.parametrize("name", [["echo"], 5, {"a": 1}, True])
def test_a_name_that_is_no_string_is_nobodys_name(name: Any) -> None:
    channel, _ = channel_of()
    assert (
        outcome(channel.client(dump(id=1, method="tools/call", params={"name": name})))["error"]["data"]["rule"]
        == "jsonrpc-params"
    )
