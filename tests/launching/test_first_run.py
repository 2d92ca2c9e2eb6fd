"""What the gateway serves is pinned before it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.config.document import parse
from callgate.errors import TrustError
from callgate.launching import first_run


def test_only_what_fetches_and_is_confined_and_a_failure_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def pinning(_config: object, name: str, *_: object) -> None:
        asked.append(name)
        if name == "a":
            raise TrustError("no release is old enough\x1b[31m")

    monkeypatch.setattr("callgate.launching.pinned.pinning", pinning)
    servers = {
        "a": {"command": ["npx", "-y", "a"]},
        "b": {"command": ["uvx", "b"]},
        "local": {"command": ["node", "x.js"]},
        "free": {"command": ["npx", "-y", "free"], "sandbox": {"backend": "none"}},
        "far": {"url": "https://mcp.example.com/mcp"},
    }
    first_run.pin_served(parse({"servers": servers}), tmp_path)
    assert asked == ["a", "b"]
    said = capsys.readouterr().err
    assert "a: no release is old enough" in said and "\x1b" not in said
