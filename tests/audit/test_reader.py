"""Reading a log that is being written at this moment."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from callgate.audit import reader
from callgate.audit.reader import Place, read_lines
from callgate.audit.spool import HEADER_BYTES, Spool, Writer

BATCH = 100
"""Lines that are in `tail` before each flush."""


class Writing:
    """A log whose lines are numbers, all of one length: a place that is wrong by some of them is not seen in the line."""

    def __init__(self, directory: Path, segment_bytes: int = 1 << 30) -> None:
        directory.mkdir()
        self._spool = Spool(directory)
        self.written = 0
        self._writer = cast(
            "Writer",
            SimpleNamespace(
                offset=HEADER_BYTES,
                segment=self._spool.segment,
                segment_number=1,
                position=0,
                segment_bytes=segment_bytes,
                let_go=lambda: None,
            ),
        )

    def write(self) -> None:
        for _ in range(BATCH):
            line = b"%09d\n" % self.written
            at = self._writer.offset
            self._spool.tail[at : at + len(line)] = line
            self._writer.offset += len(line)
            self.written += 1

    def flush(self) -> None:
        self._spool.flush(self._writer)

    def finish(self) -> None:
        self._spool.finish(self._writer)


def read_on(directory: Path, place: Place, found: list[int]) -> Place:
    for line, after in read_lines(directory, place):
        found.append(int(line))
        place = after
    return place


@pytest.mark.parametrize("segment_bytes", [1 << 30, 7000])
def test_nothing_is_passed_over_however_quickly_it_is_written(
    segment_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tail` is emptied in the middle of each look at it: what it says of its place is never true of its lines."""
    log = Writing(tmp_path / "log", segment_bytes)
    log.write()
    read = reader._read_or_nothing

    def read_slowly(path: Path) -> bytes:
        before = read(path)
        log.flush()
        for _ in range(1 + log.written % 3):
            log.write()
        return before[:8] + read(path)[8:]

    monkeypatch.setattr(reader, "_read_or_nothing", read_slowly)
    found: list[int] = []
    place = (1, 0)
    for _ in range(20):
        place = read_on(tmp_path / "log", place, found)
        assert found == list(range(len(found)))
    assert found
    monkeypatch.undo()
    log.finish()
    read_on(tmp_path / "log", place, found)
    assert found == list(range(log.written))


def test_what_is_only_in_the_tail_is_read(tmp_path: Path) -> None:
    log = Writing(tmp_path / "log")
    found: list[int] = []
    place = (1, 0)
    for _ in range(3):
        log.write()
        place = read_on(tmp_path / "log", place, found)
        assert found == list(range(log.written))
        log.flush()
        assert read_on(tmp_path / "log", place, found) == place
    assert found == list(range(log.written))
    log.finish()


@pytest.mark.parametrize("torn", [False, True], ids=["written meanwhile", "torn by a crash"])
def test_lines_that_were_not_there_when_their_place_was_read(
    torn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later pages of `tail` are read later, so a line may be seen without the one before it."""
    log = Writing(tmp_path / "log")
    log.write()
    read = reader._read_or_nothing
    looks = 0

    def read_slowly(path: Path) -> bytes:
        nonlocal looks
        looks += 1
        data = read(path)
        return data[:84] + bytes(30) + data[114:] if torn or looks < 4 else data

    monkeypatch.setattr(reader, "_read_or_nothing", read_slowly)
    lines = [line for line, _ in read_lines(tmp_path / "log")]
    if torn:  # told as it is, for verification
        assert lines == [b"%09d\n" % 0, b"%09d\n" % 1, bytes(30) + b"%09d\n" % 5] + [
            b"%09d\n" % n for n in range(6, 100)
        ]
    else:
        assert lines == [b"%09d\n" % number for number in range(BATCH)]
    log.finish()
