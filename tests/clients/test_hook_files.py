"""Hook entries: put in and taken out byte for byte, found again, and judged."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.clients import hook_files
from callgate.clients.formats import parse
from callgate.clients.hook_entries import is_ours, plain
from callgate.clients.hook_files import HookPlan, HookRecords, plan_add, plan_remove
from callgate.clients.hook_survey import HookState, survey
from callgate.clients.hook_trust import state_key, trusted_hash
from callgate.clients.machine import Machine
from callgate.clients.surroundings import HOOK_FILES
from callgate.clients.tree import Canonical, ClientFileError, canonical

LAUNCHER = ("/opt/call gate/bin/callgate",)
CLIENTS = tuple(HOOK_FILES)


class Home:
    """A home directory with one client's file, and a state directory."""

    def __init__(self, folder: Path, client: str) -> None:
        self.client = client
        self.machine = Machine("linux", str(folder), {})
        self.file = Path(self.machine.expand(HOOK_FILES[client]))
        self.file.parent.mkdir(parents=True)
        self.state = folder / "state"
        self.state.mkdir()

    def write(self, text: str) -> None:
        self.file.write_bytes(text.encode())

    @property
    def text(self) -> str:
        return self.file.read_bytes().decode()

    def value(self) -> Canonical:
        return canonical(parse("json", self.text.removeprefix("\ufeff")))

    def add(self, launcher: tuple[str, ...] = LAUNCHER) -> HookPlan:
        records = HookRecords(self.state)
        (plan,) = plan_add(self.machine, records, (self.client,), launcher, self.state)
        hook_files.carry_out(plan, records, self.state)
        return plan

    def remove(self) -> HookPlan | None:
        records = HookRecords(self.state)
        plans = list(plan_remove(self.machine, records, (self.client,)))
        for plan in plans:
            hook_files.carry_out(plan, records, self.state)
        assert HookRecords(self.state).all() == []
        return plans[0] if plans else None

    def survey(self) -> HookState:
        """How they stand, where Codex was told to trust them."""
        if self.client == "codex":
            (self.file.parent / "config.toml").write_text(self.trusted())
        (found,) = survey(self.machine, (self.client,), LAUNCHER, self.state)
        return found

    def trusted(self) -> str:
        """What Codex writes when all handlers of `PreToolUse` are trusted."""
        try:
            hooks = plain(parse("json", self.text.removeprefix("\ufeff")))["hooks"]["PreToolUse"]
            lines = [
                f"[hooks.state.{json.dumps(state_key(str(self.file), at, number))}]\n"
                f'trusted_hash = "{trusted_hash(group, handler)}"\n'
                for at, group in enumerate(hooks)
                for number, handler in enumerate(group.get("hooks", ()))
            ]
        except (ClientFileError, KeyError, TypeError, FileNotFoundError):
            return ""
        return "\n".join(lines)


# Trivia between tokens, as editors accept it; the events of all three clients.
_EVENTS = ("PreToolUse", "PostToolUse", "beforeMCPExecution", "beforeShellExecution", "preToolUse", "stop")
_ENTRY = st.sampled_from(
    [{"command": "./mine.sh"}, {"matcher": "Bash", "hooks": [{"type": "command", "command": "x"}]}]
)
_HOOKS = st.dictionaries(st.sampled_from(_EVENTS), st.lists(_ENTRY, max_size=2), max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A client's settings with or without hooks."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    trivia = st.sampled_from(["", " ", newline, f"{newline}\t", f' // é "hooks"{newline}', "/* { */"])
    document: dict[str, Any] = {"model": "é", "list": [1, {}]}
    if draw(st.booleans()):
        document["version"] = 1
    if draw(st.booleans()):
        document["hooks"] = draw(_HOOKS)
    document = {key: document[key] for key in draw(st.permutations(sorted(document)))}
    if draw(st.booleans()):
        return json.dumps(document, indent=draw(st.sampled_from([None, 2, 4, "\t"]))).replace("\n", newline)

    def write(value: Any) -> str:
        if isinstance(value, dict | list):
            parts = (
                [f"{draw(trivia)}{write(k)}:{draw(trivia)}{write(v)}{draw(trivia)}" for k, v in value.items()]
                if isinstance(value, dict)
                else [f"{draw(trivia)}{write(item)}{draw(trivia)}" for item in value]
            )
            inner = draw(trivia) + ",".join(parts) + ("," if parts and draw(st.booleans()) else "") + draw(trivia)
            return f"{{{inner}}}" if isinstance(value, dict) else f"[{inner}]"
        return json.dumps(value, ensure_ascii=False)

    return draw(trivia) + write(document) + draw(trivia)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(), st.sampled_from(CLIENTS), st.sampled_from(["", "\ufeff"]))
def test_in_and_out(text: str, client: str, bom: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), client)
        home.write(bom + text)
        before = home.value()
        assert home.add().action == "add"
        after = home.value()
        hooks = after.pop("hooks")
        old = before.pop("hooks", {})
        after.pop("version", None), before.pop("version", None)
        assert after == before
        for event, entries in old.items():
            assert hooks[event][: len(entries)] == entries
        assert home.survey().state == "installed"
        assert home.add().action == "already"
        removed = home.remove()
        assert removed is not None and removed.action == "remove"
        assert home.text == bom + text


