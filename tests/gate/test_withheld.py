"""What was withheld before a reload cannot be called by name after it."""

from __future__ import annotations

from typing import Any

import pytest

from callgate.config import ControlConfig, ServerConfig
from callgate.gate import withheld
from callgate.gate.channel import Channel
from callgate.gate.engine import Gate
from callgate.gate.outcome import Outcome
from callgate.gate.withheld import carry_over
from tests.gate.fakes import control, gate_of
from tests.gate.messages import call, dump, joined_description, withhold_evil

SERVED = {name: ServerConfig(name, url="http://127.0.0.1:1/mcp") for name in ("s", "t")}


def gate(mode: str = "enforce", **config: Any) -> Gate:
    config.setdefault("servers", SERVED)
    return gate_of(control("c", pattern=b"evil", catalog=withhold_evil), mode=mode, **config)[0]


def opened(gate: Gate, server: str = "s", principal: str = "p") -> Channel:
    return gate.channel(server=server, principal=principal)


def asks(channel: Channel) -> None:
    assert isinstance(channel.client(dump(id=1, method="tools/list")), bytes)


def hears(channel: Channel, description: str) -> None:
    channel.server(dump(id=1, result={"tools": [{"name": "b", "description": description}]}))


def lists(channel: Channel, description: str) -> None:
    asks(channel)
    hears(channel, description)


def passes(channel: Channel, name: str = "b") -> bool:
    return not isinstance(channel.client(call(9, name)), Outcome)


def test_a_name_stays_withheld_behind_the_next_gate_until_a_list_shows_it() -> None:
    first, second, third = gate(), gate(), gate()
    lists(opened(first), "evil")
    carry_over(first, second)
    carry_over(second, third)
    assert not passes(opened(third)), "a caller that never lists again"
    assert passes(opened(third), "a")
    assert passes(opened(third, "t")), "another server's tool of that name"
    assert passes(opened(third, principal="q")), "nothing is known of what another caller would be shown"
    lists(opened(third), "evil still")
    assert not passes(opened(third))
    lists(opened(third), "fine now")
    assert passes(opened(third))


def test_a_list_asked_for_before_the_reload_still_teaches_the_next_gate() -> None:
    first, second, third = gate(), gate(), gate()
    late = opened(first)
    asks(late)
    carry_over(first, second)
    carry_over(second, third)
    hears(late, "evil")
    assert not passes(opened(third))


def test_what_the_old_rules_let_pass_late_clears_nothing_under_the_new_ones() -> None:
    first, second = gate(), gate()
    lists(opened(first), "evil")
    late = opened(first)
    asks(late)
    carry_over(first, second)
    hears(late, "fine now")
    assert not passes(opened(second))


@pytest.mark.parametrize(
    "later",
    [
        {"mode": "observe"},
        {"servers": {**SERVED, "s": ServerConfig("s", url="http://127.0.0.1:1/mcp", mode="observe")}},
        {"controls": {"c": ControlConfig("observe")}},
        {"servers": {"t": SERVED["t"]}},
    ],
)
def test_nothing_is_carried_to_where_it_would_not_be_withheld(later: dict[str, Any]) -> None:
    first, second = gate(), gate(**later)
    lists(opened(first), "evil")
    carry_over(first, second)
    assert passes(opened(second))
    assert not second.withheld.names, "and no call pays for it"


def test_a_control_that_was_turned_off_withholds_nothing_any_more() -> None:
    first, second = gate(), gate_of(servers=SERVED)[0]
    lists(opened(first), "evil")
    carry_over(first, second)
    assert passes(opened(second))


def test_a_control_that_enforces_where_the_gate_observes_goes_on_withholding() -> None:
    first, second = gate(), gate("observe", controls={"c": ControlConfig("enforce")})
    lists(opened(first), "evil")
    carry_over(first, second)
    assert not passes(opened(second))


def test_a_server_that_fills_its_room_takes_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withheld, "MOST", 3)
    first, second = gate(), gate()
    channel = opened(first)
    asks(channel)
    many = [{"name": f"b{number}", "description": "evil"} for number in range(9)]
    channel.server(dump(id=1, result={"tools": many}))
    lists(opened(first, "t"), "evil")
    carry_over(first, second)
    assert [passes(opened(second), f"b{number}") for number in range(4)] == [False, False, False, True]
    assert not passes(opened(second, "t"))
    asks(channel := opened(second))
    channel.server(dump(id=1, result={"tools": [{"name": "b0"}, {"name": "b8", "description": "evil"}]}))
    assert (passes(opened(second), "b0"), passes(opened(second), "b8")) == (True, False), "what was shown makes room"


def test_what_other_workers_say_counts_like_what_was_seen() -> None:
    first = gate()
    told: list[tuple[withheld.Key, str]] = []
    first.withheld.share(lambda key, rule: told.append((key, rule)), withheld.withholds(first))
    key = ("s", "p", "tools/call", "b")
    first.withheld.heard(key, "c/evil")
    assert not passes(opened(first)) and told == []
    first.withheld.heard(("s", "p", "tools/call", "d"), "off/evil")
    first.withheld.heard(("gone", "p", "tools/call", "d"), "c/evil")
    assert len(first.withheld.names) == 1, "by a control or of a server that this gate does not have"
    lists(opened(first), "fine now")
    assert passes(opened(first)) and told == [(key, "")]
    lists(opened(first), "evil")
    assert told[1:] == [(key, "c/evil")]
    second = gate()
    carry_over(first, second)
    second.withheld.share(lambda key, rule: told.append((key, f"second {rule}")), withheld.withholds(second))
    lists(opened(first), "fine now")
    assert len(told) == 2, "what the old rules show is no news for the others"
    lists(opened(first), "evil")
    assert told[2:] == [(key, "second c/evil")]


@pytest.mark.parametrize("descriptions", [("evil", "fine"), ("fine", "evil")])
def test_a_name_that_is_listed_twice_is_withheld_where_one_of_them_is(descriptions: tuple[str, str]) -> None:
    channel = opened(gate())
    asks(channel)
    channel.server(dump(id=1, result={"tools": [{"name": "b", "description": text} for text in descriptions]}))
    assert not passes(channel)


def test_what_only_the_second_look_takes_out_is_given_back_at_no_moment() -> None:
    joiner = control("j", pattern=b"_", catalog=joined_description)
    made, _ = gate_of(joiner, control("c", pattern=b"evil", catalog=withhold_evil), servers=SERVED)
    told: list[str] = []
    made.withheld.share(lambda key, rule: told.append(rule), withheld.withholds(made))
    for _ in range(2):
        lists(opened(made), "ev_il")
    assert told == ["c/evil", "c/evil"]
