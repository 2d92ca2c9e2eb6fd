"""The pages of these controls say what the code does."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from callgate.config import Limits
from callgate.config.document import parse
from callgate.controls import hidden_characters, message_limits, terminal_escapes
from callgate.controls.registry import METAS, build_controls
from tests.controls.harness import encoded, open_channel, send

PAGES = Path(__file__).parents[2] / "docs" / "controls"


def page(id: str) -> str:
    return (PAGES / f"{id}.md").read_text()


def blocks(id: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page(id), re.DOTALL)


@pytest.mark.parametrize(
    ("id", "kinds"),
    [
        ("hidden-characters", {*hidden_characters._PHRASES, "confusable-name", "colliding-names"}),
        ("terminal-escapes", set(terminal_escapes._PHRASES)),
    ],
)
def test_every_rule_is_listed_with_its_severity(id: str, kinds: set[str]) -> None:
    listed: dict[str, str] = {}
    for names, severity in re.findall(r"^\| (`[^|]*`) \| (\w+)", page(id), re.MULTILINE):
        for name in re.findall(r"/([a-z0-9-]+)`", names):
            listed[name] = severity
    assert listed.keys() == kinds
    severities = (hidden_characters if id == "hidden-characters" else terminal_escapes)._rule().severities
    assert severities.items() <= listed.items()


def test_every_refusal_is_listed() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| `([a-z-]+)` \| (\w+) \|$", page("message-limits"), re.MULTILINE)
    assert {rule: (risk, severity) for rule, risk, severity in rows} == message_limits.REFUSALS


def test_the_limits_shown_are_the_defaults() -> None:
    (block,) = blocks("message-limits", "toml")
    assert tomllib.loads(block)["limits"] == asdict(Limits())


@pytest.mark.parametrize("id", ["hidden-characters", "terminal-escapes", "message-limits"])
def test_settings_shown_are_valid_and_the_risks_linked(id: str, tmp_path: Path) -> None:
    for block in blocks(id, "toml"):
        build_controls(parse(tomllib.loads(block)), tmp_path)
    meta = next(meta for meta in METAS if meta.id == id)
    assert set(re.findall(r"\.\./risks\.md#([a-z-]+)", page(id))) == set(meta.risks)


def answered(id: str, text: str, tmp_path: Path, **options: Any) -> Any:
    channel, journal = open_channel(id, options, tmp_path)
    send(
        channel,
        journal,
        "client",
        encoded({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}),
    )
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}
    return send(channel, journal, "server", encoded(answer)).forwarded["result"]


def test_the_example_of_hidden_characters(tmp_path: Path) -> None:
    (shown,) = blocks("hidden-characters", "json")
    assert answered("hidden-characters", "invoice_\u202efdp.exe", tmp_path) == json.loads(shown)


def test_the_example_of_terminal_escapes(tmp_path: Path) -> None:
    shown, removed = blocks("terminal-escapes", "json")[0].splitlines()
    text = "done\x1b]52;c;cm0gLXJmIH4=\x07"
    assert answered("terminal-escapes", text, tmp_path) == json.loads(shown)
    assert answered("terminal-escapes", text, tmp_path, action="remove") == json.loads(removed)


def test_the_example_of_message_limits(tmp_path: Path) -> None:
    request, reply = (line[2:] for line in blocks("message-limits", "")[0].splitlines() if line[:1] in "→←")
    channel, _ = open_channel("message-limits", {}, tmp_path)
    outcome = channel.client(request.encode())
    assert not isinstance(outcome, bytes)
    assert outcome.reply == reply.encode()
