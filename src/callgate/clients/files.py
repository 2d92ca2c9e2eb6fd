"""Reading a client's file and replacing it: whole, or not at all.

The new text is written beside the file, synced, read again, and only then renamed over it; mode, owner and extended
attributes stay. A link is followed and stays a link. Whatever kills callgate, the file is the old one or the new one.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callgate.clients.tree import ClientFileError
from callgate.text import visible

MAX_BYTES = 32 * 1024 * 1024
LOCK_S = 10.0
"""How long one command waits for another that changes client files."""
BACKUPS_EACH = 20
"""Backups kept of one file."""
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read: `text` without the byte order mark, and every line end as it stands."""

    path: str
    data: bytes
    text: str
    bom: str
    status: os.stat_result

    def encoded(self, text: str) -> bytes:
        """Another text in the same clothes."""
        return (self.bom + text).encode()


def read(path: str, *, private: bool = False) -> Content:
    """Read a regular file of at most MAX_BYTES of UTF-8. Raises ClientFileError.

    With `private`, a file that others may write is refused.
    """
    shown = visible(path, 300)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ClientFileError(f"{shown} is no regular file", next_step="nothing to do")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ClientFileError(f"cannot read {shown}: {error.strerror}", next_step="check its mode") from error
    if len(data) > MAX_BYTES:
        raise ClientFileError(f"{shown} is larger than {MAX_BYTES} bytes", next_step="make it smaller")
    if private and hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        raise ClientFileError(
            f"{shown} could be changed by others",
            effect="what it says was not believed, nothing was changed",
            next_step="look at it, then: chmod 600",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ClientFileError(f"{shown} is not UTF-8", next_step="save it as UTF-8") from error
    bom = _BOM if text.startswith(_BOM) else ""
    return Content(path, data, text[len(bom) :], bom, status)


def check_replaceable(content: Content) -> None:
    """Whether the file may be replaced. Raises ClientFileError."""
    shown = visible(content.path, 300)
    if not os.access(content.path, os.W_OK):
        raise ClientFileError(f"{shown} is read-only for you", next_step="change it where it is made, or its mode")
    if not os.access(os.path.dirname(content.path), os.W_OK):
        raise ClientFileError(f"the directory of {shown} is read-only for you", next_step="change its mode")
    if content.status.st_nlink > 1:
        raise ClientFileError(
            f"{shown} has {content.status.st_nlink} names (hard links), which a replacement would part",
            next_step="make it a symbolic link",
        )


def temporary(path: str) -> str:
    """Where the next version of a file is written."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.callgate-tmp")


def tidy(path: str) -> None:
    """Remove what an interrupted command left beside a file; the caller holds the lock. Raises ClientFileError."""
    try:
        _remove(temporary(path))
    except OSError as error:
        raise ClientFileError(
            f"cannot remove {visible(temporary(path), 300)}: {error.strerror}", next_step="remove it"
        ) from error


def replace(content: Content, text: str) -> None:
    """Put `text` in the place of what was read. Raises ClientFileError, when somebody changed the file meanwhile too.

    The caller holds the lock, has judged `text`, and has a backup.
    """
    check_replaceable(content)
    data = content.encoded(text)
    beside = temporary(content.path)
    shown = visible(content.path, 300)
    try:
        _remove(beside)
        _write_new(beside, data, content.status)
        _copy_attributes(content.path, beside)
        if read(beside).data != data:
            raise ClientFileError(f"what was written beside {shown} is not what was read back", next_step="check disk")
        if read(content.path).data != content.data:
            raise ClientFileError(f"{shown} was changed by another program just now", next_step="try again")
        os.replace(beside, content.path)
        _sync_directory(os.path.dirname(content.path))
    except OSError as error:
        raise ClientFileError(f"cannot replace {shown}: {error.strerror}", next_step="check the disk") from error
    finally:
        _remove(beside)


def _write_new(path: str, data: bytes, like: os.stat_result | None) -> None:
    """A new file, synced; as private as possible until it has the mode of `like`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if like is not None and hasattr(os, "fchmod"):
            made = os.fstat(descriptor)
            if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
        os.fsync(descriptor)


def _copy_attributes(source: str, target: str) -> None:
    if not hasattr(os, "listxattr"):
        return
    try:
        for name in os.listxattr(source):
            os.setxattr(target, name, os.getxattr(source, name))
    except OSError:
        return  # a file system without them, or labels the system sets itself


def write_private(path: Path, data: bytes) -> None:
    """Write a file of callgate's own, mode 0600: whole or not at all. Raises ClientFileError."""
    beside = temporary(str(path))
    try:
        _remove(beside)
        _write_new(beside, data, None)
        os.replace(beside, path)
        _sync_directory(str(path.parent))
    except OSError as error:
        raise ClientFileError(
            f"cannot write {visible(str(path), 300)}: {error.strerror}",
            effect="nothing was changed",
            next_step="check the disk and the state directory",
        ) from error


def backup(state: Path, client: str, content: Content, data: bytes | None = None) -> Path:
    """Keep the file, or `data` in its place, in `backups/` of the state directory (0600). Raises ClientFileError."""
    folder = state / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    tail = f"{client}-{os.path.basename(content.path)}"
    now = time.time_ns() // 1000
    path = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now // 1_000_000))}.{now % 1_000_000:06}Z-{tail}"
    write_private(path, content.data if data is None else data)
    kept = sorted(one for one in folder.iterdir() if one.name.partition("-")[2] == tail)
    for old in kept[:-BACKUPS_EACH]:
        old.unlink(missing_ok=True)
    return path


@contextmanager
def lock(state: Path) -> Iterator[None]:
    """One command at a time changes client files. Raises ClientFileError after LOCK_S seconds."""
    path = state / "clients.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        until = time.monotonic() + LOCK_S
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                raise ClientFileError(
                    "another callgate changes client files", effect="nothing was changed", next_step="wait for it"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _sync_directory(path: str) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
