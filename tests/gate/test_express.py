"""The short way comes to what the general way comes to: bytes, refusals, evidence, and what waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.audit.shapes import shape
from callgate.config import Config, Limits
from callgate.gate import express
from callgate.gate.channel import Channel
from callgate.gate.engine import Gate
from callgate.gate.events import Event
from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import ALLOW, Annotate, Deny, Finding, Remove, Rewrite
from callgate.protocol.message import Direction
from callgate.vault import active
from callgate.vault.redaction import Redactor
from tests.audit.evidence import new_journal, records_in
from tests.gate.fakes import FakeJournal, channel_of, control, gate_of


def cleared(deny: str = "bad") -> Any:
    """A control that wants every call, denies one name and clears all others but one."""

    def verdict(event: Event) -> Any:
        if event.name == "noted":
            return Annotate((Finding("a/n", "tool-poisoning", "m"),))
        return Deny("no") if event.name == deny else ALLOW

    made = control("a", call=verdict)
    type(made).clears_call = staticmethod(lambda server, method, name: name not in (deny, "noted"))
    return made


def woken() -> Any:
    return control("b", b"attack", call=lambda event: Deny("attack"), content=lambda event: Deny("attack"))


def pair(mode: str = "enforce", limits: Limits | None = None) -> tuple[tuple[Channel, FakeJournal], ...]:
    """The same gate twice; the second one has no short way."""
    quick = channel_of(cleared(), woken(), mode=mode, limits=limits or Limits())
    plain = channel_of(cleared(), woken(), mode=mode, limits=limits or Limits())
    plain[0].codec.plain = lambda raw: None  # type: ignore[method-assign]
    return quick, plain


def shown(result: bytes | Outcome) -> Any:
    return result if isinstance(result, bytes) else (result.forward, result.reply, result.rule, result.status)


def state(channel: Channel, journal: FakeJournal) -> Any:
    waiting = {key: (p.method, p.name, p.seq, p.modern) for key, p in channel.pending.items()}
    decisions = [(*fields[:6], described(fields), *fields[7:10]) for fields in journal.decisions]
    return waiting, channel.modern, channel.revision, decisions


def described(fields: tuple[Any, ...]) -> str:
    """What evidence says of the content: names and types."""
    content = fields[6]
    if not fields[1] and type(content) is dict and type(content.get("arguments")) is dict:
        content = content["arguments"]
    return shape(content)


_TEXT = st.sampled_from(["", "x", "attack", "a\u2028b", "é", "\0", "0123456789012345678", "T" * 300])
_FLAT = st.one_of(_TEXT, st.integers(-5, 5), st.just(10**17), st.booleans(), st.none(), st.just(1.5))
_NAME = st.sampled_from(["a", "A", "b", "name", "text", "Text", "isError", "content", "resultType", "\u212a", "k"])
_VALUE = st.one_of(_FLAT, st.lists(_FLAT, max_size=2), st.dictionaries(_NAME, _FLAT, max_size=2))
_ARGUMENTS = st.one_of(
    st.sampled_from([{"a": "x"}, {"a": "y"}, {"a": 1, "b": "x"}, {}]),
    st.dictionaries(_NAME, _VALUE, max_size=3),
    _VALUE,
)
_ID: Any = st.one_of(st.integers(1, 3), st.sampled_from([True, 1.0, "1", None, [1], {}, 2**60]))
_TOOL: Any = st.one_of(
    st.sampled_from(["echo", "echo", "bad", "noted", "other"]),
    st.sampled_from(["", "x" * 1500, "n\0", None, 1, True, ["echo"], {}]),
)
_METHOD = st.sampled_from(
    [
        "tools/call",
        "tools/call",
        "tools/call",
        "prompts/get",
        "resources/read",
        "initialize",
        "tools/list",
        "x/y",
        "",
        1,
        [],
    ]
)
_EXTRA = st.dictionaries(
    st.sampled_from(["_meta", "uri", "Name", "error", "result", "jsonrpc", "Jsonrpc", "extra", "id"]),
    st.sampled_from([{}, 1, "2.0", {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}]),
    max_size=1,
)
_PLAIN_CALL = st.builds(
    lambda number, name, arguments: {
        "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "arguments": arguments},
    },
    st.integers(1, 3), st.sampled_from(["echo", "bad"]), st.sampled_from([{"a": "x"}, {"a": "attack"}, {"a": 1, "b": None}]),
)  # fmt: skip
_CALL = st.builds(
    lambda number, method, name, arguments, extra, more: {
        "jsonrpc": "2.0", "id": number, "method": method, "params": {"name": name, "arguments": arguments, **more}, **extra,
    },
    _ID, _METHOD, _TOOL, _ARGUMENTS, _EXTRA, _EXTRA,
)  # fmt: skip
_BLOCK = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": _TEXT}),
    st.fixed_dictionaries({"type": st.just("text"), "Text": _TEXT}),
    st.fixed_dictionaries({"type": st.just("resource"), "resource": st.sampled_from([{"Text": "x"}, {"uri": "u"}])}),
    _VALUE,
)
_RESULT = st.one_of(
    st.builds(
        lambda content, error: {"content": content, "isError": error}, st.lists(_BLOCK, max_size=2), st.booleans()
    ),
    st.builds(lambda content: {"content": content}, st.one_of(st.lists(_BLOCK, max_size=2), _VALUE)),
    st.dictionaries(_NAME, _VALUE, max_size=2),
    _VALUE,
)
_ANSWER = st.builds(
    lambda number, result, extra: {"jsonrpc": "2.0", "id": number, "result": result, **extra},
    st.one_of(st.integers(1, 3), _ID), _RESULT, st.one_of(st.just({}), _EXTRA),
)  # fmt: skip
_PLAIN_ANSWER = st.builds(
    lambda number, text: {"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": text}], "isError": False}},
    st.integers(1, 3), _TEXT,
)  # fmt: skip
_STEP = st.one_of(
    st.tuples(st.just("client"), _PLAIN_CALL),
    st.tuples(st.just("server"), _PLAIN_ANSWER),
    st.tuples(st.just("client"), _CALL),
    st.tuples(st.just("server"), _ANSWER),
    st.tuples(
        st.just("client"),
        st.sampled_from([{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}]),
    ),
)


def raw_of(body: Any, spaced: bool) -> bytes:
    raw = orjson.dumps(body)
    return raw.replace(b":", b": ", 1) if spaced else raw


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@given(steps=st.lists(st.tuples(_STEP, st.sampled_from([False, False, False, True])), max_size=14))
@settings(max_examples=150, deadline=None)
def test_both_ways_come_to_the_same(mode: str, steps: list[Any]) -> None:
    (quick, seen), (plain, expected) = pair(mode)
    for (side, body), spaced in steps:
        raw = raw_of(body, spaced)
        one, two = getattr(quick, side)(raw), getattr(plain, side)(raw)
        assert shown(one) == shown(two), raw
        assert state(quick, seen) == state(plain, expected), raw


def call(number: int = 1, name: str = "echo", **arguments: Any) -> bytes:
    params = {"name": name, "arguments": arguments or {"a": "x"}}
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})


def answer(number: int = 1, text: str = "x", **more: Any) -> bytes:
    result = {"content": [{"type": "text", "text": text}], "isError": False, **more}
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "result": result})


def counted(channel: Channel) -> list[bytes]:
    """What the general way gets to see from now on."""
    general: list[bytes] = []
    message = channel.codec.message

    def seen(body: dict[str, Any], raw: bytes, direction: Direction) -> Any:
        general.append(raw)
        return message(body, raw, direction)

    channel.codec.message = seen  # type: ignore[method-assign]
    return general


def test_the_second_of_a_form_goes_the_short_way() -> None:
    channel, journal = channel_of(cleared())
    for number in range(1, 3):
        assert channel.client(call(number)) == call(number)
        assert channel.server(answer(number)) == answer(number)
    general = counted(channel)
    assert channel.client(call(7, a="y")) == call(7, a="y")
    assert channel.server(answer(7)) == answer(7)
    assert not general
    assert len(journal.decisions) == 6
    for raw in (call(8, b="y"), call(9, "other"), call(10, a=1), call(11, a={}), call(12, "bad")):
        channel.client(raw)
        assert general.pop() == raw


@pytest.mark.parametrize(
    "raw",
    [
        call(2, a="\u2028"),
        call(2, a=10**17),
        call(2).replace(b'"2.0"', b'"2.1"'),
        call(2).replace(b'"id":2', b'"id":true'),
        call(2).replace(b'"id":2', b'"id":"2"'),
        call(2).replace(b"tools/call", b"tools/CALL"),
        call(2).replace(b'"arguments"', b'"argumentS"'),
        call(2).replace(b'"a":"x"', b'"a":"x","a":"y"'),
        call(2).replace(b'"a":"x"', b'"a":"x","A":"y"'),
        call(2).replace(b'"id":2', b'"id":2.0'),
        call(2).replace(b'"id":2', b'"id":null'),
        call(2).replace(b'"name"', b'"_meta":{},"name"'),
        call(2).replace(b'"name"', b'"Name":"x","name"'),
        call(2).replace(b'"arguments"', b'"Arguments":{},"arguments"'),
        call(2).replace(b'"id":2', b'"id":2,"Id":2'),
        call(2).replace(b'"jsonrpc":"2.0"', b'"result":{}'),
        call(2)[:-1],
        b"[" + call(2) + b"]",
    ],
)
def test_nearly_plain_calls_get_the_general_verdict(raw: bytes) -> None:
    (quick, seen), (plain, expected) = pair()
    for channel in (quick, plain):
        for number in range(2):  # the second time in one look-up
            channel.client(call(number))
            channel.server(answer(number))
    assert shown(quick.client(raw)) == shown(plain.client(raw))
    assert state(quick, seen) == state(plain, expected)


@pytest.mark.parametrize(
    "raw",
    [
        answer(2).replace(b'"id":2', b'"id":true'),
        answer(2).replace(b'"id":2', b'"id":2.0'),
        answer(2).replace(b'"id":2', b'"id":[2]'),
        answer(2).replace(b'"id":2', b'"id":3'),
        answer(2).replace(b'"2.0"', b'"2"'),
        answer(2).replace(b'"jsonrpc":"2.0"', b'"method":"x"'),
        answer(2).replace(b'"jsonrpc":"2.0"', b'"jsonrpc":"2.0","method":"x"'),
        answer(2).replace(b'"jsonrpc":"2.0"', b'"jsonrpc":"2.0","Id":2'),
        answer(2).replace(b'"text":"x"', b'"text":"x","Text":"y"'),
        answer(2).replace(b'"text":"x"', b'"Text":"x"'),
        answer(2).replace(b'"type":"text"', b'"resource":{"Text":"x"}'),
        answer(2).replace(b'"type":"text"', b'"content":[{"Text":"x"}]'),
        answer(2).replace(b'"isError":false', b'"isError":true'),
        answer(2).replace(b'"isError"', b'"iserror"'),
        answer(2).replace(b'"content":[{"type":"text","text":"x"}]', b'"content":["x"]'),
        answer(2).replace(b'"content":[{"type":"text","text":"x"}]', b'"content":[]'),
        answer(2, "attack"),
        answer(2, "a\u2028b"),
        answer(2)[:-1],
        answer(2),
    ],
)
def test_nearly_plain_answers_get_the_general_verdict(raw: bytes) -> None:
    (quick, seen), (plain, expected) = pair()
    for channel in (quick, plain):
        for number in range(2):
            channel.client(call(number))
            channel.server(answer(number))
        channel.client(call(1))
        channel.client(call(2))
    assert shown(quick.server(raw)) == shown(plain.server(raw))
    assert state(quick, seen) == state(plain, expected)


def test_an_id_in_flight_is_not_taken_again() -> None:
    channel, _ = channel_of(cleared())
    for number in (1, 2):
        assert isinstance(channel.client(call(number)), bytes)
        assert isinstance(channel.client(call(number)), Outcome)


def test_a_call_of_a_known_form_is_refused_once_its_tool_is_withheld() -> None:
    def withhold(event: Event) -> Any:
        if b"bad" not in event.message.data:
            return ALLOW
        return Rewrite((Remove("/result/tools/0"),), (Finding("b/x", "tool-poisoning", "m", "/result/tools/0"),))

    channel, _ = channel_of(cleared(), control("b", catalog=withhold))
    for number in range(3):
        assert isinstance(channel.client(call(number)), bytes)
    for number, description, passes in ((10, "bad", False), (11, "good", True)):
        channel.client(orjson.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/list"}))
        tools = [{"name": "echo", "description": description}]
        channel.server(orjson.dumps({"jsonrpc": "2.0", "id": number, "result": {"tools": tools}}))
        assert isinstance(channel.client(call(number)), bytes) == passes


def test_a_control_that_wants_every_answer_is_asked_about_each() -> None:
    asked: list[str] = []

    def content(event: Event) -> Any:
        asked.append(event.name)
        return ALLOW

    channel, _ = channel_of(cleared(), control("c", content=content))
    for number in range(4):
        channel.client(call(number))
        channel.server(answer(number))
    assert len(asked) == 4


def test_a_plain_call_is_of_the_handshake_era() -> None:
    channel, _ = channel_of(cleared())
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    asks = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "roots/list"})
    for number in range(0, 6, 2):
        channel.client(
            orjson.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/list", "params": {"_meta": meta}})
        )
        assert isinstance(channel.server(asks), Outcome)
        channel.client(call(number + 1))
        assert not channel.modern
        assert channel.server(asks) == asks
        channel.client(orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}))


def test_limits_of_a_new_gate_hold_for_forms_the_old_one_knew() -> None:
    """Forms belong to a gate, whose limits and controls they were judged by."""
    journal = FakeJournal()
    first, _ = gate_of(cleared())
    second, _ = gate_of(cleared(), limits=Limits(name_bytes=12))
    name = "a" * 20
    for gate, passes in ((first, True), (second, False)):
        channel = gate.channel(server="s", principal="p")
        for number in range(3):
            assert isinstance(channel.client(call(number, name)), bytes) == passes
    assert not journal.decisions


def test_no_more_in_flight_than_allowed() -> None:
    channel, _ = channel_of(cleared(), limits=Limits(in_flight=2))
    assert isinstance(channel.client(call(1)), bytes)
    assert isinstance(channel.client(call(2)), bytes)
    assert isinstance(channel.client(call(3)), Outcome)


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_without_evidence_nothing_passes_in_enforce(mode: str) -> None:
    channel, journal = channel_of(cleared(), mode=mode)
    for number in range(2):
        channel.client(call(number))
        channel.server(answer(number))
    channel.client(call(5))
    journal.full = True
    for result in (channel.client(call(6)), channel.server(answer(5))):
        assert isinstance(result, bytes) == (mode == "observe")
    assert 5 not in channel.pending


def test_memory_is_bounded_and_forms_that_are_large_are_not_kept() -> None:
    channel, _ = channel_of(cleared())
    for number in range(express.REMEMBERED + 100):
        channel.client(call(number, f"t{number}"))
        channel.server(answer(number))
    forms = channel.gate.forms
    assert 0 < len(forms.calls) <= express.REMEMBERED
    assert 0 < len(forms.answers) <= express.REMEMBERED
    before = len(forms.calls)
    wide: Any = {f"argument{n}": 1 for n in range(15)}
    channel.client(call(9001, **wide))
    assert len(forms.calls) == before + 1
    wider: Any = {f"a{n}": 1 for n in range(25)}
    channel.client(call(9002, **wider))
    assert len(forms.calls) == before + 1


def test_what_cannot_go_the_short_way_is_not_kept() -> None:
    def exchange(channel: Channel, id: int | str) -> tuple[bool, bool]:
        for example, decide in ((call(1), channel.client), (answer(1), channel.server)):
            raw = example.replace(b'"id":1', b'"id":' + orjson.dumps(id))
            assert decide(raw) == raw
        forms = channel.gate.forms
        return bool(forms.calls), bool(forms.answers)

    channel, _ = channel_of(cleared())
    assert exchange(channel, "1") == (False, False)
    channel.gate.withheld.names["s", "p", "tools/call", "other"] = "x"
    channel.replayable = True
    assert exchange(channel, 2) == (False, False)
    channel.gate.withheld.names.clear()
    channel.replayable = False
    assert exchange(channel, 3) == (True, True)
    wants_all = control("c", call=lambda event: ALLOW, content=lambda event: ALLOW)
    assert exchange(channel_of(wants_all)[0], 1) == (False, False)


def test_the_records_are_those_of_the_general_way(tmp_path: Path) -> None:
    texts = ["x", 'q"uote', "é", "\\", ""]
    found: list[list[Any]] = []
    for place, short in ((tmp_path / "a", True), (tmp_path / "b", False)):
        journal = new_journal(place)
        gate, _ = gate_of(cleared())
        gate.journal = journal
        channel = gate.channel(server="s", principal="p")
        if not short:
            channel.codec.plain = lambda raw: None  # type: ignore[method-assign]
        for number, text in enumerate(texts):
            channel.client(call(number, a=text))
            channel.server(answer(number, text))
            channel.server(answer(number, text))
            channel.client(call(1000 + number, a=text, b=number))
            channel.server(answer(1000 + number, text, isError=bool(number % 2)))
        journal.close()
        records = records_in(journal.path)
        changing = {"chain": "", "prev": "", "time": 0, "took_us": 0, "digest": "", "signature": "", "key": ""}
        found.append([record | changing for record in records if record["kind"] == "decision"])
    assert found[0] == found[1]
    assert len(found[0]) == 5 * len(texts)


def test_a_scope_that_keeps_values_has_no_short_way(tmp_path: Path) -> None:
    for content in ("full", "shape", "digest"):
        journal = new_journal(tmp_path / content, content=content)
        gate, _ = gate_of(cleared())
        gate.journal = journal
        channel = gate.channel(server="s", principal="p")
        for number in range(3):
            channel.client(call(number, a=f"value{number}"))
            channel.server(answer(number))
        assert bool(gate.forms.calls) == (content != "full")
        journal.close()
        decisions = [record for record in records_in(journal.path) if record["kind"] == "decision"]
        assert {record["detail"] for record in decisions} == {content}


def test_a_form_with_a_secret_in_it_is_forgotten_when_the_secret_is_added(tmp_path: Path) -> None:
    later = "tok-Mx82qRa1zCo4We9t6L"
    journal = new_journal(tmp_path)
    channel = Gate(Config(), (), journal).channel(server="s", principal="p")
    try:
        for number in range(2):
            channel.client(call(number, later))
            channel.server(answer(number))
        before = len(bytes(journal.tail[: journal.offset]))
        assert channel.gate.forms.calls
        active.register("s", Redactor([("LATER", later.encode())]))
        assert not channel.gate.forms.calls
        for number in range(2):
            channel.client(call(number, later))
            channel.server(answer(number))
        assert later.encode() not in bytes(journal.tail[before : journal.offset])
        assert not channel.gate.forms.calls  # never learned again
    finally:
        active.forget("s")
        channel.gate.close()
        journal.close()
