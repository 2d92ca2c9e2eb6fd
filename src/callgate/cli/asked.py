"""The one question a person is asked before a command changes something."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from callgate.errors import ConfigError

if TYPE_CHECKING:
    import argparse


def agreed(question: str, arguments: argparse.Namespace) -> bool:
    """Whether files may be written: --dry-run, --yes or the answer; what is left undone is said."""
    if arguments.dry_run:
        print("dry run: nothing was written")
        return False
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        print("nothing was written: nobody is there to agree; --yes agrees")
        return False
    if _answer(question):
        return True
    print("nothing was written")
    return False


def confirmed(question: str, *, yes: bool, effect: str, next_step: str) -> bool:
    """The answer of a person, or --yes. Raises ConfigError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("this needs a yes, and there is no terminal to ask on", effect=effect, next_step=next_step)
    return _answer(question)


def _answer(question: str) -> bool:
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
