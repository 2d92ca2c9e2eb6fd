"""Version managers asked which program is meant: their own command, run outside of every sandbox.

So a manager is one only where this user keeps it: a project's own `.pyenv/bin/pyenv` is not, nor one that a variable of
a client's entry leads to. Of such variables it sees the version alone: others name code that a manager loads.
"""

from __future__ import annotations

import os
import subprocess

from callgate.errors import SandboxError, TrustError
from callgate.outside import caller, programs, variables
from callgate.text import visible

_PLACES = {
    "pyenv": ("PYENV_ROOT", "~/.pyenv"),
    "nodenv": ("NODENV_ROOT", "~/.nodenv"),
    "asdf": ("ASDF_DATA_DIR", "~/.asdf"),
    "mise": ("MISE_DATA_DIR", "~/.local/share/mise"),
    "volta": ("VOLTA_HOME", "~/.volta"),
}
"""Where a user keeps a manager: a variable of the user's own environment or settings, and the usual directory."""
_COMMANDS = ("~/.local/bin", "~/.cargo/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin")
"""Where managers install their command, beside the directories that only root can write to."""
_VERSIONS = ("PYENV_", "NODENV_", "ASDF_", "MISE_")
_VERSION = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:")
_SECONDS = 10.0


def ask(manager: str, root: str, program: str, cwd: str) -> str:
    """The program that the stand-in `program` of a manager in `root` means in a directory. Raises SandboxError."""
    try:
        return _ask(manager, root, program, cwd)
    except TrustError as error:
        raise SandboxError(error.what, next_step=error.next_step) from error


def _ask(manager: str, root: str, program: str, cwd: str) -> str:
    if os.path.realpath(root) not in _kept(manager):
        raise SandboxError(
            f"'{visible(program, 200)}' asks {manager} which program is meant, and yours is not kept there",
            next_step=f"give the program's full path; or, if it is yours, name its directory in your callgate.toml: "
            f'launch.variables = {{ {_PLACES[manager][0]} = "…" }}',
        )
    command = _command(manager, root)
    try:
        answer = subprocess.run(
            [command, "which", os.path.basename(program)],
            cwd=cwd,
            env={**_version(), **variables.basic(command)},
            capture_output=True,
            timeout=_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        found = os.fsdecode(answer.stdout).strip()
    except (OSError, subprocess.SubprocessError):
        found = ""
    if not os.path.isabs(found) or not os.path.isfile(found):
        raise SandboxError(
            f"'{visible(program, 200)}' stands for no program here",
            next_step=f"ask {os.path.basename(command)} which version is meant, or give the program's full path",
        )
    return found


def _kept(manager: str) -> set[str]:
    variable, usual = _PLACES[manager]
    named = caller.settings().variables.get(variable, "") or (os.environ.get(variable, "") if caller.own() else "")
    return {os.path.realpath(one) for one in (named, _at_home(usual)) if os.path.isabs(one)}


def _at_home(path: str) -> str:
    return os.path.join(caller.home(), path[2:]) if path.startswith("~/") else path


def _command(manager: str, root: str) -> str:
    own = os.path.join(root, "bin", manager)
    folders = [*programs.path(own).split(os.pathsep), *(_at_home(one) for one in _COMMANDS)]
    for place in (own, *(os.path.join(one, manager) for one in folders)):
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    raise SandboxError(
        f"'{manager}' manages this program, and cannot be found",
        next_step=f"put the program itself into the command: {manager} which PROGRAM says where it is",
    )


def _version() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_VERSIONS) and name.endswith("_VERSION") and _VERSION.issuperset(value) and ".." not in value
    }
