"""`audit/chains.jsonl`: the list of all logs ever opened here, itself a hash chain.

Each process writes its own log, so a log that is deleted as a whole leaves no gap in any other. This
list is what misses it: a line when a log is opened (`kind: opened`) and one when it is closed in good
order (`kind: closed`, with its last `seq` and `digest`), and the signed statements of retention
(`audit/statements.py`). Each line carries `prev`, the SHA-256 of the line before, and the first record of a log
carries the digest of its `opened` line: so lines of the list cannot go while a later log is there. Written under
an advisory lock; a few times a process.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from callgate.audit.records import GENESIS, Record, canonical, digest_of

INDEX_NAME: Final = "chains.jsonl"
_TAIL: Final = 4096


def append(audit_dir: Path, fields: Record) -> str:
    """Add one line and put it on disk; the digest of the line. Raises OSError."""
    descriptor = os.open(audit_dir / INDEX_NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
        line = canonical({**fields, "prev": _last_digest(tail)})
        if tail and not tail.endswith(b"\n"):
            line = b"\n" + line  # a line torn by a crash stays, as a torn line
        written = os.write(descriptor, line)
        if written != len(line):
            os.ftruncate(descriptor, size)
            raise OSError(28, "No space left on device")
        os.fdatasync(descriptor)
        return digest_of(line.lstrip(b"\n"))
    finally:
        os.close(descriptor)


def _last_digest(tail: bytes) -> str:
    """The digest of the last whole line, or of nothing."""
    whole = tail[: tail.rfind(b"\n") + 1]
    if not whole:
        return GENESIS
    return digest_of(whole[whole.rfind(b"\n", 0, -1) + 1 :])


def lines(audit_dir: Path) -> list[bytes]:
    """The lines of the list, newline included; empty when there is none. Never half of one that is being written."""
    try:
        with open(audit_dir / INDEX_NAME, "rb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH)
            return file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []
