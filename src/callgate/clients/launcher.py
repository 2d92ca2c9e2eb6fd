"""The words that start this callgate, absolute: clients with windows start with a short PATH."""

from __future__ import annotations

import os
import shutil
import sys

from callgate.clients.entries import gate_at
from callgate.errors import ConfigError
from callgate.text import visible

_CLEANED_UP = ("/uv/archive-v0/", "/uv/builds-v0/", "/pipx/.cache/", "/.cache/pipx/")
"""Where tools keep programs they were asked to run once."""


def launcher() -> tuple[str, ...]:
    """The program to write into client files. Raises ConfigError where it would not stay."""
    candidates = (
        sys.argv[0] if os.path.basename(sys.argv[0]) == "callgate" and os.path.dirname(sys.argv[0]) else "",
        os.path.join(os.path.dirname(sys.executable), "callgate"),
        shutil.which("callgate") or "",
    )
    for path in candidates:
        if path and os.path.isfile(path) and os.access(path, os.X_OK):
            program: tuple[str, ...] = (os.path.abspath(path),)
            break
    else:
        program = (os.path.abspath(sys.executable), "-m", "callgate.cli.main")
    if any(part in os.path.realpath(program[0]) for part in _CLEANED_UP):
        raise ConfigError(
            f"{visible(program[0], 300)} is in a cache that is cleaned now and then",
            effect="no client was pointed to it",
            next_step="install callgate to stay (uv tool install, pipx install), then run it from there",
        )
    return program


def launcher_or_name() -> tuple[str, ...]:
    """As `launcher`, and the bare name where it would not stay: for looking, never for writing."""
    try:
        return launcher()
    except ConfigError:
        return ("callgate",)


def wrapper_missing(command: tuple[str, ...]) -> bool:
    """Whether the callgate that a wrapped command line names is not there."""
    words = tuple(command[0].split()) if len(command) == 1 else command
    at = gate_at(words)
    program = words[max(0, at - 1)] if words[at] == "-m" else words[at]
    if os.path.dirname(program):
        return not (os.path.isfile(program) and os.access(program, os.X_OK))
    return shutil.which(program) is None
