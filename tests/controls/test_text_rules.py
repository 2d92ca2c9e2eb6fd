"""What the text controls share, and how they get on with each other in one gate."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.config import Config
from callgate.controls.registry import build_controls
from callgate.detect import escapes, hidden
from callgate.gate.channel import Channel
from callgate.gate.engine import Gate
from callgate.text import visible
from tests.controls.harness import Answer, encoded, open_channel, send
from tests.detect.ordinary_texts import ORDINARY
from tests.gate.fakes import FakeJournal

IDS = itertools.count(10)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Channel, FakeJournal]:
    """A channel through a gate with every control."""
    journal = FakeJournal()
    gate = Gate(Config(), build_controls(Config(), tmp_path_factory.mktemp("full")), journal)  # type: ignore[arg-type]
    return gate.channel(server="s", principal="p"), journal


def result_of(full: tuple[Channel, FakeJournal], result: Any) -> Answer:
    id = next(IDS)
    call = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "t", "arguments": {}}}
    send(*full, "client", encoded(call))
    return send(*full, "server", encoded({"jsonrpc": "2.0", "id": id, "result": result}))


def text_result(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;ti\u200btle\x07x", "\\x1b]0;ti\\u200btle\\x07x"),
        ("\x1b[31m\u202e", "\\x1b[31m\\u202e"),
        ("\u200b\x1b[1m\u200b", "\\u200b\\x1b[1m\\u200b"),
        ("\x9d\u202e\x9c", "\\x9d\\u202e\\x9c"),
        (
            "\x1b]8;;https://x\u200b.example\x1b\\y\x1b]8;;\x1b\\",
            "\\x1b]8;;https://x\\u200b.example\\x1b\\y\\x1b]8;;\\x1b\\",
        ),
    ],
)
def test_both_controls_work_on_one_text(full: tuple[Channel, FakeJournal], text: str, shown: str) -> None:
    answer = result_of(full, text_result(text))
    assert answer.outcome == "rewrite"
    assert answer.forwarded["result"] == text_result(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1mred\n" * 2_100 + "a\u200bb", "\\x1b[1mred\n" * 2_100 + "a\\u200bb"),
        ("a\u200bb " * 2_100 + "\x1b[1mred", "a\\u200bb " * 2_100 + "\\x1b[1mred"),
        ("\x1b[1ma\u200bb\n" * 2_100, "\\x1b[1ma\\u200bb\n" * 2_100),
        ("\x1b]0;ti\rtle \u200b\x07", "\\x1b]0;ti\\rtle \\u200b\\x07"),
    ],
)
def test_one_control_waits_for_the_other_where_both_change_a_place(
    full: tuple[Channel, FakeJournal], text: str, shown: str
) -> None:
    answer = result_of(full, text_result(text))
    assert (answer.outcome, answer.forwarded["result"]) == ("rewrite", text_result(shown))


def test_a_member_name_is_changed_by_one_control_after_the_other(full: tuple[Channel, FakeJournal]) -> None:
    answer = result_of(full, {"content": [], "data": {"a\u200b\x1b[1mb": {"c\x07\u202e": "d\u200b\x07"}}})
    shown = {"a\\u200b\\x1b[1mb": {"c\\x07\\u202e": "d\\u200b\\x07"}}
    assert (answer.outcome, answer.forwarded["result"]) == ("rewrite", {"content": [], "data": shown})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("\x1b\x1b[]0;m\x07\x9d\x9c\u200b\u202e\U000e0041ab\\\r\n\b ❤\ufe0f\u200d")))
def test_nothing_harmful_passes_and_nothing_fails(full: tuple[Channel, FakeJournal], text: str) -> None:
    answer = result_of(full, text_result(text))
    assert answer.outcome in {"allow", "rewrite"}
    passed = answer.forwarded["result"]["content"][0]["text"]
    assert escapes.find(passed) == []
    assert [span for span in hidden.find(passed) if span.kind != "bidi-mark"] == []


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_passes_every_control(full: tuple[Channel, FakeJournal], text: str) -> None:
    answer = result_of(full, text_result(text))
    assert answer.outcome == "allow"
    assert answer.forwarded["result"] == text_result(text)


@pytest.mark.parametrize("control", ["hidden-characters", "terminal-escapes"])
def test_a_client_s_words_are_never_changed(control: str, tmp_path: Path) -> None:
    channel, journal = open_channel(control, {"action": "deny"}, tmp_path)
    arguments = {"te\u200bxt": "\x1b[31m\u202e", "list": ["\x9b1m\u2060"]}
    raw = encoded({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": arguments}})
    answer = send(channel, journal, "client", raw)
    assert answer.outcome == "annotate"
    assert answer.forwarded["params"]["arguments"] == arguments
    assert {finding.severity for finding in answer.findings} == {"info"}


def test_a_member_is_renamed_and_a_clash_is_denied(tmp_path: Path) -> None:
    channel, journal = open_channel("terminal-escapes", {"action": "remove"}, tmp_path)
    full = (channel, journal)
    answer = result_of(full, {"content": [], "structuredContent": {"a\x1b[1mb": {"c\x07": "d"}}})
    assert answer.forwarded["result"]["structuredContent"] == {"ab": {"c": "d"}}
    answer = result_of(full, {"content": [], "structuredContent": {"a\x1b[1mb": 1, "ab": 2}})
    assert answer.outcome == "deny"


@pytest.mark.parametrize("payload", ["\u202e", "\x1b]52;c;cm0=\x07"])
@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "image", "mimeType": "image/png", "data": "{}"}]},
        {"content": [{"type": "resource", "resource": {"uri": "file:///a", "blob": "{}"}}]},
        {"contents": [{"uri": "file:///a", "mimeType": "text/plain", "blob": "{}"}]},
    ],
)
def test_what_is_no_base64_in_its_place_is_text(
    full: tuple[Channel, FakeJournal], result: dict[str, Any], payload: str
) -> None:
    for said, shown in ((f"hi {payload}", visible(f"hi {payload}")), ("aGk=", "aGk="), ("aGk\r\naGk=\r\n",) * 2):
        number = next(IDS)
        method = "resources/read" if "contents" in result else "tools/call"
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": {"name": "a", "uri": "file:///a"}}
        send(*full, "client", encoded(request))
        answer = {"jsonrpc": "2.0", "id": number, "result": result}
        got = send(*full, "server", encoded(answer).replace(b'"{}"', encoded(said)))
        assert encoded(got.forwarded) == encoded(answer).replace(b'"{}"', encoded(shown))


@pytest.mark.parametrize("control", ["hidden-characters", "terminal-escapes"])
@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
def test_a_long_name_above_many_places_does_not_fill_the_memory(control: str, method: str, tmp_path: Path) -> None:
    channel, journal = open_channel(control, {}, tmp_path)
    send(channel, journal, "client", encoded({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}))
    many = {"n" * 100_000: ["\u202e\x07"] * 4_000}
    tracemalloc.start()
    got = send(channel, journal, "server", encoded({"jsonrpc": "2.0", "id": 1, "result": many}))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (got.outcome, got.rules) == ("deny", [f"control-failed/{control}"])
    assert most < 64_000_000


def test_a_long_name_above_few_places_is_no_trouble(tmp_path: Path) -> None:
    channel, journal = open_channel("hidden-characters", {}, tmp_path)
    send(channel, journal, "client", encoded({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}))
    few = {"n" * 100_000: ["\u202e"] * 40}
    got = send(channel, journal, "server", encoded({"jsonrpc": "2.0", "id": 1, "result": few}))
    assert got.forwarded["result"] == {"n" * 100_000: ["\\u202e"] * 40}


def test_findings_are_bounded(tmp_path: Path) -> None:
    channel, journal = open_channel("terminal-escapes", {}, tmp_path)
    answer = result_of((channel, journal), {"content": [{"type": "text", "text": "\x1b[1m"}] * 500})
    assert answer.outcome == "rewrite"
    assert len(answer.findings) == 51
    assert answer.findings[-1].message == "450 more places, not listed one by one"
    assert b"u001b" not in answer.data
