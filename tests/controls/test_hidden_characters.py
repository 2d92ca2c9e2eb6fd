"""hidden-characters: fixtures, every place of a message, ordinary texts, names, options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.controls import hidden_characters
from callgate.detect import hidden
from callgate.detect.automaton import Automaton
from callgate.errors import ConfigError
from tests.controls.harness import encoded, fixtures, open_channel, run, send
from tests.controls.hostile_places import LISTS, RESULTS, with_payload
from tests.detect.ordinary_texts import ORDINARY

ID = "hidden-characters"
PAYLOADS = {
    "tags": "".join(chr(0xE0000 + ord(char)) for char in "obey"),
    "override": "\u202e",
    "zero-width": "\u200b\u2060",
    "selectors": "\U000e0151\U000e0152",
}
SCAN = Automaton([(pattern.name, pattern.expression) for pattern in hidden_characters.META.patterns]).scan


def request(method: str) -> bytes:
    return encoded({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "search", "uri": "file:///a"}})


def answer(result: Any) -> bytes:
    return encoded({"jsonrpc": "2.0", "id": 1, "result": result})


def hidden_left(value: Any) -> bool:
    return any(payload in json.dumps(value, ensure_ascii=False) for payload in PAYLOADS.values())


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
        assert all(finding.pointer.startswith(f"/result/{member}/0/") for finding in got.findings), place


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
        assert not hidden_left(got.forwarded), place
        if action == "remove" and " (name)" not in place:
            assert got.forwarded["result"] == RESULTS[method], place


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_passes_unchanged(text: str, tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {}, tmp_path)
    raw = orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}})
    send(channel, journal, "client", request("tools/call"))
    got = send(channel, journal, "server", raw)
    assert (got.outcome, got.data) == ("allow", raw)


@given(
    st.text(
        st.one_of(st.characters(), st.sampled_from("❤©—\u2060\u200d\u200b\ufe0f\ufe0e\ufe00\u00ad#1あ漢\U000e0100"))
    )
)
@settings(max_examples=500)
def test_the_patterns_miss_nothing_that_the_detector_finds(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    if hidden.find(text, strict=True):
        assert SCAN(orjson.dumps({"text": text}))


@pytest.mark.parametrize(
    "before", ["a", "#", "é", "©", "—", "‼", "→", "ⴀ", "あ", "〰", "漢", "豈", "\U0001fb00", "😀", "\U00010000"]
)
def test_every_hidden_character_is_hit_after(before: str) -> None:
    for code in (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE1000)):
        text = before + chr(code)
        if hidden.find(text, strict=True):
            assert SCAN(orjson.dumps(text)), ascii(text)


@pytest.mark.parametrize("name", ["emoji-presentation", "keycaps", "flags", "chinese", "source-code", "windows-log"])
def test_common_texts_do_not_even_wake_the_control(name: str) -> None:
    assert SCAN(orjson.dumps({"text": ORDINARY[name]})) == ()


def test_observe_passes_and_says_what_it_would_do(tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {}, tmp_path, mode="observe")
    raw = answer({"content": [{"type": "text", "text": "a\u202eb"}]})
    send(channel, journal, "client", request("tools/call"))
    got = send(channel, journal, "server", raw)
    assert (got.outcome, got.data) == ("would-rewrite", raw)


def test_findings_name_the_tool_and_the_payload(tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {}, tmp_path)
    send(channel, journal, "client", request("tools/list"))
    tool = {"name": "add\x1b", "description": "Adds." + PAYLOADS["tags"], "inputSchema": {"type": "object"}}
    (finding,) = send(channel, journal, "server", answer({"tools": [tool]})).findings
    assert finding.message == ('tool "add\\x1b" is withheld: invisible tag characters in the text, spelling "obey"')
    assert finding.pointer == "/result/tools/0/description"
    assert finding.severity == "critical"
    assert finding.evidence.isascii()
    assert finding.evidence.startswith("Adds.\\U000e006f")


def test_names_can_be_noted_only(tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {"names": "annotate"}, tmp_path)
    send(channel, journal, "client", request("tools/list"))
    raw = answer({"tools": [{"name": "p\u0430ypal", "inputSchema": {"type": "object"}}]})
    got = send(channel, journal, "server", raw)
    assert (got.outcome, got.rules) == ("annotate", ["hidden-characters/confusable-name"])
    assert got.forwarded == json.loads(raw)


def test_a_message_with_very_many_places_is_made_harmless_whole(tmp_path: Path) -> None:
    channel, journal = open_channel(ID, {"action": "remove"}, tmp_path)
    send(channel, journal, "client", request("tools/call"))
    content = [{"type": "text", "text": "a\u200bb" * 3000} for _ in range(15)]
    got = send(channel, journal, "server", answer({"content": content}))
    assert got.outcome == "rewrite"
    assert all(block["text"] == "ab" * 3000 for block in got.forwarded["result"]["content"])
    assert len(got.findings) <= 51


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "ignore"}, "controls.hidden-characters.action: must be one of escape, remove, deny"),
        ({"names": True}, "controls.hidden-characters.names: must be one of withhold, annotate"),
        ({"colour": 1}, "controls.hidden-characters.colour: unknown key; known here: mode, action, names"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        hidden_characters.build(options)
    assert error.value.what == message
