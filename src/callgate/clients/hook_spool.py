"""What hooks decided, on its way into the evidence log.

A hook lives for milliseconds and cannot open a log of its own: that costs two synced writes and a signature. It appends
one line to `hooks/spool.jsonl` (0600, under a lock), and the next callgate process that has a log writes the lines into
it. A line may come twice where that process was killed in between; `id` tells. Until it is taken over, a line is only
as safe as the file: that is why hooks guard the state directory.
"""

from __future__ import annotations

import fcntl
import os

from callgate.clients.hook_snapshot import FOLDER, HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAME = "spool.jsonl"
MAX_BYTES = 64 * 1024 * 1024
"""Beyond this a hook refuses: nothing takes its evidence over."""
MAX_LINE = 4096
_TAKING = ".taking"


def append(state: str, line: bytes) -> None:
    """Add one line, newline included. Raises HookError."""
    path = os.path.join(state, FOLDER, NAME)
    try:
        while True:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                status = os.fstat(descriptor)
                if not _is_at(path, status):
                    continue  # taken over while we waited for the lock
                if status.st_size > MAX_BYTES:
                    raise HookError("the evidence of hooks is not taken over: run callgate audit tail")
                if os.write(descriptor, line) != len(line):
                    raise HookError("the evidence of the hook cannot be written: the disk is full")
                return
            finally:
                os.close(descriptor)
    except OSError as error:
        raise HookError(f"the evidence of the hook cannot be written: {error.strerror}") from error


def waiting(state: str) -> bool:
    """Whether there is something to take over: one look at a directory."""
    try:
        return any(name.startswith(NAME) for name in os.listdir(os.path.join(state, FOLDER)))
    except OSError:
        return False


def take_over(state: str, note: Callable[[str, dict[str, Any]], object]) -> int:
    """Give each waiting line to `note` (as `hook` with its fields), and forget it; how many there were.

    Where `note` raises, the lines stay for the next time. Lines that are not what a hook writes count as `damaged`.
    """
    folder = os.path.join(state, FOLDER)
    path = os.path.join(folder, NAME)
    _set_aside(path)
    count = 0
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if not name.startswith(NAME + _TAKING):
            continue
        aside = os.path.join(folder, name)
        try:
            descriptor = os.open(aside, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        with open(descriptor, "rb") as file:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            if not _is_at(aside, os.fstat(descriptor)):
                continue  # another process had it
            count += _note_all(file.read(2 * MAX_BYTES), note)
            os.unlink(aside)
    return count


def _set_aside(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(path, os.fstat(descriptor)):
            os.rename(path, f"{path}{_TAKING}-{os.getpid()}-{os.urandom(4).hex()}")
    finally:
        os.close(descriptor)


def _is_at(path: str, status: os.stat_result) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        now = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)


def _note_all(data: bytes, note: Callable[[str, dict[str, Any]], object]) -> int:
    from jiter import from_json

    count = damaged = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        try:
            fields = from_json(line, catch_duplicate_keys=True) if len(line) <= MAX_LINE else None
        except ValueError:
            fields = None
        if isinstance(fields, dict) and isinstance(fields.get("id"), str):
            note("hook", fields)
            count += 1
        else:
            damaged += 1
    if damaged:
        note("hook-evidence-damaged", {"lines": damaged})
    return count
