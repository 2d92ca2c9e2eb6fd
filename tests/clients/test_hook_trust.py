"""Whether Codex runs callgate's hook, from what that client itself wrote down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callgate.clients.hook_entries import entries
from callgate.clients.hook_survey import survey
from callgate.clients.hook_trust import codex_trust, state_key, trusted_hash
from callgate.clients.machine import Machine

SEEN = "sha256:85368b9fbed9137e2c5d9424f30b87b1ba1adf9b41d5677faf2e5951d030df8b"
COMMAND = "/opt/bin/callgate hook codex --state /home/me/state"


def hooks(*before: Any, **changed: Any) -> dict[str, Any]:
    group = entries("codex", COMMAND)["PreToolUse"]
    handler = {**group["hooks"][0], **changed}
    return {"hooks": {"PreToolUse": [*before, {**group, "hooks": [handler]}]}}


class Home:
    """A home in which Codex wrote what it trusts."""

    def __init__(self, path: Path) -> None:
        self.machine = Machine("linux", str(path), {})
        self.hooks = str(path / ".codex/hooks.json")
        self.settings = path / ".codex/config.toml"
        self.settings.parent.mkdir()

    def wrote(self, group: int = 0, *, more: str = "", hash_: str = "", path: str = "") -> None:
        ours = entries("codex", COMMAND)["PreToolUse"]
        name = json.dumps(state_key(path or self.hooks, group, 0))
        hash_ = hash_ or trusted_hash(ours, ours["hooks"][0])
        self.settings.write_text(f'[hooks.state]\n\n[hooks.state.{name}]\ntrusted_hash = "{hash_}"\n{more}')

    def trust(self, document: Any) -> str:
        return codex_trust(self.machine, self.hooks, document)


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_hash_is_the_one_that_the_client_writes() -> None:
    """Written by Codex 0.169.0 when its user trusted this entry."""
    handler = {"type": "command", "command": COMMAND, "timeout": 10}
    assert trusted_hash({"matcher": "*"}, handler) == SEEN


def test_trusted(home: Home) -> None:
    home.wrote()
    assert home.trust(hooks()) == "trusted"
    home.wrote(1)
    assert home.trust(hooks({"matcher": "Bash", "hooks": []})) == "trusted"


@pytest.mark.parametrize("text", ["", "[hooks.state]\n", "[hooks]\nstate = 5\n", "[features]\nhooks = true\n"])
def test_not_trusted(text: str, home: Home) -> None:
    assert home.trust(hooks()) == "not trusted"
    home.settings.write_text(text)
    assert home.trust(hooks()) == "not trusted"


def test_trusted_at_another_place_is_not_trusted(home: Home) -> None:
    home.wrote(1)
    assert home.trust(hooks()) == "not trusted"
    home.wrote(path="/elsewhere/hooks.json")
    assert home.trust(hooks()) == "not trusted"


def test_changed_since(home: Home) -> None:
    home.wrote()
    assert home.trust(hooks(timeout=11)) == "changed since it was trusted"
    home.wrote(hash_="sha256:00")
    assert home.trust(hooks()) == "changed since it was trusted"


def test_switched_off(home: Home) -> None:
    home.wrote(more="enabled = false\n")
    assert home.trust(hooks()) == "switched off"
    home.wrote(more="enabled = true\n")
    assert home.trust(hooks()) == "trusted"
    home.wrote(more="[features]\nhooks = false\n")
    assert home.trust(hooks()) == "switched off"


def test_settings_that_do_not_parse(home: Home) -> None:
    home.settings.write_text("= broken")
    assert home.trust(hooks()) == "not readable"


def test_a_survey_says_it(home: Home, tmp_path: Path) -> None:
    launcher = ("/opt/bin/callgate",)
    Path(home.hooks).write_text(json.dumps(hooks()))
    (found,) = survey(home.machine, ("codex",), launcher, Path("/home/me/state"))
    assert (found.state, found.detail) == ("not run", "not trusted")
    home.wrote()
    (found,) = survey(home.machine, ("codex",), launcher, Path("/home/me/state"))
    assert (found.state, found.detail) == ("installed", "")
