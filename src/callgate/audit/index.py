"""`audit/chains.jsonl`: the list of all logs ever opened here, itself a hash chain.

Each process writes its own log, so a log that is deleted as a whole leaves no gap in any other. This
list is what misses it: a line when a log is opened (`kind: opened`) and one when it is closed in good
order (`kind: closed`, with its last `seq` and `digest`), and the signed statements of retention
(`audit/statements.py`). Each line carries `prev`, the SHA-256 of the line before, and the first record of a log
carries the digest of its `opened` line: so lines of the list cannot go while a later log is there. Written under
an advisory lock; a few times a process.

A loss of power may leave the last line torn. Its bytes stay, and the next line states them (`kind: torn`, with their
number and SHA-256); both are chained to the last whole line.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from callgate.audit.files import opened
from callgate.audit.records import GENESIS, Record, canonical, digest_of, parse
from callgate.errors import AuditError

INDEX_NAME: Final = "chains.jsonl"
TORN: Final = "torn"
_TAIL: Final = 64 * 1024
"""How far back the last whole line is looked for: what is longer was not torn by one write."""
_LIKELY: Final = 4096
_ID_CHARACTERS: Final = 100
_TRIES: Final = 100


def append(audit_dir: Path, fields: Record) -> str:
    """Add one line and put it on disk; the digest of the line. Raises OSError."""
    descriptor = locked(audit_dir / INDEX_NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        last, torn = _end(descriptor)
        prev = entry_digest(last) if last else GENESIS
        new_line = b"" if (torn or last).endswith(b"\n") or not (torn or last) else b"\n"
        if torn:
            digest = sha256(torn).hexdigest()
            now = time.time_ns() // 1000
            stated = {"bytes": len(torn), "chain": "", "kind": TORN, "prev": prev, "sha256": digest, "time": now}
            line = canonical(stated)
            _put(descriptor, new_line + line)
            prev, new_line = digest_of(line), b""
        line = canonical({**fields, "prev": prev})
        _put(descriptor, new_line + line)
        return digest_of(line)
    finally:
        os.close(descriptor)


def locked(path: Path, flags: int, kind: int = fcntl.LOCK_EX) -> int:
    """A descriptor of the list under a lock: of the file that has the name now, since compaction replaces it.

    Raises OSError.
    """
    for _ in range(_TRIES):
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(errno.EBUSY, "is replaced again and again", str(path))


def lines(audit_dir: Path) -> list[bytes]:
    """The lines of the list, newline included; empty when there is none. Never half of one that is being written.

    Raises AuditError.
    """
    path = audit_dir / INDEX_NAME
    try:
        os.close(opened(path))
        try:
            descriptor = locked(path, os.O_RDONLY | os.O_NONBLOCK, fcntl.LOCK_SH)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without locks
            descriptor = opened(path)
        with open(descriptor, "rb") as file:
            return split(file.read())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AuditError(
            f"the list of logs {path} cannot be read: {error.strerror}", next_step="without it no log can be verified"
        ) from error


def split(data: bytes) -> list[bytes]:
    """Lines with their newlines. Unlike `splitlines`, a carriage return ends none."""
    found = [line + b"\n" for line in data.split(b"\n")]
    last = found.pop()[:-1]
    return [*found, last] if last else found


def entry_of(line: bytes) -> Record | None:
    """What a line of the list says; None when it was not written whole, or is none. The newline alone may lack."""
    entry = parse(line)
    chain = entry.get("chain") if entry is not None else None
    return entry if type(chain) is str and _names_a_log(chain) else None


def _names_a_log(chain: str) -> bool:
    """Whether this may be the id of a log, the name of a directory: nothing that leads elsewhere. Or ''."""
    return not chain or (len(chain) <= _ID_CHARACTERS and chain.isascii() and chain.replace("-", "").isalnum())


def entry_digest(line: bytes) -> str:
    """The digest of a line, also of the last one where it lost its newline."""
    return digest_of(line if line.endswith(b"\n") else line + b"\n")


def _end(descriptor: int) -> tuple[bytes, bytes]:
    """The last whole line, and the bytes after it that are none."""
    size = os.fstat(descriptor).st_size
    for window in (_LIKELY, _TAIL):
        found = split(os.pread(descriptor, window, max(0, size - window)))
        for at in range(len(found) - 1, 0 if size > window else -1, -1):  # the first may be the end of one
            if entry_of(found[at]) is not None:
                return found[at], b"".join(found[at + 1 :])
        if size <= window:
            return b"", b"".join(found)
    # Nothing that one write could have left: what comes now is chained to it as it is, and verification names it.
    return found[-1], b""


def _put(descriptor: int, line: bytes) -> None:
    """Append and put on disk, or leave the file as it was. Raises OSError."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fdatasync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
