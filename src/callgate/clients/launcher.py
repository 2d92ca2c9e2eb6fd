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
        program = heedless()
    if any(part in os.path.realpath(program[0]) for part in _CLEANED_UP):
        raise ConfigError(
            f"{visible(program[0], 300)} is in a cache that is cleaned now and then",
            effect="no client was pointed to it",
            next_step="install callgate to stay (uv tool install, pipx install), then run it from there",
        )
    return program


def heedless() -> tuple[str, ...]:
    """This callgate, started so that neither the working directory nor a PYTHON variable can give it other code.

    For entries that set such a variable for their server: the gate stands outside the sandbox, and would load the
    server's modules in the place of its own.
    """
    return (os.path.abspath(sys.executable), "-E", "-P", "-m", "callgate.cli.main")


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
    while words[at].startswith("-") and at > 0:
        at -= 1  # from `-m` back to the interpreter
    program = words[at]
    if os.path.dirname(program):
        return not (os.path.isfile(program) and os.access(program, os.X_OK))
    return shutil.which(program) is None
