"""The configuration: defaults, errors that name the key, directories."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from callgate.config import (
    Config,
    ListenConfig,
    load,
    parse,
    parse_address,
    state_directory,
    user_config_file,
    valid_server_name,
)
from callgate.errors import ConfigError
from callgate.protocol.limits import Limits


def test_an_empty_file_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "callgate.toml"
    file.write_text("")
    config = load(file)
    assert config == Config(source=str(file))
    assert config.mode == "enforce"
    assert config.listen.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"moed": "enforce"}, "moed"),
        ({"mode": "lax"}, "mode"),
        ({"listen": {"address": "nowhere"}}, "listen.address"),
        ({"listen": {"address": "127.0.0.1:99999"}}, "listen.address"),
        ({"listen": {"workers": 0}}, "listen.workers"),
        ({"listen": {"workers": True}}, "listen.workers"),
        ({"listen": {"drain_s": "soon"}}, "listen.drain_s"),
        ({"listen": {"drain_s": -1}}, "listen.drain_s"),
        ({"listen": []}, "listen"),
        ({"limits": {"depth": 500}}, "limits.depth"),
        ({"limits": {"bytes": 1}}, "limits.bytes"),
        ({"limits": {"exact_integers": 1}}, "limits.exact_integers"),
        ({"audit": {"content": "everything"}}, "audit.content"),
        ({"controls": {"x": {"mode": "maybe"}}}, "controls.x.mode"),
        ({"servers": {"a b": {"command": ["x"]}}}, "servers.a b"),
        ({"servers": {"a": {}}}, "servers.a"),
        ({"servers": {"a": {"command": ["x"], "url": "http://h/"}}}, "servers.a"),
        ({"servers": {"a": {"command": "npx x"}}}, "servers.a.command"),
        ({"servers": {"a": {"command": ["x\0y"]}}}, "servers.a.command"),
        ({"servers": {"a": {"url": "ftp://h/"}}}, "servers.a.url"),
        ({"servers": {"a": {"url": "http://h/", "transport": "stdio"}}}, "servers.a.transport"),
        ({"servers": {"a": {"command": ["x"], "environment": {"A": 1}}}}, "servers.a.environment.A"),
        ({"servers": {"a": {"command": ["x"], "mode": "off"}}}, "servers.a.mode"),
    ],
)
def test_errors_name_the_key_and_the_next_step(document: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document)
    assert key in caught.value.what
    assert caught.value.next_step


def test_unreadable_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration"):
        load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("mode = \n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(broken)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "callgate.toml"
    file.write_text('state_dir = "state"\n[listen]\ntoken_file = "token"\n')
    config = load(file)
    assert config.state_dir == str(tmp_path / "state")
    assert config.listen.token_file == str(tmp_path / "token")


def test_a_server_may_have_its_own_mode() -> None:
    config = parse({"servers": {"a": {"command": ["x"], "mode": "observe"}, "b": {"url": "https://h/mcp"}}})
    assert (config.mode_of("a"), config.mode_of("b"), config.mode_of("c")) == ("observe", "enforce", "enforce")
    assert config.servers["b"].transport == "http"


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), (":80", ("127.0.0.1", 80)), ("h:0", ("h", 0))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("name", ["", "a/b", "..", "-a", "a" * 65, "ä", "a b"])
def test_names_that_cannot_be_a_route(name: str) -> None:
    assert not valid_server_name(name)


def test_every_limit_and_listen_setting_can_be_set() -> None:
    limits = {f.name: getattr(Limits(), f.name) for f in fields(Limits)}
    assert parse({"limits": limits}).limits == Limits()
    given = {f.name: getattr(ListenConfig(), f.name) for f in fields(ListenConfig) if f.name not in ("host", "port")}
    given |= {"allowed_hosts": [], "allowed_origins": []}
    assert parse({"listen": given}).listen == ListenConfig()


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG rule")
def test_directories_follow_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLGATE_STATE_DIR", raising=False)
    monkeypatch.delenv("CALLGATE_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative/ignored")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    assert user_config_file() == ""
    state = state_directory()
    assert state == tmp_path / ".local/state/callgate"
    assert state.stat().st_mode & 0o777 == 0o700
    (tmp_path / "conf/callgate").mkdir(parents=True)
    (tmp_path / "conf/callgate/callgate.toml").write_text("")
    assert user_config_file() == str(tmp_path / "conf/callgate/callgate.toml")
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(tmp_path / "chosen"))
    assert state_directory() == tmp_path / "chosen"


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o1777, True), (0o702, True), (0o755, False)])
def test_a_state_directory_that_others_may_change(
    mode: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, link = tmp_path / "place", tmp_path / "link"
    place.mkdir()
    place.chmod(mode)
    link.symlink_to(place)
    for chosen in (place, link):
        monkeypatch.setenv("CALLGATE_STATE_DIR", str(chosen))
        if refused:
            with pytest.raises(ConfigError, match="other users may change"):
                state_directory()
        else:
            assert state_directory() == chosen


def test_a_state_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    if os.stat(tmp_path).st_uid == 0:
        assert state_directory() == tmp_path, "root may change everything anyway"
    else:
        with pytest.raises(ConfigError, match="other users may change"):
            state_directory()


def test_a_state_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("CALLGATE_STATE_DIR", str(place))
        with pytest.raises(ConfigError, match="cannot be made") as caught:
            state_directory()
        assert "next:" in caught.value.diagnostics()


def test_a_configuration_without_end_is_not_read() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        load("/dev/zero")
