"""Who could have written the state: refuse a directory or file that another user may change.

What is pinned decides what passes, so a state that others can write is no state to trust.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from callgate.errors import StoreError


def check_directory(path: Path) -> None:
    """Make `path` (mode 0700) or check that it is the user's and nobody else writes to it. Raises StoreError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = path.stat()
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror}", next_step="choose another state_dir") from error
    _check(path, status)


def check_file(path: Path) -> None:
    """Make `path` (mode 0600, empty) or check it like the directory; links are refused. Raises StoreError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror}", next_step="check its owner and mode") from error
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is no regular file", next_step="move it away")
    _check(path, status)


def _check(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(
            f"{path} can be written by other users (mode {stat.S_IMODE(status.st_mode):04o})",
            effect="what is pinned there cannot be trusted, so it was not read",
            next_step=f"look at it, then: chmod go-w {path}",
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise StoreError(
            f"{path} belongs to another user (uid {status.st_uid})",
            effect="what is pinned there cannot be trusted, so it was not read",
            next_step="use a state_dir of your own",
        )
