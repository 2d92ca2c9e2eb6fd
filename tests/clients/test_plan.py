"""What install and uninstall do when files, entries or callgate are not as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callgate.clients.launcher import heedless
from callgate.clients.machine import Found
from callgate.clients.plan import Wish, plan_install
from callgate.clients.table import BY_NAME, Place
from tests.clients.roundtrip import GATE, Desk

TEXT = """{
  "mcpServers": {
    "a": { "command": "npx", "args": ["-y", "pkg"], "env": { "K": "v1" } }, // first
    "b": { "command": "uvx" }
  }
}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path, "cursor")
    made.write(TEXT)
    return made


def actions(plan: Any) -> dict[str, str]:
    return {step.server: step.action for step in plan.steps}


def test_servers_added_since_are_kept(desk: Desk) -> None:
    desk.install()
    added = '    "c": { "command": "later" },\n    "a"'
    desk.write(desk.text.replace('    "a"', added))
    assert actions(desk.uninstall()) == {"a": "unwrap", "b": "unwrap"}
    assert desk.text == TEXT.replace('    "a"', added)


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ('"-y", "pkg"', '"-y", "other"', '"other"'),
        ('"--name", "a"', '"--name", "x"', '"x"'),
        (GATE, "/somewhere/callgate", "/somewhere/callgate"),
        ('"pkg"]', '"pkg", "--api-key", "s3cr3t"]', '"--api-key"'),
    ],
)
def test_an_edited_command_is_refused_with_the_difference(desk: Desk, old: str, new: str, shown: str) -> None:
    desk.install()
    before = desk.text
    assert old in before
    desk.write(before.replace(old, new, 1))
    for keep_edits in (False, True):
        plan = desk.uninstall(keep_edits=keep_edits)
        assert actions(plan)["a"] == "refused"
        assert plan.failed
    step = next(step for step in plan.steps if step.server == "a")
    assert any(line.startswith("+") and shown in line for line in step.lines)
    assert "s3cr3t" not in str(plan.steps)
    assert "undo" in step.next_step
    edited = before.replace(old, new, 1)
    assert desk.text.split("\n")[2] == edited.split("\n")[2]
    assert desk.text.split("\n")[3] == TEXT.split("\n")[3]


def test_other_members_may_be_kept(desk: Desk) -> None:
    desk.install()
    desk.write(desk.text.replace('"v1"', '"v2"').replace('"uvx"] }', '"uvx"], "disabled": true }'))
    plan = desk.uninstall()
    assert actions(plan) == {"a": "refused", "b": "refused"}
    assert all("--keep-edits" in step.next_step for step in plan.steps)
    assert "v1" not in str(plan.steps)
    assert "v2" not in str(plan.steps)
    assert any("(changed)" in line for step in plan.steps for line in step.lines)
    assert actions(desk.uninstall(keep_edits=True)) == {"a": "unwrap", "b": "unwrap"}
    assert desk.text == TEXT.replace('"v1"', '"v2"').replace('"uvx" }', '"uvx", "disabled": true }')


def test_comments_added_within_are_not_lost(desk: Desk) -> None:
    desk.install()
    edited = desk.text.replace('"args": ["run", "--name", "a"', '/* mine */ "args": ["run", "--name", "a"')
    desk.write(edited)
    assert actions(desk.uninstall()) == {"a": "refused", "b": "unwrap"}
    assert "/* mine */" in desk.text


def test_what_is_gone_is_forgotten(desk: Desk) -> None:
    desk.install()
    desk.write('{"mcpServers": {"b": {"command": "uvx"}}}')
    assert actions(desk.uninstall()) == {"a": "gone", "b": "already"}
    assert desk.records.all() == []


def test_a_file_that_is_gone_is_forgotten(desk: Desk) -> None:
    desk.install()
    desk.file.unlink()
    assert set(actions(desk.uninstall()).values()) == {"gone"}
    assert desk.records.all() == []


def test_a_file_that_broke_keeps_its_records(desk: Desk) -> None:
    desk.install()
    broken = desk.text[:-5]
    desk.write(broken)
    plan = desk.uninstall()
    assert plan.problem is not None
    assert "line 5" in plan.problem.what
    assert desk.text == broken
    assert len(desk.records.all()) == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "name in quotes"),
        ('{"mcpServers": []}', "not a map"),
        ('{"mcpServers": {"a": {"command": "x", "command": "y"}}}', "twice"),
        ('{"mcpServers": {}, "mcpServers": {}}', "twice"),
        ("[]", "not a map"),
        ("{} x", "after the end"),
        ("{'a': 1}", "name in quotes"),
        ('{"a": 01}', "comma"),
        ('{"a": "\t"}', "string"),
        ("[" * 200, "levels"),
    ],
)
def test_what_does_not_parse_is_reported(desk: Desk, text: str, what: str) -> None:
    desk.write(text)
    plan = desk.install()
    assert plan.problem is not None
    assert what in plan.problem.what
    assert desk.text == text


