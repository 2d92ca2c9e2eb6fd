"""The shared counter."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.errors import StoreError
from callgate.store.generation import FILE_NAME, Generation


def test_it_counts_and_every_holder_sees_it(tmp_path: Path) -> None:
    one, other = Generation(tmp_path), Generation(tmp_path)
    before = other.map[:]
    assert one.value == 0
    assert one.advance() == 1
    assert other.value == 1
    assert other.map[:] != before
    one.close()
    assert other.advance() == 2
    other.close()


def test_it_survives_and_is_private(tmp_path: Path) -> None:
    first = Generation(tmp_path)
    first.advance()
    first.close()
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    again = Generation(tmp_path)
    assert again.value == 1
    again.close()


def test_processes_never_leave_the_same_number(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from callgate.store.generation import Generation\n"
        "g = Generation(Path(sys.argv[1]))\n"
        "for _ in range(300): g.advance()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    counter = Generation(tmp_path)
    assert counter.value == 900
    counter.close()


def test_a_damaged_file_is_made_whole(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\x05")
    counter = Generation(tmp_path)
    assert counter.advance() == 6
    counter.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"\0" * 8)
    os.symlink(tmp_path / "elsewhere", tmp_path / FILE_NAME)
    with pytest.raises(StoreError) as caught:
        Generation(tmp_path)
    assert "next:" in caught.value.diagnostics()


def test_its_place_on_the_disk_is_taken_when_it_is_made(tmp_path: Path) -> None:
    """A hole that is mapped ends the process with SIGBUS once the disk is full."""
    path = tmp_path / FILE_NAME
    for before in (None, b"", bytes(3)):
        if before is not None:
            path.write_bytes(before)
        Generation(tmp_path).close()
        with open(path, "rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
    path.unlink()
    path.touch()
    os.truncate(path, 8)  # as earlier releases made it
    Generation(tmp_path).close()
    with open(path, "rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