@pytest.mark.parametrize("client", CLIENTS)
def test_a_file_made_for_them_goes_with_them(client: str, tmp_path: Path) -> None:
    home = Home(tmp_path, client)
    assert home.survey().state == "missing"
    assert home.add().action == "add"
    assert json.loads(home.text)["hooks"]
    assert home.survey().state == "installed"
    assert home.add().action == "already"
    home.remove()
    assert not home.file.exists()
    assert home.remove() is None


@pytest.mark.parametrize("client", CLIENTS)
def test_an_empty_file(client: str, tmp_path: Path) -> None:
    home = Home(tmp_path, client)
    for text in ("", " \n", "{}", "{ }\n"):
        home.write(text)
        home.add()
        assert home.survey().state == "installed"
        home.remove()
        assert home.text == text


@pytest.mark.parametrize("client", CLIENTS)
def test_edits_made_since_stay(client: str, tmp_path: Path) -> None:
    home = Home(tmp_path, client)
    home.write('{\n  // mine\n  "hooks": {"stop": [{"command": "x"}]}\n}\n')
    home.add()
    home.write(home.text.replace("// mine", "// mine, and more"))
    home.remove()
    assert home.text == '{\n  // mine, and more\n  "hooks": {"stop": [{"command": "x"}]}\n}\n'


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("indent", [None, 1, 4])
def test_a_file_the_client_wrote_anew(client: str, indent: int | None, tmp_path: Path) -> None:
    home = Home(tmp_path, client)
    home.write('{"hooks": {"stop": [{"command": "x"}], "PreToolUse": [{"hooks": []}]}, "version": 1}')
    before = json.loads(home.text)
    home.add()
    home.write(json.dumps({"new": True, **json.loads(home.text)}, indent=indent))
    home.remove()
    after = json.loads(home.text)
    assert {key: entries for key, entries in after["hooks"].items() if entries} == before["hooks"]
    assert "callgate" not in home.text


@pytest.mark.parametrize("client", CLIENTS)
def test_a_callgate_that_moved(client: str, tmp_path: Path) -> None:
    home = Home(tmp_path, client)
    for text in (None, '{"hooks": {"PreToolUse": [{"hooks": []}]}}\n'):
        if text is not None:
            home.write(text)
        home.add(("/old/callgate",))
        assert home.survey().state == "another callgate"
        assert home.add().action == "add"
        assert "/old/" not in home.text
        assert home.survey().state == "installed"
        home.remove()
        assert (home.text if home.file.exists() else None) == text


def test_a_lost_record_leaves_them_to_be_found(tmp_path: Path) -> None:
    home = Home(tmp_path, "claude-code")
    home.write('{"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": []}]}}')
    home.add()
    (home.state / hook_files.FILE_NAME).unlink()
    home.remove()
    assert json.loads(home.text) == {"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": []}]}}


@pytest.mark.parametrize(
    ("client", "old", "new"),
    [
        ("claude-code", '"onFailure": "block"', '"onFailure": "allow"'),
        ("claude-code", '"matcher": "*"', '"matcher": "Bash"'),
        ("claude-code", '"hooks":', '"disableAllHooks": true, "hooks":'),
        ("cursor", '"failClosed": true', '"failClosed": false'),
        ("cursor", '"beforeMCPExecution"', '"afterMCPExecution"'),
        ("codex", '"matcher": "*"', '"matcher": "Bash"'),
    ],
)
def test_hooks_that_would_fail_open_are_named(client: str, old: str, new: str, tmp_path: Path) -> None:
    home = Home(tmp_path, client)
    home.add()
    assert old in home.text
    home.write(home.text.replace(old, new, 1))
    found = home.survey()
    assert (found.state, bool(found.detail)) == ("fails open", True)
    if '"hooks":' not in old:
        home.add()
        assert home.survey().state == "installed"


@pytest.mark.parametrize("text", ["{ broken", "[]", '{"hooks": []}', '{"hooks": {"PreToolUse": {}, "preToolUse": 1}}'])
def test_a_file_that_is_not_understood_is_left(text: str, tmp_path: Path) -> None:
    for client in CLIENTS:
        home = Home(tmp_path / client, client)
        home.write(text)
        assert home.add().action == "refused"
        assert home.text == text


def test_a_client_that_is_not_there_gets_nothing(tmp_path: Path) -> None:
    machine = Machine("linux", str(tmp_path), {})
    assert list(plan_add(machine, HookRecords(tmp_path), CLIENTS, LAUNCHER, tmp_path)) == []
    assert list(survey(machine, CLIENTS, LAUNCHER, tmp_path)) == []


@pytest.mark.parametrize(
    ("command", "client"),
    [
        ("/usr/bin/callgate hook cursor --state /s", "cursor"),
        ("'/opt/call gate/callgate' hook codex", "codex"),
        ("/usr/bin/python -m callgate.cli.main hook claude-code", "claude-code"),
        ("echo callgate", ""),
        ("callgate audit tail", ""),
        ("callgate-hook cursor x", ""),
        ("callgate hook", ""),
        ("'broken", ""),
    ],
)
def test_own_entries_are_known(command: str, client: str) -> None:
    assert is_ours(command) == client
