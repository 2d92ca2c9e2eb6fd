"""A whole tree against its lock: reads every file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from callgate.errors import TrustError
from callgate.supply import artefacts, place
from callgate.supply.local_rules import skipped
from callgate.supply.lockfile import LockedServer
from callgate.supply.resolve_types import artefacts_digest as resolved_digest
from callgate.text import visible

SHOWN = 5


def whole(name: str, entry: Mapping[str, Any], tree: str, record: str) -> None:
    """Compare, then renew the record of the quick check where only times or inodes had changed. Raises TrustError."""
    local = not entry["store"]
    text = artefacts.listing(Path(tree), skip=skipped if local else None)
    found = artefacts.tree_digest(text)
    known = Path(record).parent / artefacts.FILES
    if found != _expected(entry, Path(record).parent):
        what = differences(known, _expected(entry, Path(record).parent), text)
        raise TrustError(
            f"files of server {visible(name, 100)} are not as they were locked: {what}",
            effect="the server was not started",
            next_step=(
                f"if you changed them yourself: callgate trust lock {visible(name, 100)}"
                if local
                else f"fetch them again: callgate trust lock {visible(name, 100)}; and find out who changed them"
            ),
        )
    quick = artefacts.quick(Path(tree), entry["entry"]["own"], skipped if local else None)
    if os.path.isdir(os.path.dirname(record)):
        place.write(Path(record), quick, 0o400)


def problems(server: LockedServer, lock: Path, state: Path, *, signed: bool = False) -> list[TrustError]:
    """Everything about a server that is not as it was locked; reads every file of its tree. `signed`: see pinned.py."""
    from callgate.supply.pinned import pinned_launch

    found = []
    try:
        pinned_launch(server.name, server.argv, [lock], state, signed=signed)
    except TrustError as error:
        found.append(error)
    if server.tree and (not found or os.path.isdir(artefacts.root(state) / server.record)):
        tree = str(artefacts.root(state) / server.store) if server.store else server.entry.tree_root
        try:
            whole(server.name, asdict(server), tree, str(artefacts.root(state) / server.record / artefacts.QUICK))
        except TrustError as error:
            if all(error.what != one.what for one in found):
                found.append(error)
    if resolved_digest(server.artefacts) != server.artefacts_digest:
        found.append(
            TrustError(
                f"the artefacts of server {visible(server.name, 100)} do not have the digest the lock gives for all",
                next_step=f"lock it again: callgate trust lock {visible(server.name, 100)}",
            )
        )
    return found


def _expected(entry: Mapping[str, Any], folder: Path) -> str:
    """The tree digest of the lock; where that was made on another platform, the one of what was unpacked here."""
    try:
        here = place.read(folder / "platform", 1000).decode("utf-8", "replace")
    except TrustError:
        return str(entry["tree"])
    if here == entry["platform"]:
        return str(entry["tree"])
    data = place.read(folder / artefacts.FILES, 256 * 1024 * 1024)
    return artefacts.tree_digest(data.decode("utf-8", "surrogateescape"))


def differences(known: Path, digest: str, text: str) -> str:
    """Which files differ, as far as the stored listing is still the one that was locked."""
    try:
        data = place.read(known, 256 * 1024 * 1024).decode("utf-8", "surrogateescape")
    except (TrustError, UnicodeDecodeError):
        return "the listing of what they were is gone"
    if digest and artefacts.tree_digest(data) != digest:
        return "the listing of what they were was changed too"
    before, after = artefacts.parse_listing(data), artefacts.parse_listing(text)
    parts = [
        (one, "changed" if one in after and one in before else "added" if one in after else "removed")
        for one in sorted(before.keys() | after.keys())
        if before.get(one) != after.get(one)
    ]
    return _short(f"{visible(one, 120)} ({what})" for one, what in parts)


def _short(parts: Iterable[str]) -> str:
    every = list(parts)
    shown = ", ".join(every[:SHOWN])
    return f"{shown} and {len(every) - SHOWN} more" if len(every) > SHOWN else shown
