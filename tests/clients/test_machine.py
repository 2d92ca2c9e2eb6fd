"""Where each client's files are, on three systems; and what the table must hold for the rest to work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from callgate.clients.entries import entries
from callgate.clients.formats import parse
from callgate.clients.machine import Machine, find, find_all, neighbours
from callgate.clients.surroundings import HOOK_FILES, INSTRUCTIONS, MANAGED, PROJECT_SETTINGS, SKILLS
from callgate.clients.table import ALL, BY_NAME, CLIENTS, Place, System
from callgate.errors import ConfigError

LINUX = Machine("linux", "/home/me", {})


@pytest.mark.parametrize(
    ("system", "environ", "template", "path"),
    [
        ("linux", {}, "{config}/Code/User/mcp.json", "/h/.config/Code/User/mcp.json"),
        ("linux", {"XDG_CONFIG_HOME": "/x"}, "{config}/a", "/x/a"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, "{config}/a", "/h/.config/a"),
        ("darwin", {"XDG_CONFIG_HOME": "/x"}, "{config}/a", "/h/Library/Application Support/a"),
        ("win32", {"APPDATA": "C:/Users/me/AppData/Roaming"}, "{config}/a", "C:/Users/me/AppData/Roaming/a"),
        ("win32", {}, "{config}/a", "/h/AppData/Roaming/a"),
        ("linux", {}, "{CODEX_HOME|~/.codex}/config.toml", "/h/.codex/config.toml"),
        ("linux", {"CODEX_HOME": "/c"}, "{CODEX_HOME|~/.codex}/config.toml", "/c/config.toml"),
        ("linux", {}, "{CLAUDE_CONFIG_DIR|~}/.claude.json", "/h/.claude.json"),
        ("linux", {}, "{OPENCODE_CONFIG|}", ""),
        ("linux", {}, "{OPENCODE_CONFIG_DIR|}/opencode.json", ""),
        ("linux", {}, ".cursor/mcp.json", ".cursor/mcp.json"),
    ],
)
def test_templates(system: System, environ: dict[str, str], template: str, path: str) -> None:
    assert Machine(system, "/h", environ).expand(template) == path


def test_every_place_can_be_found(tmp_path: Path) -> None:
    """A file at each path of the table is found, as the client's, on every system."""
    for system in ALL:
        home = tmp_path / system
        machine = Machine(system, str(home), {})
        for client in CLIENTS:
            for place in client.places:
                template = place.path
                if system not in place.systems or place.scope == "managed" or "|}" in template:
                    continue
                base = home / "project" if place.scope == "project" else Path("/")
                path = base / machine.expand(template).replace("*", "any").lstrip("/" if base == Path("/") else "")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("")
                found = [one.path for one in find(machine, (client.name,), str(home / "project"))]
                assert str(path) in found, (system, client.name, template)


def test_the_table_is_consistent() -> None:
    assert len(BY_NAME) == len(CLIENTS) >= 25
    for client in CLIENTS:
        assert client.name == client.name.lower()
        assert client.name.replace("-", "").isalnum()
        assert client.shape.urls
        for place in client.places:
            assert (place.scope == "project") == (not place.path.startswith(("~", "{", "/", "C:")))
            assert place.path.count("{") == place.path.count("}")
            suffix = place.path.rpartition(".")[2]
            expected = {"json": "json", "jsonc": "json", "toml": "toml", "yaml": "yaml"}
            assert place.format == expected.get(suffix, "json")


def test_projects_only_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / ".mcp.json").write_text("{}")
    machine = Machine("linux", str(tmp_path / "home"), {})
    assert list(find(machine)) == []
    (found,) = find(machine, project=str(tmp_path))
    assert (found.client.name, found.place.scope) == ("claude-code", "project")
    (found,) = find(machine, ("cursor",), str(tmp_path))
    assert found.client.name == "cursor"


def test_one_file_by_two_paths_comes_once(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    for name in (".cursor", ".lmstudio"):
        (tmp_path / name).mkdir()
        os.symlink(tmp_path / "one.json", tmp_path / name / "mcp.json")
    (found,) = find(Machine("linux", str(tmp_path), {}))
    assert found.path == str(tmp_path / ".cursor/mcp.json")
    assert found.real == str(tmp_path / "one.json")


def test_a_client_nobody_knows() -> None:
    with pytest.raises(ConfigError, match=r"no client 'x\\x1b'"):
        list(find(LINUX, ("x\x1b",)))


def test_home_directories_with_odd_names(tmp_path: Path) -> None:
    home = tmp_path / "a[b]c"
    (home / ".kiro/agents").mkdir(parents=True)
    (home / ".kiro/agents/x.json").write_text("{}")
    assert [one.path for one in find(Machine("linux", str(home), {}))] == [str(home / ".kiro/agents/x.json")]


def test_places_are_described_once() -> None:
    for client in CLIENTS:
        assert len(set(client.places)) == len(client.places)
        assert all(isinstance(place, Place) for place in client.places)


def test_the_windows_side_of_wsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = tmp_path / "version"
    version.write_text("Linux version 6.6 (Microsoft@x)")
    users = tmp_path / "Users"
    for name in ("me", "Public", "Default", "no home"):
        (users / name / ("AppData" if name != "no home" else "x")).mkdir(parents=True)
    path = users / "me/AppData/Roaming/Code/User/mcp.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    others = neighbours(str(users), str(version))
    assert [(one.system, one.home) for one in others] == [("win32", str(users / "me"))]
    monkeypatch.setattr("callgate.clients.machine.neighbours", lambda: others)
    (found,) = find_all(Machine("linux", str(tmp_path / "home"), {}))
    assert found.path == str(path)
    assert "Windows" in found.place.hands_off
    version.write_text("Linux version 6.6 (gcc)")
    assert neighbours(str(users), str(version)) == []
    assert neighbours(str(users), str(tmp_path / "none")) == []


def test_lists_around_the_servers() -> None:
    assert set(HOOK_FILES) <= set(BY_NAME)
    assert set(MANAGED) == set(ALL)
    lists = (
        *HOOK_FILES.values(),
        *PROJECT_SETTINGS,
        *SKILLS,
        *INSTRUCTIONS,
        *(p for one in MANAGED.values() for p in one),
    )
    assert len(set(lists)) == len(lists) - 1  # requirements.toml is at one place on two systems
    for path in lists:
        assert path.count("{") == path.count("}")
        assert not LINUX.expand(path).startswith("~")


def test_servers_of_plugins_in_every_form(tmp_path: Path) -> None:
    cache = tmp_path / ".claude/plugins/cache/shop"
    for name, text in {
        "flat/.mcp.json": '{"a": {"command": "x"}, "note": "y"}',
        "wrapped/.mcp.json": '{"mcpServers": {"b": {"command": "x"}}}',
        "inline/.claude-plugin/plugin.json": '{"name": "p", "mcpServers": {"c": {"command": "x"}}}',
        "named/.claude-plugin/plugin.json": '{"name": "p", "mcpServers": "./servers.json"}',
        "none/.claude-plugin/plugin.json": '{"name": "p"}',
    }.items():
        (cache / name).parent.mkdir(parents=True)
        (cache / name).write_text(text)
    names = []
    for found in find(Machine("linux", str(tmp_path), {})):
        root = parse("json", Path(found.path).read_text())
        names += [entry.name for entry in entries(root, found.place, found.client.shape)]
        assert found.place.hands_off
    assert sorted(names) == ["a", "b", "c"]
