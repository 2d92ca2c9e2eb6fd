"""The files of one log: `tail`, a small memory-mapped file that records are assigned into, and the segments.

A record is put into `tail` by one slice assignment: no system call, no lock, and what was assigned is in
the page cache, so it outlives the process however that ends. A full `tail` is appended to the segment
`000001.jsonl` … by one write and used again: so its pages stay mapped and warm (a record costs a tenth
of a write of its own), the process' memory does not grow with the log, and a full disk is an error of
that write, never a fault (SIGBUS) at an assignment.

Layout of `tail`: bytes 0-7, little-endian, say where its records belong: segment number << 32 | position
in that segment; records start at byte 64, zeros follow the last one. All steps of a flush can be
repeated or cut short by a kill: the write goes to a fixed position, then the records in `tail` are zeroed,
then the first eight bytes move on. So a reader takes the segment as it is, and from `tail` only what
lies beyond the segment's end (`pending`).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

TAIL_NAME: Final = "tail"
TAIL_BYTES: Final = 128 * 1024
"""Size of `tail`; the longest record fits."""
FLUSH_BYTES: Final = 32 * 1024
"""Records go to the segment when they fill so much of `tail`: few enough bytes that no call waits for them."""
HEADER_BYTES: Final = 64


def segment_name(number: int) -> str:
    """`000001.jsonl` is the first."""
    return f"{number:06d}.jsonl"


class Writer(Protocol):
    """Who assigns the records: it keeps their place, and may append them to the segment itself.

    That is the place of the next one in `tail`, HEADER_BYTES at first; the segment, its number, 1 at first, how many
    bytes are in it, and with how many it is full.
    """

    offset: int
    segment: int
    segment_number: int
    position: int
    segment_bytes: int

    def let_go(self) -> None:
        """Hold `tail` no longer."""


class Spool:
    """The files of a new log in `directory`, which must exist. Methods raise OSError and may then be repeated.

    The writer assigns records to `tail[offset:…]` itself. An advisory lock on `tail`, held while the
    process lives, tells readers that the log is in use.
    """

    __slots__ = ("_directory", "finished", "segment", "tail", "tail_file")

    def __init__(self, directory: Path) -> None:
        self.finished: list[int] = []
        """Full segments that are not yet known to be on disk; whoever syncs them closes them."""
        self._directory = directory
        # Locked before it has its name: who looks whether the log is in use locks it for a moment, too.
        new = directory / f"{TAIL_NAME}.new"
        self.tail_file = _create(new)
        try:
            _allocate(self.tail_file, TAIL_BYTES)
            fcntl.flock(self.tail_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.tail = mmap.mmap(self.tail_file, TAIL_BYTES)
            self.segment = _create(directory / segment_name(1))
            self.tail[0:8] = _mark(1, 0)
            new.rename(directory / TAIL_NAME)
        except OSError:
            os.close(self.tail_file)
            raise

    def flush(self, writer: Writer) -> None:
        """Append the records in `tail` to the segment; `writer.offset` is HEADER_BYTES again afterwards."""
        offset = writer.offset
        with memoryview(self.tail) as view, view[HEADER_BYTES:offset] as waiting:
            position, start = writer.position, 0
            while start < len(waiting):
                with waiting[start:] as rest:
                    start += os.pwrite(self.segment, rest, position + start)
        number, position = writer.segment_number, writer.position + offset - HEADER_BYTES
        segment = finished = self.segment
        if position >= writer.segment_bytes:
            number, position = number + 1, 0
            segment = _create(self._directory / segment_name(number))
        mark, zeros = _mark(number, position), bytes(offset - HEADER_BYTES)
        # No call in these lines: a signal handler that raises comes before all of them or after.
        self.tail[HEADER_BYTES:offset] = zeros
        self.tail[0:8] = mark
        self.segment = writer.segment = segment
        writer.segment_number = number
        writer.position = position
        writer.offset = HEADER_BYTES
        if segment != finished:
            self.finished.append(finished)

    def finish(self, writer: Writer) -> None:
        """Flush, put everything on disk and remove `tail`."""
        self.flush(writer)
        for descriptor in [*self.finished, self.segment]:
            os.fdatasync(descriptor)
            os.close(descriptor)
        self.finished.clear()
        writer.let_go()
        self.tail.close()
        os.close(self.tail_file)
        (self._directory / TAIL_NAME).unlink(missing_ok=True)  # unlocked, it may be removed by retention


def discard(directory: Path) -> None:
    """Remove a log that was never announced: who starts again and again in vain would leave one each time."""
    with suppress(OSError):
        for name in (f"{TAIL_NAME}.new", segment_name(1), TAIL_NAME):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()


def _mark(segment_number: int, position: int) -> bytes:
    return (segment_number << 32 | position).to_bytes(8, "little")


def place_of(tail: bytes) -> tuple[int, int]:
    """Where the records in a `tail` file belong: number of the segment, position in it. (0, 0) if it is not one."""
    return divmod(int.from_bytes(tail[:8], "little"), 1 << 32) if len(tail) == TAIL_BYTES else (0, 0)


def segment_of(tail: bytes) -> int:
    """The number of the segment that the records in a `tail` file belong to; 0 if it is not one."""
    return place_of(tail)[0]


def pending(tail: bytes, segment_number: int, segment_size: int) -> bytes:
    """Of a `tail` file, the bytes that follow the first `segment_size` bytes of that segment, zeros included."""
    segment, position = place_of(tail)
    return tail[HEADER_BYTES + max(0, segment_size - position) :] if segment == segment_number else b""


def _create(path: Path) -> int:
    """A new file; an empty one again where a flush is repeated."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _allocate(descriptor: int, length: int) -> None:
    """Make sure that `length` bytes of blocks are there."""
    try:
        os.posix_fallocate(descriptor, 0, length)
    except AttributeError:  # macOS
        pass
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    else:
        return
    zeros = memoryview(bytes(length))
    done = 0
    while done < length:
        done += os.pwrite(descriptor, zeros[done:], done)
