"""Removing trees of the store that no lock refers to.

Known are the user's own lock, `launch.lock` of the configuration, and the project locks that were fetched for here
(known_locks.py). A tree that none of them names stays while it is young, since a lock may have it that nobody told of,
and while a server that was started from it may run: each start holds a shared lock on its tree (pinned.py).
A tree is renamed before it is removed: after a crash it is whole, or it is rubbish that the next one clears away.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from callgate.errors import TrustError
from callgate.supply import artefacts, known_locks, lockfile
from callgate.text import visible

DAYS = 30
LEAST_S = 3600.0
"""The least age of what is removed: it may be in the middle of being locked."""
_KINDS = ("local", "mcpb", "npm", "pypi")
Fate: TypeAlias = Literal["unused", "young", "in use", "removed"]


@dataclass(frozen=True, slots=True)
class Tree:
    """One directory of the store that no known lock refers to."""

    record: str
    """Its place below `artefacts/`."""
    age_s: float
    size: int
    """Bytes on disk."""
    fate: Fate


@dataclass(frozen=True, slots=True)
class Pruned:
    """What there was to remove, and what was."""

    trees: tuple[Tree, ...]
    """Without a reference; not those that a lock names."""
    kept: int
    """How many a lock names."""
    locks: tuple[str, ...]
    """The locks that were read."""
    gone: tuple[str, ...]
    """Known locks that are not there any more."""


def prune(state: Path, more: Iterable[Path] = (), *, days: float = DAYS, remove: bool = False) -> Pruned:
    """Find, and with `remove` remove, what no lock refers to and is older than `days`. Raises TrustError.

    `more` are locks beside the user's own and the known ones. A lock that is there and cannot be read ends it: what it
    refers to is not known then.
    """
    with artefacts.store_lock(state):
        named, read, gone = _references(state, more)
        trees = []
        kept = 0
        for record, path in _records(artefacts.root(state)):
            if record in named:
                kept += 1
            else:
                trees.append(_judged(state, record, path, max(days * 86400.0, LEAST_S), remove=remove))
    return Pruned(tuple(trees), kept, read, gone)


def _references(state: Path, more: Iterable[Path]) -> tuple[set[str], tuple[str, ...], tuple[str, ...]]:
    """Records that locks name, the locks that were read, and those that are gone."""
    known = [str(state / lockfile.FILE_NAME), *(str(one) for one in more), *known_locks.paths(state)]
    named: set[str] = set()
    read, gone = [], []
    for path in dict.fromkeys(known):
        try:
            if not lockfile.exists(path):
                gone.append(path)
                continue
            lock = lockfile.load(Path(path))
        except TrustError as error:
            raise TrustError(
                f"what {visible(path, 200)} refers to cannot be told: {error.what}",
                effect="nothing was removed",
                next_step="mend it; a project's lock can be forgotten: "
                f"callgate trust prune --forget {visible(path, 200)}",
            ) from error
        read.append(path)
        named |= {one.record for one in lock.servers.values() if one.record}
    own = str(state / lockfile.FILE_NAME)
    return named, tuple(read), tuple(one for one in gone if one != own)


def _records(root: Path) -> list[tuple[str, Path]]:
    """All directories of the store, by their record."""
    found = []
    for kind in _KINDS:
        folder = root / kind
        if folder.is_dir() and not folder.is_symlink():
            every = [one for one in sorted(folder.iterdir()) if one.is_dir() and not one.is_symlink()]
            found += [(f"{kind}/{one.name}", one) for one in every]
    return found


def _judged(state: Path, record: str, path: Path, least_s: float, *, remove: bool) -> Tree:
    age = max(0.0, time.time() - path.lstat().st_mtime)
    size = _size(path)
    if age < least_s:
        return Tree(record, age, size, "young")
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a file system that does not tell
            return Tree(record, age, size, "in use")
        if not remove:
            return Tree(record, age, size, "unused")
        away = artefacts.root(state) / f".new-{os.urandom(6).hex()}"
        os.rename(path, away)
        artefacts.sync_directory(path.parent)
        artefacts.remove(away)
        return Tree(record, age, size, "removed")
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    total = 0
    for name, _, files in os.walk(path):
        for one in files:
            total += os.lstat(os.path.join(name, one)).st_blocks * 512
    return total
