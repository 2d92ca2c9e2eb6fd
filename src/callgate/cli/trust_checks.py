"""What is known against a package, for the actions that ask a person about it."""

from __future__ import annotations

from callgate.supply.resolve_checks import Warned, package_warnings

__all__ = ["Warned", "package_warnings"]
