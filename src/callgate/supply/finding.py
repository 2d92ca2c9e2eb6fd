"""What was found in an artefact before anything of it ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Weight: TypeAlias = Literal["refuse", "warn", "note"]
WEIGHTS: tuple[Weight, ...] = ("note", "warn", "refuse")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about an artefact. `what` is one line, safe to print; so is `where`, a path inside the artefact.

    `refuse`: it is not taken. `warn`: a person should look. `note`: good to know.
    """

    rule: str
    weight: Weight
    what: str
    where: str = ""


def refused(findings: Iterable[Finding]) -> bool:
    """Whether one of them forbids to take the artefact."""
    return any(finding.weight == "refuse" for finding in findings)
