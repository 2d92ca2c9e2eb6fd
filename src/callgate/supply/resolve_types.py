"""What resolving and fetching hand to each other."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from callgate.errors import TrustError
from callgate.supply.cooldown import Cooldown
from callgate.supply.launch_line import LaunchLine
from callgate.supply.lockfile import Artefact, Entry
from callgate.text import visible


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be resolved."""

    line: LaunchLine
    state: Path
    cooldown: Cooldown
    version: str = ""
    """This version and no other; empty: what the line asks for."""
    allow_sdist: bool = False
    """Whether Python packages may be built here, which runs their code."""
    cwd: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the registry offers, not yet fetched."""

    kind: str
    package: str
    version: str
    purl: str
    artefacts: tuple[Artefact, ...]
    published: str = ""
    cooldown: str = ""
    publisher: tuple[str, ...] = ()
    install_scripts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What signatures within the artefact itself say."""
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """For the fetching part of the same module."""

    @property
    def digest(self) -> str:
        """Over all artefacts: the same on every platform."""
        return artefacts_digest(self.artefacts)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is in the store now, and how to start it."""

    entry: Entry
    store: str = ""
    record: str = ""
    tree: str = ""
    platform: str = ""
    install_scripts: tuple[str, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    """Replaces the resolved ones where fetching told more; empty: they stay."""


def artefacts_digest(artefacts: tuple[Artefact, ...]) -> str:
    """`sha256:` over names and digests, in any order."""
    lines = sorted(f"{one.purl} {' '.join(sorted({one.digest, *one.others}))}\n" for one in artefacts)
    return "sha256:" + sha256("".join(lines).encode()).hexdigest()


def platform_name(*more: str) -> str:
    """What a tree depends on beside its artefacts, as `linux-x86_64-...`."""
    return "-".join((sys.platform, platform.machine(), *more))


def refuse_placeholders(words: tuple[str, ...]) -> None:
    """Arguments that would be taken for placeholders of the lock. Raises TrustError."""
    for word in words:
        if "{store}" in word or "{runtime}" in word:
            raise TrustError(
                f"the argument {visible(word, 80)!r} holds what stands for something else in a lock",
                next_step="write the path itself",
            )


def inside(top: Path, relative: str, what: str) -> Path:
    """A path of a package, kept within it. Raises TrustError."""
    place = os.path.normpath(os.path.join(top, relative))
    if not (place == str(top) or place.startswith(f"{top}{os.sep}")) or not os.path.realpath(place).startswith(
        os.path.realpath(top) + os.sep
    ):
        raise TrustError(f"{what} leaves the package: {visible(relative, 120)}", next_step="do not use this package")
    return Path(place)
