"""Credentials that go into a store when an entry is wrapped, and come back when it is unwrapped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.clients.tree import is_reference
from callgate.clients.url_parts import filled
from tests.clients import documents
from tests.clients.roundtrip import GATE, MARK, Desk, TemporaryDesk

BETWEEN = r"""{"mcpServers": {"s": {
  "command": "npx", // c
  "env": {"TOKEN": "hunter2\u002d\/x", "LEVEL": "debug", "REF": "vault://kv/a#b", "ASK": "${input:hunter2}", "OWN": "$HUNTER_hunter2"},
  "args": ["-y", "pkg"]
}}}
"""


def env(desk: Desk, server: str = "s") -> Any:
    return json.loads(desk.text.replace("// c", ""))["mcpServers"][server]["env"]


def test_what_is_moved_and_what_is_not(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "cursor")
    desk.write(BETWEEN)
    plan = desk.install(moving=True)
    assert env(desk) == {
        "TOKEN": "keyring://callgate/s/TOKEN",
        "LEVEL": "debug",
        "REF": "vault://kv/a#b",
        "ASK": "${input:hunter2}",
        "OWN": "$HUNTER_hunter2",
    }
    assert desk.store.values == {"keyring://callgate/s/TOKEN": "hunter2-/x"}
    (step,) = plan.steps
    handed = "hands it the secret vault://kv/a#b, as REF says"
    assert step.notes == ("moves TOKEN to keyring://callgate/s/TOKEN", handed)
    assert (step.gate_name, step.command) == ("s", ("npx", "-y", "pkg"))
    (record,) = desk.records.all()
    assert "hunter2-" not in json.dumps(asdict(record)) and "hunter2\\u002d" not in record.before_text
    assert "hunter2\\u002d" not in plan.kept_text
    assert plan.kept_text.replace("keyring://callgate/s/TOKEN", r"hunter2\u002d\/x") == BETWEEN
    assert [step.notes for step in desk.uninstall().steps] == [("puts TOKEN back from keyring://callgate/s/TOKEN",)]
    assert desk.text == BETWEEN


def test_a_diff_shows_the_reference_and_never_the_value(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "cursor")
    desk.write(BETWEEN)
    shown = "\n".join(desk.install(moving=True).diff())
    assert "keyring://callgate/s/TOKEN" in shown
    assert "hunter2\\" not in shown


def test_a_store_that_lost_it_refuses_that_entry_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "cursor")
    text = json.dumps({"mcpServers": {n: {"command": n, "env": {"K": "hunter2" + n}} for n in "ab"}}, indent=1)
    desk.write(text)
    desk.install(moving=True)
    lost = desk.store.values.pop("keyring://callgate/a/K")
    steps = {step.server: step for step in desk.uninstall().steps}
    assert (steps["a"].action, steps["b"].action) == ("refused", "unwrap")
    assert "keyring://callgate/a/K" in steps["a"].detail
    assert env(desk, "b") == {"K": "hunter2b"}
    assert env(desk, "a") == {"K": "keyring://callgate/a/K"}
    desk.store.keep("keyring://callgate/a/K", lost)
    desk.uninstall()
    assert desk.text == text


def test_a_moved_entry_is_renewed_when_callgate_moves(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "cursor")
    desk.write(BETWEEN)
    desk.install((str(tmp_path / "gone" / "callgate"),), moving=True)
    assert [step.action for step in desk.install(moving=True).steps] == ["wrap"]
    assert GATE in desk.text
    assert env(desk)["TOKEN"] == "keyring://callgate/s/TOKEN"
    desk.uninstall()
    assert desk.text == BETWEEN


def test_edits_beside_are_kept(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "cursor")
    entry = {"command": "x", "args": [], "env": {"A": "hunter2a", "B": "hunter2b"}}
    desk.write(json.dumps({"mcpServers": {"s": entry}}))
    desk.install(moving=True)
    now = json.loads(desk.text)
    now["mcpServers"]["s"]["env"]["B"] = "mine"
    desk.write(json.dumps(now))
    assert [step.action for step in desk.uninstall().steps] == ["refused"]
    assert [step.action for step in desk.uninstall(keep_edits=True).steps] == ["unwrap"]
    assert json.loads(desk.text)["mcpServers"]["s"] == {**entry, "env": {"A": "hunter2a", "B": "mine"}}


def test_an_interrupted_install_leaves_the_entry_as_it_was(tmp_path: Path) -> None:
    """The record is written, the file is not: the next uninstall drops the record, and asks no store."""
    desk = Desk(tmp_path, "cursor")
    desk.write(BETWEEN)
    desk.install(moving=True)
    desk.write(BETWEEN)
    desk.store.values.clear()
    assert [step.action for step in desk.uninstall().steps] == ["already"]
    assert desk.text == BETWEEN
    assert desk.records.all() == []


def test_what_cannot_be_put_back_exactly_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "goose")
    text = "extensions:\n  s:\n    cmd: x\n    envs:\n      T: >-\n        hunter2\n        folded\n      U: hunter2u\n"
    desk.write(text)
    (step,) = desk.install(moving=True).steps
    assert step.notes[0].startswith("moves U to ")
    assert step.notes[1].startswith("leaves T in the file")
    desk.uninstall()
    assert desk.text == text


@pytest.mark.parametrize(
    ("client", "text", "names"),
    [
        ("codex", '[mcp_servers.s]\ncommand = "x"\nenv_vars = ["A", "B"]\n[mcp_servers.s.env]\nC = "1"\n', "CAB"),
        ("codex", '[mcp_servers.s]\ncommand = "x"\nenv_vars = [{ name = "A", source = "remote" }]\n', "A"),
        ("goose", "extensions:\n  s:\n    cmd: x\n    env_keys: [A]\n    envs: {B: b}\n", "BA"),
        ("opencode", '{"mcp": {"s": {"command": ["x"], "environment": {"A": "1"}, "env": {"B": "1"}}}}', "A"),
        ("cursor", '{"mcpServers": {"s": {"command": "x", "env": {}}}}', ""),
        ("cursor", '{"mcpServers": {"s": {"command": "x", "env": null}}}', ""),
    ],
)
def test_variables_are_named_for_the_sandbox(client: str, text: str, names: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, client)
    desk.write(text)
    (step,) = desk.install().steps
    assert step.action == "wrap", step
    command = " ".join(desk.records.all()[0].after_text.replace('"', " ").replace(",", " ").split())
    assert [word for word in command.split() if len(word) == 1 and word.isupper()] == list(names)
    desk.uninstall()
    assert desk.text == text


@pytest.mark.parametrize("name", ["", "A=B", "A\nB", "--"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, "cursor")
    desk.write(json.dumps({"mcpServers": {"s": {"command": "x", "env": {name: "1"}}}}))
    assert [step.action for step in desk.install().steps] == ["refused"]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("keyring://a/b", True),
        ("op://vault/item/field", True),
        ("https://user:pw@x", False),
        ("keyring://", False),
        ("keyring:a", False),
        ("xkeyring://a", False),
    ],
)
def test_references(text: str, is_one: bool) -> None:
    assert is_reference(text) == is_one


_PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["token", "key", "a b", "é", "x=y", ""]),
        st.one_of(documents.VALUES, st.sampled_from(["<age://x>", "a#b", "100%", "%zz", "a&b", "++"])),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda pair: pair[0],
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(_PAIRS, st.sampled_from(["cursor", "codex", "goose", "opencode"]), st.sampled_from(["", "#part", "&"]))
def test_credentials_in_urls_go_and_come_back(pairs: list[tuple[str, str, bool]], client: str, tail: str) -> None:
    query = "&".join(f"{quote(name)}={quote(value, safe='') if encoded else value}" for name, value, encoded in pairs)
    url = f"https://h.example/mcp?{query}{tail}"
    text = {
        "cursor": lambda: json.dumps({"mcpServers": {"a": {"url": url}}}, ensure_ascii=False),
        "codex": lambda: f"[mcp_servers.a]\nurl = {json.dumps(url, ensure_ascii=False)} # c\n",
        "goose": lambda: f"extensions:\n  a:\n    uri: {json.dumps(url, ensure_ascii=False)}   # c\n",
        "opencode": lambda: json.dumps({"mcp": {"a": {"type": "remote", "url": url}}}, ensure_ascii=False, indent=1),
    }[client]()
    with TemporaryDesk(client) as desk:
        desk.write(text)
        plan = desk.install(moving=True)
        if any("${" in value or value[:1] == "$" for _, value, _ in pairs) and not plan.add:
            # The client fills it in, which would be on a command line.
            assert [step.action for step in plan.steps] == ["left"]
            assert desk.text == text
            return
        assert [step.action for step in plan.steps] == ["wrap"]
        for move in plan.moves:
            for part in move.parts:
                assert MARK in part.value
                assert desk.store.values[part.reference] == part.value
        if plan.moves:
            assert filled(plan.moves[0].reference, desk.store.fetch) == url
        assert {step.action for step in desk.install(moving=True).steps} == {"already"}
        desk.uninstall()
        assert desk.text == text
