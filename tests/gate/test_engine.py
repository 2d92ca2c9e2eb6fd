"""Verdicts compose, failures deny, observe mode only notes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from callgate.config import ControlConfig
from callgate.gate.verdicts import ALLOW, Annotate, Ask, Deny, Finding, Remove, ReplaceValue, Rewrite
from callgate.gate.watchdog import BUSY_S, INTERVAL_S, WATCHDOG
from tests.gate.fakes import control, gate_of

FINDING = Finding("x/y", "tool-poisoning", "found")


def decide(*controls: Any, mode: str = "enforce", hook: str = "call", **config: Any) -> Any:
    gate, _ = gate_of(*controls, mode=mode, **config)
    try:
        return gate.decide(gate.always[hook], None, mode)  # type: ignore[index,arg-type]
    finally:
        gate.close()


def says(verdict: Any, name: str = "c") -> Any:
    return control(name, call=lambda event: verdict)


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([ALLOW], "allow"),
        ([Annotate((FINDING,))], "annotate"),
        ([Annotate(()), Rewrite((Remove("/a"),))], "rewrite"),
        ([Rewrite((Remove("/a"),)), Annotate(())], "rewrite"),
        ([Rewrite((Remove("/a"),)), Ask("s")], "ask"),
        ([Ask("s"), Rewrite((Remove("/a"),))], "ask"),
        ([Ask("s"), Deny("no")], "deny"),
        ([Deny("no"), Ask("s")], "deny"),
        ([ALLOW, Deny("no"), ALLOW], "deny"),
    ],
)
def test_composition(verdicts: list[Any], outcome: str) -> None:
    controls = [says(verdict, f"c{number}") for number, verdict in enumerate(verdicts)]
    assert decide(*controls).outcome == outcome


def test_findings_edits_and_labels_of_all_controls_are_kept() -> None:
    decision = decide(
        says(Annotate((FINDING,), frozenset({"tainted"})), "a"),
        says(Rewrite((Remove("/a"),), (FINDING,)), "b"),
        says(Rewrite((ReplaceValue("/b", 1),)), "c"),
    )
    assert len(decision.findings) == 2
    assert len(decision.edits) == 2
    assert decision.labels == {"tainted"}


def test_first_denial_gives_the_reason() -> None:
    decision = decide(says(Deny("first", (FINDING,)), "a"), says(Deny("second"), "b"))
    assert (decision.reason, decision.rule) == ("first", "x/y")


def raises(event: Any) -> Any:
    raise KeyError("secret value 12345")


def sleeps(event: Any) -> Any:
    time.sleep(30)


def spins(event: Any) -> Any:
    while True:
        try:
            time.perf_counter()
        except Exception:  # noqa: BLE001 - a hostile swallow: must not save the control
            continue


@pytest.mark.parametrize("hook", [raises, lambda e: None, lambda e: True, lambda e: "allow", lambda e: Allowish()])
def test_a_control_that_raises_or_returns_rubbish_denies(hook: Any) -> None:
    decision = decide(control("bad", call=hook))
    assert decision.outcome == "deny"
    assert decision.rule == "control-failed/bad"
    assert "12345" not in decision.reason + repr(decision.findings)


class Allowish:
    """Looks like a verdict and is none."""


@pytest.mark.parametrize("hook", [sleeps, spins])
def test_a_control_that_hangs_is_interrupted_and_denies(hook: Any) -> None:
    started = time.monotonic()
    decision = decide(control("slow", call=hook), says(ALLOW, "after"))
    assert decision.outcome == "deny"
    assert "in time" in decision.reason
    assert time.monotonic() - started < 25  # a sleep of 30 seconds was not waited for


def test_a_control_that_is_merely_slow_to_be_scheduled_is_let_be() -> None:
    """A second of waiting is what a loaded machine does to anybody."""

    def waits(event: Any) -> Any:
        time.sleep(1.2)
        return ALLOW

    assert decide(control("waits", call=waits)).outcome == "allow"


def test_the_watchdog_sleeps_when_nothing_happens() -> None:
    gate, _ = gate_of(says(ALLOW))
    gate.decide(gate.always["call"], None, "enforce")  # type: ignore[arg-type]
    assert gate.watchdog.armed
    deadline = time.monotonic() + 30
    while gate.watchdog.armed and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not gate.watchdog.armed


def elsewhere(hook: Any) -> threading.Thread:
    thread = threading.Thread(target=decide, args=(control("slow", call=hook),))
    thread.start()
    return thread


def test_a_decision_on_another_thread_leaves_the_watchdog_usable() -> None:
    """Only the main thread has a watchdog; what others decide must not cost it that."""
    elsewhere(lambda event: ALLOW).join()
    assert decide(control("slow", call=spins)).rule == "control-failed/slow"


def test_a_control_that_hangs_on_another_thread_interrupts_nothing_of_the_main_thread() -> None:
    entered, ended = threading.Event(), threading.Event()

    def hangs(event: Any) -> Any:
        entered.set()
        ended.wait()
        return ALLOW

    thread = elsewhere(hangs)
    try:
        assert entered.wait(60)
        WATCHDOG.arm()
        begun, computed = time.monotonic(), time.thread_time()
        while time.thread_time() - computed < 3 * BUSY_S or time.monotonic() - begun < 4 * INTERVAL_S:
            assert WATCHDOG.armed and WATCHDOG.busy
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(("verdict", "outcome"), [(Deny("no"), "would-deny"), (Rewrite(()), "would-rewrite")])
def test_observe_only_notes(verdict: Any, outcome: str) -> None:
    decision = decide(says(verdict), mode="observe")
    assert decision.outcome == outcome
    assert not decision.edits


def test_observe_notes_a_failing_control_and_passes() -> None:
    assert decide(control("bad", call=raises), mode="observe").outcome == "error"


def test_a_control_may_observe_while_the_gate_enforces_and_the_reverse() -> None:
    assert decide(says(Deny("no")), controls={"c": ControlConfig(mode="observe")}).outcome == "would-deny"
    assert decide(says(Deny("no")), mode="observe", controls={"c": ControlConfig(mode="enforce")}).outcome == "deny"


def test_a_declared_hook_must_exist_and_the_reverse() -> None:
    broken = control("c", call=lambda e: ALLOW)
    broken.meta = type(broken.meta)(id="c", title="c", risks=(), since="0.1.0", always=frozenset({"call", "content"}))
    with pytest.raises(ValueError, match="content"):
        gate_of(broken)


def test_controls_with_patterns_are_asked_only_on_a_hit() -> None:
    gate, _ = gate_of(control("p", pattern=b"evil", content=lambda e: Deny("evil")))
    assert gate.asked("content", ()) == ()
    hits = gate.automaton.scan(b'{"a":"evil"}')
    assert [bound.control for bound in gate.asked("content", hits)] == ["p"]
    assert gate.asked("call", hits) == ()
