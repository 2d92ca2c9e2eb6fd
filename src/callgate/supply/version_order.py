"""Which of two versions is newer: semantic versions for npm, PEP 440 for PyPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_DIGITS: Final = 30
"""Digits of one number; longer ones are no version."""


def semver_key(version: str) -> tuple[Any, ...]:
    """A sort key for a semantic version (2.0.0, section 11). Build metadata does not count. Raises ValueError.

    Missing minor and patch numbers count as 0: old records in advisory databases leave them out.
    """
    core, _, _ = version.strip().removeprefix("v").partition("+")
    core, dash, before = core.partition("-")
    numbers = core.split(".")
    if not 1 <= len(numbers) <= 3 or not all(_is_number(one) for one in numbers):
        raise ValueError(f"not a semantic version: {version[:60]!r}")
    release = tuple(int(one) for one in numbers) + (0,) * (3 - len(numbers))
    if not dash:
        return (*release, 1)
    parts = before.split(".")
    if not all(part and part.isascii() and part.replace("-", "0").isalnum() for part in parts) or len(parts) > 50:
        raise ValueError(f"not a semantic version: {version[:60]!r}")
    # Numbers come before words; a shorter list comes before a longer one with the same start.
    return (*release, 0, tuple((0, int(p), "") if _is_number(p) else (1, 0, p) for p in parts))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def pep440_key(version: str) -> Any:
    """A sort key for a Python version. Raises ValueError (packaging's InvalidVersion is one)."""
    from packaging.version import Version

    if len(version) > 200:
        raise ValueError("not a version")
    return Version(version)


ORDERS: Final[dict[str, Callable[[str], Any]]] = {"npm": semver_key, "PyPI": pep440_key}
