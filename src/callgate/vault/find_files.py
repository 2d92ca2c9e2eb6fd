"""Reading files of others within limits: how many, how large, how deep, and never out through a link.

What is not read is kept with its reason: "nothing found" and "not looked at" are two results.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

_MIB: Final = 1024 * 1024
_MOST_SKIPPED: Final = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a search goes."""

    file_bytes: int = 4 * _MIB
    """A larger file is not read; of a shell history, its end is."""
    total_bytes: int = 512 * _MIB
    files: int = 20_000
    entries: int = 500_000
    """Names of directories that are looked at."""
    depth: int = 12
    """Levels below the directory a walk begins in."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that was read. `real` is its path without links."""

    path: str
    real: str
    text: str = field(repr=False)
    mode: int
    readers: Literal["owner", "group", "everyone"]


class Files:
    """One search's files: each is read once, and the limits hold for all together."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.count = 0
        self.bytes = 0
        self.skipped: dict[str, str] = {}
        self._entries = 0
        self._seen: set[str] = set()
        self._last: TextFile | None = None

    def skip(self, path: str, reason: str) -> None:
        """Keep what was not looked at, and why."""
        if len(self.skipped) < _MOST_SKIPPED:
            self.skipped.setdefault(path, reason)

    def first_time(self, path: str) -> bool:
        """Whether a file has not been read yet by this search."""
        return os.path.realpath(path) not in self._seen

    def read(self, path: str, *, within: str = "", tail: bool = False, most: int = 0) -> TextFile | None:
        """A regular file as text, or None with a reason in `skipped`; None without one where there is no such file.

        `within`: a link may lead to files below this directory only; empty: no link is followed. `tail`: of a file
        that is too large, its end is read. `most`: another limit of bytes than that of all files.
        """
        most = most or self.limits.file_bytes
        real = os.path.realpath(path)
        if real != os.path.abspath(path) and os.path.lexists(path) and not _below(real, within):
            self.skip(path, "a link that leads elsewhere")
            return None
        if self._last is not None and self._last.real == real:
            return self._last  # a file with several places of servers comes several times in a row
        if self.count >= self.limits.files or self.bytes >= self.limits.total_bytes:
            self.skip(path, "the limit of files or bytes was reached")
            return None
        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    self.skip(path, "not a regular file")
                    return None
                if status.st_size > most:
                    self.skip(path, f"larger than {most // _MIB} MiB" + (": its end was" if tail else ""))
                    if not tail:
                        return None
                    file.seek(-most, os.SEEK_END)
                data = file.read(most)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.skip(path, (error.strerror or "it cannot be read").lower())
            return None
        self._seen.add(real)
        self.count += 1
        self.bytes += len(data)
        if b"\0" in data[:8192]:
            return None  # a binary file: no place of configuration
        return TextFile(
            path, real, data.decode("utf-8", "replace"), stat.S_IMODE(status.st_mode), readers(real, status)
        )

    def walk(self, top: str, wanted: Callable[[str], bool], *, depth: int, leave_out: frozenset[str]) -> Iterator[str]:
        """Paths of wanted file names below `top`, in order; links to directories are not followed."""
        stack = [(top, min(depth, self.limits.depth))]
        while stack:
            folder, left = stack.pop()
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self.skip(folder, (error.strerror or "it cannot be read").lower())
                continue
            below: list[tuple[str, int]] = []
            for entry in entries:
                self._entries += 1
                if self._entries > self.limits.entries:
                    self.skip(folder, f"more than {self.limits.entries} names were looked at")
                    return
                if entry.is_dir(follow_symlinks=False):
                    if entry.name in leave_out:
                        continue
                    if left > 0:
                        below.append((entry.path, left - 1))
                    else:
                        self.skip(entry.path, "deeper than this search goes")
                elif wanted(entry.name) and entry.is_file(follow_symlinks=True):
                    yield entry.path
            stack += reversed(below)


def _below(real: str, within: str) -> bool:
    return bool(within) and os.path.commonpath((real, os.path.realpath(within))) == os.path.realpath(within)


def readers(real: str, status: os.stat_result) -> Literal["owner", "group", "everyone"]:
    """Who beside the owner may read a file: by its mode, and whether they may enter the directories above it."""
    for who, read, enter in (("everyone", stat.S_IROTH, stat.S_IXOTH), ("group", stat.S_IRGRP, stat.S_IXGRP)):
        if status.st_mode & read and _enterable(real, status.st_gid, enter):
            return "everyone" if who == "everyone" else "group"
    return "owner"


def _enterable(real: str, group: int, enter: int) -> bool:
    folder = os.path.dirname(real)
    while True:
        try:
            status = os.stat(folder)
        except OSError:
            return False
        bit = enter if enter == stat.S_IXOTH or status.st_gid == group else stat.S_IXOTH
        if not status.st_mode & bit:
            return False
        above = os.path.dirname(folder)
        if above == folder:
            return True
        folder = above
