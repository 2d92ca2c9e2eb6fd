r"""The compiled pattern database on disk.

A serialised Hyperscan database is code in all but name: one written by somebody else could make the scanner
read out of bounds. So it is taken only from a regular file that belongs to this user and that nobody else can
read or write, in a directory nobody else can write, and only if its SHA-256 matches. Anything else counts
as absent: the patterns are compiled again and the file replaced in one step. Failing to write is no error,
the next start compiles again.

File: 8 bytes `CGHSDB1\n`, 32 bytes SHA-256 of the rest, the database. Its name holds the hash of the patterns,
the library's version, the machine and its host name, so a state directory shared by machines works.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_MAGIC = b"CGHSDB1\n"
_HEADER = len(_MAGIC) + 32
MAX_BYTES = 64 * 1024 * 1024
"""Largest database that is read back."""


class DatabaseCache:
    """The place of one database in `directory`, which is made with mode 0700 if missing."""

    __slots__ = ("directory", "path")

    def __init__(self, directory: Path, patterns: Sequence[tuple[str, bytes]], version: str) -> None:
        digest = hashlib.sha256()
        host = os.uname() if hasattr(os, "uname") else None
        for part in (version, host.machine if host else "", host.nodename if host else ""):
            digest.update(f"{len(part)}:{part}".encode())
        for name, expression in patterns:
            digest.update(b"%d:%d:" % (len(name.encode()), len(expression)) + name.encode() + expression)
        self.directory = directory
        self.path = directory / f"patterns-{digest.hexdigest()[:32]}.hsdb"

    def read(self) -> bytes | None:
        """The database, or None when there is none that can be trusted."""
        try:
            if not _private(os.stat(self.directory), 0o022):
                return None
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (OSError, AttributeError):
            return None
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode) or not _private(state, 0o077) or state.st_size > MAX_BYTES:
                return None
            with open(file, "rb", closefd=False) as stream:
                content = stream.read(MAX_BYTES + 1)
        except OSError:
            return None
        finally:
            os.close(file)
        database = content[_HEADER:]
        if not content.startswith(_MAGIC) or hashlib.sha256(database).digest() != content[len(_MAGIC) : _HEADER]:
            return None
        return database

    def write(self, database: bytes) -> None:
        """Replace the file in one step, readable by this user only."""
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(file, "wb") as stream:
                stream.write(_MAGIC + hashlib.sha256(database).digest() + database)
            os.replace(part, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()


def _private(state: os.stat_result, forbidden: int) -> bool:
    return state.st_uid == os.geteuid() and not state.st_mode & forbidden
