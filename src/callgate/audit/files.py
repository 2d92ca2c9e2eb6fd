"""Directories that are private, and files that may have been put there by somebody else: a pipe holds nobody up."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def private_directory(directory: Path) -> None:
    """Make it for the user alone, and the one that it is in where that is missing: `parents` would ask the umask."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)


def opened(path: Path) -> int:
    """A descriptor to read a regular file. Raises OSError, also for anything that is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read(path: Path, limit: int, position: int = 0) -> bytes:
    """At most `limit` bytes of a regular file from `position` on. Raises OSError."""
    descriptor = opened(path)
    try:
        return os.pread(descriptor, limit, position)
    finally:
        os.close(descriptor)
