"""Replacing a file: whole or not at all, in the clothes of the old one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from callgate.clients import files
from callgate.clients.tree import ClientFileError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "mcp.json"
    made.write_bytes(b"\xef\xbb\xbf{}\r\n")
    return made


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o755])
def test_mode_mark_and_line_ends_stay(file: Path, mode: int) -> None:
    file.chmod(mode)
    content = files.read(str(file))
    assert content.text == "{}\r\n"
    files.replace(content, '{"é": 1}\r\n')
    assert file.read_bytes() == b'\xef\xbb\xbf{"\xc3\xa9": 1}\r\n'
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert os.listdir(file.parent) == ["mcp.json"]


def test_attributes_stay(file: Path) -> None:
    try:
        os.setxattr(file, "user.note", b"x")
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")
    files.replace(files.read(str(file)), "[]")
    assert os.getxattr(file, "user.note") == b"x"


def test_a_file_changed_meanwhile_stays(file: Path) -> None:
    content = files.read(str(file))
    file.write_bytes(b"other")
    with pytest.raises(ClientFileError, match="another program"):
        files.replace(content, "[]")
    assert file.read_bytes() == b"other"
    assert os.listdir(file.parent) == ["mcp.json"]


def test_a_full_disk_leaves_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = files.read(str(file))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ClientFileError, match="No space left"):
        files.replace(content, "[]")
    assert file.read_bytes() == content.data
    assert os.listdir(file.parent) == ["mcp.json"]


def test_hard_links_are_refused(file: Path) -> None:
    os.link(file, file.with_name("other"))
    with pytest.raises(ClientFileError, match="2 names"):
        files.replace(files.read(str(file)), "[]")


@pytest.mark.parametrize(
    ("denied", "what"), [("mcp.json", "mcp.json is read-only"), ("", "directory of .* is read-only")]
)
def test_read_only_files_and_directories_are_refused(
    file: Path, denied: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = files.read(str(file))
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(file.parent / denied))
    with pytest.raises(ClientFileError, match=what):
        files.replace(content, "[]")
    assert file.read_bytes() == content.data


def test_a_planted_temporary_link_is_not_followed(file: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep")
    os.symlink(victim, files.temporary(str(file)))
    files.replace(files.read(str(file)), "[]")
    assert victim.read_bytes() == b"keep"
    assert file.read_bytes() == b"\xef\xbb\xbf[]"


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xe9")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    large = tmp_path / "large"
    large.write_bytes(b" " * 11)
    for path, what in (
        (latin, "UTF-8"),
        (fifo, "regular"),
        (large, "larger"),
        (tmp_path / "no\x1b", r"cannot read .*\\x1b"),
    ):
        with pytest.raises(ClientFileError, match=what):
            files.read(str(path))


def test_a_private_file_others_may_write_is_not_believed(file: Path) -> None:
    file.chmod(0o620)
    with pytest.raises(ClientFileError, match="changed by others"):
        files.read(str(file), private=True)


def test_backups_are_private_and_few(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr(files, "BACKUPS_EACH", 3)
    for number in range(5):
        file.write_bytes(b"%d" % number)
        path = files.backup(state, "cursor", files.read(str(file)))
        assert path.read_bytes() == b"%d" % number
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(list(path.parent.iterdir())) == 3


def test_one_command_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_S", 0.2)
    with files.lock(tmp_path), pytest.raises(ClientFileError, match="another callgate"), files.lock(tmp_path):
        pass
    with files.lock(tmp_path):
        pass
