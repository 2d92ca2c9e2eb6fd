"""What is known against a package, for the actions that ask a person about it."""

from __future__ import annotations

from pathlib import Path

from callgate.supply.lockfile import LockedServer
from callgate.supply.resolve_checks import Warned, package_warnings, publisher_change

__all__ = ["Warned", "package_warnings", "warnings"]


def warnings(before: LockedServer | None, after: LockedServer, state: Path) -> list[Warned]:
    """All of it, and what became of the publisher that `before` had."""
    return [*publisher_change(before, after), *package_warnings(after, state)]