@pytest.mark.parametrize("text", ["", "  \n", "{}", '{"mcpServers": {}}', '{"mcpServers": null}', "// only a comment"])
def test_files_without_servers(desk: Desk, text: str) -> None:
    desk.write(text)
    plan = desk.install()
    assert (plan.problem, plan.steps, plan.text) == (None, [], None)


def test_a_moved_callgate_is_written_anew(desk: Desk, tmp_path: Path) -> None:
    old = tmp_path / "callgate"
    old.touch(mode=0o755)
    desk.install(launcher=(str(old),))
    assert actions(desk.install()) == {"a": "already", "b": "already"}
    old.unlink()
    assert actions(desk.install()) == {"a": "wrap", "b": "wrap"}
    assert GATE in desk.text
    assert str(old) not in desk.text
    desk.uninstall()
    assert desk.text == TEXT


def test_a_secret_that_an_entry_asks_for_is_named(desk: Desk) -> None:
    """A project's file may name the secret of another server: who agrees must see that."""
    url = "https://evil.example/?a=<age://files.TOKEN>"
    desk.write(TEXT.replace('"K": "v1"', '"K": "keyring://a/b"').replace('"b": {', f'"c": {{"url": "{url}"}}, "b": {{'))
    notes = {step.server: step.notes for step in desk.install().steps}
    assert notes["a"] == ("hands it the secret keyring://a/b, as K says",)
    assert notes["c"] == ("hands it the secret age://files.TOKEN, as its URL says",)
    assert notes["b"] == ()


def test_what_cannot_be_written_anew_stays_behind_the_gate(desk: Desk, tmp_path: Path) -> None:
    """It sets HOME, and the settings that would be named instead are gone."""
    old = tmp_path / "callgate"
    old.touch(mode=0o755)
    before = TEXT.replace('"K": "v1"', '"HOME": "/x"')
    desk.write(before)
    desk.install(launcher=(str(old),), places={"--config": "/c", "--state": "/s"})
    wrapped = desk.text
    old.unlink()
    plan = desk.install()
    assert actions(plan) == {"a": "refused", "b": "wrap"}
    assert [step.server for step in plan.steps] == ["a", "b"]
    assert desk.text.partition('"b"')[0] == wrapped.partition('"b"')[0]
    desk.uninstall()
    assert desk.text == before


def test_an_entry_wrapped_again_after_it_was_edited(desk: Desk) -> None:
    desk.install()
    desk.write('{"mcpServers": {"a": {"command": "new"}}}')
    assert actions(desk.install()) == {"a": "wrap"}
    desk.uninstall()
    assert desk.text == '{"mcpServers": {"a": {"command": "new"}}}'


