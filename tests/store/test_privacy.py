"""A state that others can write is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from callgate.errors import StoreError
from callgate.store.privacy import check_directory, check_file


def test_what_is_not_there_is_made_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        check_directory(tmp_path / "a" / "state")
        check_file(tmp_path / "a" / "state" / "file")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "state" / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(StoreError, match="can be written by other users"):
        check_directory(tmp_path)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    with pytest.raises(StoreError) as caught:
        check_file(path)
    assert "chmod go-w" in caught.value.next_step


def test_reading_by_others_is_their_choice(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    check_directory(tmp_path)


def test_links_and_directories_are_no_state_files(tmp_path: Path) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(StoreError):
            check_file(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(StoreError) as caught:
        check_file(path)
    assert caught.value.next_step
