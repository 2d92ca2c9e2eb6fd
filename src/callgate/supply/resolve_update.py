"""What an update would bring: a newer release fetched beside the locked one, and compared. Nothing of it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from callgate.errors import TrustError
from callgate.supply import code_diff
from callgate.supply.code_diff import CodeDiff
from callgate.supply.lockfile import LockedServer
from callgate.supply.resolve import Options, discard, prepare

Definitions: TypeAlias = Callable[[LockedServer], Mapping[str, str]]
"""Digests of the definitions of a server that is in the store: whoever gives it starts the server in its sandbox."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An update that was fetched and not taken yet."""

    before: LockedServer
    after: LockedServer
    diff: CodeDiff
    definitions: tuple[str, ...] = ()
    """Names of definitions that were added, changed or removed, with that word; empty: none, or not known."""

    @property
    def nothing(self) -> bool:
        """Whether both are the same artefacts."""
        return self.before.artefacts_digest == self.after.artefacts_digest and self.before.tree == self.after.tree

    @property
    def older(self) -> bool:
        """Whether the version goes back."""
        return version_key(self.after.version) < version_key(self.before.version)


def propose(before: LockedServer, state: Path, options: Options, definitions: Definitions | None = None) -> Proposal:
    """Resolve the server's launch line anew, fetch, compare. Raises TrustError.

    What is not taken should be given to `drop`.
    """
    after = prepare(before.name, before.argv, state=state, known=before, options=replace(options, fresh=True))
    after = replace(after, sandbox=before.sandbox, secrets=before.secrets, definitions=before.definitions)
    if before.artefacts_digest == after.artefacts_digest:
        return Proposal(before, after, CodeDiff())
    try:
        diff = code_diff.compare(state, before, after) if before.store else CodeDiff()
        changed: tuple[str, ...] = ()
        if definitions and before.definitions:
            now = dict(definitions(after))
            changed = _definition_changes(before.definitions, now)
            after = replace(after, definitions=now)
    except TrustError:
        discard(state, after)
        raise
    return Proposal(before, after, diff, changed)


def drop(proposal: Proposal, state: Path, lock: Path | None = None) -> None:
    """Remove from the store what was fetched for a proposal that is not taken; `lock` as in `discard`."""
    if proposal.after.record != proposal.before.record:
        discard(state, proposal.after, lock)


def _definition_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{name} ({'added' if name not in before else 'removed' if name not in after else 'changed'})"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """A key that orders the versions of one package: numbers as numbers, a pre-release before its release."""
    core, _, tail = version.partition("+")[0].partition("-")
    key: list[tuple[int, int, str]] = []
    number = ""
    for char in core + ".":
        if char.isascii() and char.isdigit():
            number += char
            continue
        if number:
            key.append((2, int(number[:18]), ""))
            number = ""
        if char.isalpha():
            while key and key[-1] == (2, 0, ""):
                key.pop()
            key.append((0, 0, char))  # 1.0rc1 comes before 1.0 and its missing parts
    while key and key[-1] == (2, 0, ""):
        key.pop()
    if tail:
        key += [
            (0, int(part[:18]), "") if part.isascii() and part.isdigit() else (0, 0, part) for part in tail.split(".")
        ]
    return (*key, (1, 0, ""))