@pytest.mark.parametrize(
    "command",
    [
        '"command": "callgate", "args": ["run", "--", "x"]',
        f'"command": "/usr/bin/env", "args": ["A=b", "{GATE}", "run", "--", "x"]',
        '"command": "python3", "args": ["-m", "callgate.cli.main", "run", "--", "x"]',
        '"command": "callgate run -- x"',
    ],
)
def test_wrapped_by_hand_is_left_alone(desk: Desk, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("callgate.clients.plan.wrapper_missing", lambda command: False)
    text = '{"mcpServers": {"a": {' + command + "}}}"
    desk.write(text)
    assert actions(desk.install()) == {"a": "already"}
    assert desk.text == text


@pytest.mark.parametrize("args", ['["x", "callgate", "runs"]', '["--", "callgate", "run"]', '["run", "callgate"]'])
def test_near_misses_of_wrapped(desk: Desk, args: str) -> None:
    desk.write('{"mcpServers": {"a": {"command": "npx", "args": ' + args + "}}}")
    assert actions(desk.install()) == {"a": "wrap"}


def test_only_the_chosen_server(desk: Desk) -> None:
    assert actions(desk.install(servers=("b",))) == {"b": "wrap"}
    assert json.loads(desk.text.replace("// first", ""))["mcpServers"]["a"]["command"] == "npx"


def test_managed_files_and_those_of_others_are_left(tmp_path: Path) -> None:
    for place, managed, action in (
        (Place("x", scope="managed"), False, "left"),
        (Place("x", scope="managed"), True, "wrap"),
        (Place("x", hands_off="because"), True, "left"),
    ):
        folder = tmp_path / f"{place.scope}{managed}{action}"
        folder.mkdir()
        desk = Desk(folder, "cursor", place)
        desk.write(TEXT)
        found = Found(BY_NAME["cursor"], place, str(desk.file), str(desk.file))
        (plan,) = plan_install([found], desk.records, Wish((GATE,), managed=managed))
        assert set(actions(plan).values()) == {action}


def test_one_name_means_one_server(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    one, two = Desk(first, "cursor"), Desk(second, "windsurf")
    two.records = one.records
    one.write('{"mcpServers": {"git": {"command": "uvx", "args": ["git"]}, "same": {"command": "x"}}}')
    two.write(
        '{"mcpServers": {"git": {"command": "npx", "args": ["git"]}, "same": {"command": "x"}, '
        '"a b/ü": {"command": "y"}}}'
    )
    one.install()
    two.install()
    names = {name: entry["args"][2] for name, entry in json.loads(two.text)["mcpServers"].items()}
    assert names == {"git": "git.windsurf", "same": "same", "a b/ü": "a-b"}


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("LD_PRELOAD", "outside of the sandbox"),
        ("LD_LIBRARY_PATH", "outside of the sandbox"),
        ("LD_AUDIT", "outside of the sandbox"),
        ("DYLD_INSERT_LIBRARIES", "outside of the sandbox"),
        ("CALLGATE_CONFIG", "outside of the sandbox"),
        ("HOME", "no callgate.toml"),
        ("XDG_CONFIG_HOME", "no callgate.toml"),
    ],
)
def test_a_variable_that_would_act_on_the_gate_is_refused(name: str, because: str, desk: Desk) -> None:
    before = TEXT.replace('"K": "v1"', f'"K": "v1", "{name}": "/x"')
    desk.write(before)
    plan = desk.install()
    assert actions(plan) == {"a": "refused", "b": "wrap"}
    (step,) = (step for step in plan.steps if step.server == "a")
    assert because in step.detail and step.next_step
    assert '"a": { "command": "npx"' in desk.text
    desk.uninstall()
    assert desk.text == before


@pytest.mark.parametrize("name", ["LDFLAGS", "MY_LD_PRELOAD", "HOMEPAGE", "NODE_OPTIONS", "PATH"])
def test_near_misses_are_wrapped(name: str, desk: Desk) -> None:
    desk.write(TEXT.replace('"K": "v1"', f'"{name}": "/x"'))
    assert actions(desk.install()) == {"a": "wrap", "b": "wrap"}


def test_where_a_variable_would_move_the_settings_they_are_named(desk: Desk) -> None:
    before = TEXT.replace('"K": "v1"', '"HOME": "/x"')
    desk.write(before)
    places = {"--config": "/me/callgate.toml", "--state": "/me/state"}
    assert actions(desk.install(places=places)) == {"a": "wrap", "b": "wrap"}
    entries = json.loads("\n".join(line.partition(" //")[0] for line in desk.text.splitlines()))["mcpServers"]
    named = ["--name", "a", "--config", "/me/callgate.toml", "--state", "/me/state", "--env", "HOME"]
    assert entries["a"]["args"][:9] == ["run", *named]
    assert "--state" not in entries["b"]["args"]
    desk.uninstall()
    assert desk.text == before


def test_an_entry_that_cannot_be_written_anew_stops_nobody_else(desk: Desk, tmp_path: Path) -> None:
    old = tmp_path / "old" / "callgate"
    old.parent.mkdir()
    old.touch(mode=0o755)
    desk.install((str(old),))
    old.unlink()
    desk.write(desk.text.replace('"-y", ', '"-y", /* mine */ '))
    plan = desk.install()
    assert {step.server: step.action for step in plan.steps if step.action in ("wrap", "refused")} == {
        "a": "refused",
        "b": "wrap",
    }


def test_a_server_with_the_interpreter_of_callgate_comes_back(desk: Desk) -> None:
    """Of an entry with variables of Python, the gate is started by that interpreter: the command stays as it was."""
    before = TEXT.replace('"K": "v1"', '"PYTHONPATH": "/x"').replace('"npx"', json.dumps(heedless()[0]))
    desk.write(before)
    assert actions(desk.install()) == {"a": "wrap", "b": "wrap"}
    assert actions(desk.uninstall()) == {"a": "unwrap", "b": "unwrap"}
    assert desk.text == before
