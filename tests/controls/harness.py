"""Run a fixture, a whole message with what is expected of it, through a real gate with one control."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callgate.config import Config, ControlConfig
from callgate.controls.registry import REGISTRY
from callgate.gate.channel import Channel
from callgate.gate.engine import Gate
from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import Finding
from tests.gate.fakes import FakeJournal

FIXTURES = Path(__file__).parent / "fixtures"
KINDS = ("attack", "benign", "near_miss")


@dataclass
class Answer:
    """What the gate made of the last message."""

    outcome: str
    findings: tuple[Finding, ...]
    forwarded: Any
    data: bytes

    @property
    def rules(self) -> list[str]:
        return sorted({finding.rule for finding in self.findings})


def fixtures(control: str) -> list[Any]:
    """All fixtures of a control, as pytest parameters."""
    import pytest

    return [
        pytest.param(path, id=f"{kind}/{path.stem}")
        for kind in KINDS
        for path in sorted((FIXTURES / control / kind).glob("*.json"))
    ]


def open_channel(
    control: str, options: dict[str, Any], state: Path, mode: str = "enforce"
) -> tuple[Channel, FakeJournal]:
    """A channel through a gate with one control."""
    journal = FakeJournal()
    config = Config(mode=mode, controls={control: ControlConfig(options=options)})  # type: ignore[arg-type]
    gate = Gate(config, [REGISTRY[control][1](options, state)], journal)  # type: ignore[arg-type]
    return gate.channel(server="s", principal="p"), journal


def send(channel: Channel, journal: FakeJournal, direction: str, raw: bytes) -> Answer:
    """Pass one message and see what became of it."""
    before = len(journal.decisions)
    result = channel.client(raw) if direction == "client" else channel.server(raw)
    data = result.forward if isinstance(result, Outcome) else result
    fields = journal.decisions[before]
    return Answer(fields[7], tuple(fields[8]), json.loads(data) if data else None, data or b"")


def encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def run(control: str, path: Path, state: Path) -> None:
    """Play the fixture and compare."""
    fixture = json.loads(path.read_text())
    channel, journal = open_channel(control, fixture.get("options", {}), state)
    for step in fixture.get("before", ()):
        ((direction, message),) = step.items()
        assert send(channel, journal, direction, encoded(message)).outcome == "allow"
    step = fixture["message"]
    if "text" in step:
        direction, raw = step["direction"], step["text"].encode("utf-8", "surrogatepass")
    else:
        ((direction, message),) = step.items()
        raw = encoded(message)
    answer = send(channel, journal, direction, raw)
    expected = fixture["expect"]
    assert answer.outcome == expected["outcome"]
    assert answer.rules == sorted(expected.get("rules", []))
    if "forwarded" not in expected:
        assert answer.data == raw
    elif expected["forwarded"] is not None:
        assert answer.forwarded == expected["forwarded"]
    else:
        assert raw not in answer.data
