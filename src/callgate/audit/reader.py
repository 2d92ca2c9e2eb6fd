"""Reading logs, also those that are being written at this moment."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from callgate.audit.files import opened, read
from callgate.audit.spool import HEADER_BYTES, TAIL_BYTES, TAIL_NAME, pending, segment_name, segment_of

Place: TypeAlias = tuple[int, int]
"""(segment, position in it)."""
_CHUNK: Final = 1 << 18
LONGEST: Final = 1 << 20
"""A line that is longer is no record, and given in pieces: nobody's memory has to hold it."""
_TRIES: Final = 50


def chains(audit_dir: Path) -> list[str]:
    """Ids of the logs here, oldest first."""
    try:
        return sorted(entry.name for entry in audit_dir.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


def segment_paths(directory: Path) -> list[Path]:
    """The segments of a log in order."""
    return sorted(path for path in directory.glob("*.jsonl") if path.stem.isascii() and path.stem.isdigit())


def in_use(directory: Path) -> bool:
    """Whether a running process still writes this log: it holds a lock on `tail`."""
    try:
        descriptor = opened(directory / TAIL_NAME)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_lines(directory: Path, start: Place = (1, 0)) -> Iterator[tuple[bytes, Place]]:
    """The lines from a place on, newline included, each with the place after it.

    A segment that retention removes meanwhile is passed over; verification keeps it from doing so. What follows the
    last newline comes last, as it is, without the zeros of the space reserved for records to come: a record torn by
    a crash. Raises OSError for what cannot be read, or is no file.
    """
    number, position = start
    # First `tail`, then the segments: all before the one it names are there by now. The other way round a log
    # that is being written may begin two segments in between, and the first of them would seem to be missing.
    in_tail = segment_of(_read_or_nothing(directory / TAIL_NAME))
    numbers = {int(path.stem) for path in segment_paths(directory)}
    if in_tail:
        numbers.add(in_tail)
    # The records in `tail` belong to the segment that it names: a file that was put behind that one hides them not.
    last = in_tail or max(numbers, default=0)
    for current in sorted(numbers):
        if current < number:
            continue
        if current > number:
            number, position = current, 0
        rest = b""
        for chunk in _bytes_of(directory, number, position, last=current >= last):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                position += len(line) + 1
                yield line + b"\n", (number, position)
            if len(rest) > LONGEST:
                position += len(rest)
                yield rest, (number, position)
                rest = b""
        rest = rest.rstrip(b"\0")
        if rest:
            yield rest, (number, position + len(rest))


def _bytes_of(directory: Path, number: int, position: int, *, last: bool) -> Iterator[bytes]:
    path = directory / segment_name(number)
    if not last:
        yield from _chunks(path, position, 1 << 62)
        return
    tail, size = _stable(directory, path)
    beyond = pending(tail, number, size)
    if position < size:
        yield from _chunks(path, position, size - position)
    elif position > size:
        beyond = beyond[position - size :]
    end = len(beyond.rstrip(b"\0"))
    if end:
        yield beyond[:end]


def _chunks(path: Path, position: int, count: int) -> Iterator[bytes]:
    """At most `count` bytes of a file from `position` on; none where it is gone."""
    while count:
        try:  # open no longer than for one chunk: an export reads all logs at once, and there may be thousands
            chunk = read(path, min(_CHUNK, count), position)
        except FileNotFoundError:
            return
        if not chunk:
            return
        position += len(chunk)
        count -= len(chunk)
        yield chunk


def _stable(directory: Path, segment: Path) -> tuple[bytes, int]:
    """`tail` and the size of the last segment as they were at one moment.

    No `tail` where it was emptied at each look: what it held is in the segment by now, or is there for the next reader.
    What it holds of one moment, taken for that of another, would be put in the place of lines that came before.
    """
    kept = None
    for _ in range(_TRIES):
        tail = _read_or_nothing(directory / TAIL_NAME)
        size = size_of(segment)
        if _read_or_nothing(directory / TAIL_NAME)[:8] == tail[:8]:
            if b"\0" not in tail[HEADER_BYTES:].rstrip(b"\0"):
                return tail, size
            kept = tail, size  # written to while it was read, or torn by a crash: then it stays so
    return kept or (b"", size_of(segment))


def _read_or_nothing(path: Path) -> bytes:
    """A `tail`; one byte more of a file that is too long to be one."""
    try:
        return read(path, TAIL_BYTES + 1)
    except FileNotFoundError:
        return b""


def size_of(path: Path) -> int:
    """Its bytes; 0 where it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
