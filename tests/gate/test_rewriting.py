"""Messages that controls change, what is inspected again, and what is withheld from lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callgate.gate.events import Event
from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import ALLOW, Annotate, Ask, Deny, Finding, Remove, ReplaceSpan, ReplaceValue, Rewrite
from tests.gate.fakes import channel_of, control, gate_of
from tests.gate.messages import (
    answer,
    call,
    dump,
    joined_description,
    outcome,
    refused,
    withhold_evil,
    without_underscore,
)


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
    joiner = control("joiner", pattern=b"_", content=without_underscore)
    bomb = control("bomb", pattern=b"bomb", content=lambda e: Deny("bomb"))
    channel, _ = channel_of(joiner, bomb)
    channel.client(call())
    assert json.loads(refused(channel.server(answer(text="bo_mb"))).forward or b"")["result"]["isError"] is True


def test_what_the_second_look_notes_is_on_record_and_raises_its_labels() -> None:
    def note(event: Event) -> Annotate:
        return Annotate((Finding("n/bomb", "tool-poisoning", "a bomb"),), frozenset({"bombs"}))

    joiner = control("joiner", pattern=b"_", content=without_underscore)
    for text in ("bo_mb", "bomb bo_mb"):
        channel, journal = channel_of(joiner, control("n", pattern=b"bomb", content=note))
        channel.client(call())
        channel.server(answer(text=text))
        assert [finding.rule for finding in journal.decisions[-1][8]] == ["n/bomb"]
        assert channel.conversation.labels == {"bombs"}


def test_what_the_gate_made_itself_is_no_news_to_controls_without_patterns() -> None:
    seen: list[int] = []
    ledger = control("ledger", content=lambda e: seen.append(len(e.message.body["result"]["content"])) or ALLOW)
    joiner = control("joiner", pattern=b"_", content=without_underscore)
    channel, _ = channel_of(ledger, joiner)
    channel.client(call())
    channel.server(answer(text="a_b"))
    assert seen == [1]


def test_a_question_about_a_changed_message_is_no_yes() -> None:
    change = control("change", content=lambda event: Rewrite((ReplaceSpan("/result/content/0/text", 0, 1, "Q"),)))
    ask = control("ask", b"Qi", content=lambda event: Ask("shall it pass"))
    channel, journal = channel_of(change, ask)
    channel.client(call())
    assert outcome(channel.server(answer()))["result"]["isError"] is True
    assert journal.outcomes()[-1] == "deny"


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


def test_a_list_with_something_withheld_is_cached_by_nobody() -> None:
    channel, _ = channel_of(control("c", catalog=lambda e: Rewrite((Remove("/result/tools/0"),))))
    channel.client(dump(id=1, method="tools/list"))
    listing = {"tools": [{"name": "a"}], "ttlMs": 60000, "cacheScope": "public", "resultType": "complete"}
    out = refused(channel.server(dump(id=1, result=listing)))
    assert json.loads(out.forward or b"")["result"] == {
        "tools": [], "ttlMs": 0, "cacheScope": "private", "resultType": "complete"
    }  # fmt: skip


def test_what_is_withheld_from_a_list_cannot_be_called_by_name() -> None:
    bad = control("c", pattern=b"evil", catalog=withhold_evil)
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
    joiner = control("j", pattern=b"_", catalog=joined_description)
    channel, journal = channel_of(control("c", pattern=b"evil", catalog=withhold_evil), refuses, joiner)

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
    joiner = control("j", pattern=b"_", catalog=joined_description)
    channel, _ = channel_of(joiner, control("c", pattern=b"evil", catalog=withhold_evil))
    channel.client(dump(id=1, method="tools/list"))
    listing = channel.server(dump(id=1, result={"tools": [{"name": "b", "description": "ev_il"}, {"name": "a"}]}))
    assert outcome(listing)["result"]["tools"] == [{"name": "a"}]
    assert isinstance(channel.client(call(2, "b")), Outcome)
    assert isinstance(channel.client(call(3, "a")), bytes)


def test_what_one_principal_sees_changes_nothing_for_another() -> None:
    gate, _ = gate_of(control("c", pattern=b"evil", catalog=withhold_evil))
    for principal, text in (("a", "evil"), ("b", "fine")):
        channel = gate.channel(server="s", principal=principal)
        channel.client(dump(id=1, method="tools/list"))
        channel.server(dump(id=1, result={"tools": [{"name": "t", "description": text}]}))
    assert isinstance(gate.channel(server="s", principal="a").client(call(2, "t")), Outcome)
    assert isinstance(gate.channel(server="s", principal="b").client(call(2, "t")), bytes)
