"""Where configuration and state are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from callgate.config.places import state_directory, user_config_file
from callgate.errors import ConfigError


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
