"""The project locks that this machine has fetched artefacts for: `trust/known-locks.json` in the state directory.

The store is shared by all locks of a user, so what no lock refers to can only be told with all of them. Whatever
fetches for a project's lock (`callgate trust … --project DIR`) remembers where that lock is.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from callgate.errors import TrustError
from callgate.supply import lockfile, place
from callgate.supply.seen import directory, locked
from callgate.text import visible

MOST = 1000
_BYTES = 4 * 1024 * 1024


def remember(state: Path, lock: Path) -> None:
    """Keep the place of a lock; the user's own needs none. The oldest of more than MOST are forgotten."""
    path = os.path.abspath(lock)
    if path == os.path.abspath(state / lockfile.FILE_NAME):
        return
    if paths(state)[-1:] != [path]:
        with locked(state):
            _write(state, [one for one in paths(state) if one != path] + [path])


def forget(state: Path, lock: Path) -> bool:
    """Whether the lock was known. Its artefacts are then like those of any lock nobody told of."""
    path = os.path.abspath(lock)
    with locked(state):
        known = paths(state)
        if path in known:
            _write(state, [one for one in known if one != path])
    return path in known


def paths(state: Path) -> list[str]:
    """All of them, the latest last. Raises TrustError where the record is damaged."""
    file = directory(state) / "known-locks.json"
    if not file.exists():
        return []
    data = place.read(file, _BYTES, "record of locks")
    try:
        found = place.parse_object(data, "the record of locks", _BYTES).get("locks")
    except TrustError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) and os.path.isabs(one) for one in found):
        raise TrustError(
            f"{visible(str(file), 300)} is damaged",
            next_step="remove it: callgate trust verify --project DIR tells of a project's lock again",
        )
    return found


def _write(state: Path, known: list[str]) -> None:
    place.write(directory(state) / "known-locks.json", orjson.dumps({"locks": known[-MOST:]}))
