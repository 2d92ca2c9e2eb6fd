"""What this machine has seen of signed locks: so that an older one, well signed, does not come back.

`trust/locks.json` in the state directory holds for each lock file its id, the highest counter and the digest of the
statement that had it. It is as private as the state directory; who can write there can start programs anyway.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from callgate.errors import TrustError
from callgate.supply.place import parse_object, read, write
from callgate.supply.statement import LockStatement
from callgate.text import visible


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest statement seen for one lock file."""

    lock: str
    counter: int
    statement: str
    """SHA-256 of its payload."""


def directory(state: Path) -> Path:
    """`trust/` of the state directory, made with mode 0700."""
    place = state / "trust"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def last_seen(state: Path, lock: Path) -> Seen | None:
    """What was seen for the lock at this path. Raises TrustError when the record is damaged."""
    return _load(state).get(_key(lock))


def accept(state: Path, lock: Path, statement: LockStatement) -> None:
    """Remember a verified statement. Raises TrustError for an older one, and for another lock's."""
    now = Seen(statement.lock, statement.counter, hashlib.sha256(statement.payload).hexdigest())
    with locked(state):
        known = _load(state)
        before = known.get(_key(lock))
        if before == now:
            return
        shown = visible(str(lock), 300)
        if before is not None and before.lock != now.lock:
            raise TrustError(
                f"{shown} is not the lock that was here before, though it is well signed",
                next_step="if it was made anew on purpose: callgate trust sign --forget",
            )
        if before is not None and (now.counter, now.statement) != (before.counter, before.statement):
            if now.counter < before.counter:
                raise TrustError(
                    f"{shown} is older than the one used before (signed {visible(statement.issued, 40)})",
                    next_step="get the newest one; going back on purpose: callgate trust sign --forget",
                )
            if now.counter == before.counter:
                raise TrustError(
                    f"{shown} has the number of another version", next_step="have it signed again by its owner"
                )
        known[_key(lock)] = now
        _save(state, known)


def forget(state: Path, lock: Path) -> bool:
    """Forget what was seen of the lock at this path. False when nothing was."""
    with locked(state):
        known = _load(state)
        had = known.pop(_key(lock), None) is not None
        if had:
            _save(state, known)
        return had


def _key(lock: Path) -> str:
    return os.path.realpath(lock)


def _file(state: Path) -> Path:
    return directory(state) / "locks.json"


def _load(state: Path) -> dict[str, Seen]:
    path = _file(state)
    if not path.exists():
        return {}
    document: dict[str, Any] = parse_object(read(path, what="record"), "the record of locks")
    try:
        return {
            key: Seen(str(one["lock"]), int(one["counter"]), str(one["statement"])) for key, one in document.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise TrustError(
            f"{visible(str(path), 300)} is damaged", next_step="move it away; older locks are then not noticed once"
        ) from error


def _save(state: Path, known: dict[str, Seen]) -> None:
    document = {
        key: {"lock": one.lock, "counter": one.counter, "statement": one.statement} for key, one in known.items()
    }
    write(_file(state), orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """One process at a time changes what lies in `trust/`."""
    descriptor = os.open(directory(state) / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
