"""Changing `grants.json`: one command at a time, all of a change or nothing of it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from callgate.errors import SecretError
from callgate.frozen import replace
from callgate.text import visible
from callgate.vault.grants import FILE_NAME, MOST_BYTES, MOST_GRANTS, VERSION, Grant, Grants, check, read, seal

LOCK_S: Final = 10.0
"""How long one command waits for another."""


class Draft:
    """The grants as they will be."""

    def __init__(self, found: Grants) -> None:
        self.grants = dict(found.grants)
        self.configurations = dict(found.configurations)
        self.elsewhere = found.elsewhere

    def add(self, grants: Iterable[Grant]) -> None:
        """Grant these; one that is there already gets their owners too. Raises SecretError."""
        for new in grants:
            old = self.grants.get(new.key)
            owners = dict.fromkeys((*(old.owners if old else ()), *new.owners))
            at = (old.at if old else new.at) or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            one = self.grants[new.key] = replace(new, owners=tuple(owners), at=at)
            try:
                check(one)
            except ValueError:
                raise SecretError(
                    f"{visible(one.reference, 120)} cannot be granted to this",
                    next_step="write its command in fewer words, as UTF-8",
                ) from None

    def revoke(self, grants: Iterable[Grant]) -> None:
        """Take these back, whoever granted them."""
        for one in grants:
            self.grants.pop(one.key, None)

    def believe(self, path: str, owner: str) -> None:
        """References in this configuration are the user's own."""
        real = os.path.realpath(path)
        self.configurations[real] = tuple(dict.fromkeys((*self.configurations.get(real, ()), owner)))

    def disbelieve(self, path: str) -> bool:
        """They are not; whether they were."""
        return self.configurations.pop(os.path.realpath(path), None) is not None

    def release(self, gone: Callable[[str, Grant | None], bool]) -> None:
        """Take owners off grants, and off configurations (None); what has none left is revoked."""
        kept = (
            replace(one, owners=tuple(owner for owner in one.owners if not gone(owner, one)))
            for one in self.grants.values()
        )
        self.grants = {one.key: one for one in kept if one.owners}
        found = {
            path: tuple(owner for owner in owners if not gone(owner, None))
            for path, owners in self.configurations.items()
        }
        self.configurations = {path: owners for path, owners in found.items() if owners}


@contextmanager
def changing(state: Path) -> Iterator[Draft]:
    """Read, change, write; nothing is written where nothing changed or something was raised. Raises SecretError."""
    try:
        descriptor = os.open(state / "grants.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unwritten(state, error) from None
    try:
        _lock(descriptor)
        before = read(state)
        draft = Draft(before)
        yield draft
        if (draft.grants, draft.configurations) != (before.grants, before.configurations):
            _write(state, draft)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    until = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > until:
                raise SecretError(
                    "another callgate changes what secrets are granted to",
                    effect="nothing was changed",
                    next_step="wait for it",
                ) from None
        time.sleep(0.02)


def _write(state: Path, draft: Draft) -> None:
    lines = ",\n".join(json.dumps(_plain(one)) for one in draft.grants.values())
    here = f'{{"configurations": {json.dumps(draft.configurations)},\n"grants": [\n{lines}\n]}}'
    others = "".join(f"{json.dumps(place)}: {json.dumps(one)},\n" for place, one in draft.elsewhere.items())
    data = f'{{"version": {VERSION}, "places": {{\n{others}"{seal(state)}": {here}}}}}\n'.encode()
    if len(data) > MOST_BYTES or len(draft.grants) + len(draft.configurations) > MOST_GRANTS:
        raise SecretError(
            f"there would be more than {MOST_GRANTS} grants, or {MOST_BYTES} bytes of them",
            effect="nothing was changed",
            next_step="callgate secrets grants shows them, callgate secrets revoke takes some back",
        )
    path = state / FILE_NAME
    beside = state / f".{FILE_NAME}.callgate-tmp"
    try:
        beside.unlink(missing_ok=True)  # of a command that was killed: the lock is ours
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _unwritten(state, error) from None


def _plain(one: Grant) -> dict[str, object]:
    return {
        "reference": one.reference,
        "command": list(one.command),
        "url": one.url,
        "start": one.start,
        "owners": list(one.owners),
        "at": one.at,
    }


def _unwritten(state: Path, error: OSError) -> SecretError:
    return SecretError(
        f"what secrets are granted to cannot be written to {visible(str(state), 300)}: {error.strerror}",
        effect="nothing was changed",
        next_step="check the disk and the state directory",
    )
