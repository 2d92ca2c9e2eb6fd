"""What is known against a package: look-alike names, vulnerabilities and malware, what a team's catalogue denies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from callgate.errors import TrustError
from callgate.supply import catalogue, osv, publisher
from callgate.supply.lockfile import LockedServer
from callgate.supply.lookalikes import Ecosystem, look_alikes
from callgate.text import visible


@dataclass(frozen=True, slots=True)
class Warned:
    """One line for a person. `refuses`: it is not taken, whatever the person says."""

    text: str
    refuses: bool = False


def package_warnings(server: LockedServer, state: Path) -> list[Warned]:
    """Everything known against what a server is started from: its name, and all its packages' versions.

    Advisories are those of the index in the state directory; without one, none are known. What a catalogue denies is
    refused, and so is everything while a catalogue has expired or cannot be read: what it denies is not known then.
    """
    if server.kind not in ("npm", "pypi"):
        return []
    found = [
        Warned(f"look-alike: {one.describe(server.package)}")
        for one in look_alikes(cast("Ecosystem", server.kind), server.package)
    ]
    if osv.index_path(state).exists():
        for artefact in server.artefacts:
            for advisory in osv.check(state, artefact.purl):
                refuses = advisory.malicious and advisory.certain
                found.append(Warned(f"{artefact.purl}: {advisory.describe()}", refuses=refuses))
    return [*found, *_denied(server, state)]


def _denied(server: LockedServer, state: Path) -> Iterator[Warned]:
    """What the catalogues that are set up say of a server's package and all it needs."""
    for name in catalogue.names(state):
        try:
            denials = catalogue.load(state, name).denials([server.purl, *(one.purl for one in server.artefacts)])
        except TrustError as error:
            yield Warned(f"{error.what}; {error.next_step}", refuses=True)
            continue
        for purl, denied in denials.items():
            reason = visible(denied.reason, 200) or "no reason told"
            yield Warned(f"{visible(purl, 150)}: denied by the catalogue {name}: {reason}", refuses=True)


def publisher_change(before: LockedServer | None, after: LockedServer) -> list[Warned]:
    """What became of a publisher who was known and verified: gone, or somebody else. [] while it is the same one."""
    if before is None or before.package != after.package:
        return []
    found = publisher.change(before.provenance, after.provenance)
    return [Warned(found)] if found else []


def refuse(server: LockedServer, state: Path, known: LockedServer | None = None) -> None:
    """Where nobody can be asked, what speaks against a package refuses it. Raises TrustError."""
    found = [*publisher_change(known, server), *package_warnings(server, state)]
    if found:
        name = visible(server.name, 64)
        raise TrustError(
            "; ".join(one.text for one in found[:3]),
            next_step=f"look at it; if it is what you mean: callgate trust lock {name} -- COMMAND",
        )
