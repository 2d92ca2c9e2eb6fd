"""Version managers put small stand-ins for `python` or `node` on PATH; this finds the program behind one.

A stand-in asks its manager, with the whole home directory at hand, which version is meant here. In a sandbox it could
not; so the manager is asked before, by its own command, as the user and not as the server. That command runs outside
of every sandbox, so a manager is one only where this user keeps it: a project's own `.pyenv/bin/pyenv` is not.
"""

from __future__ import annotations

import os

from callgate.errors import SandboxError
from callgate.text import visible

_MANAGERS = {".pyenv": "pyenv", ".nodenv": "nodenv", ".asdf": "asdf", "mise": "mise"}
"""The directory above `shims`, and the manager's command."""
_PLACES = {
    "pyenv": ("PYENV_ROOT", "~/.pyenv"),
    "nodenv": ("NODENV_ROOT", "~/.nodenv"),
    "asdf": ("ASDF_DATA_DIR", "~/.asdf"),
    "mise": ("MISE_DATA_DIR", "~/.local/share/mise"),
    "volta": ("VOLTA_HOME", "~/.volta"),
}
"""Where a user keeps a manager: a variable of callgate's own environment, and the usual directory."""
_VOLTA = "volta-shim"
_SECONDS = 10.0


def behind(program: str, cwd: str) -> str:
    """The program that a stand-in stands for; `program` itself where it is none. Raises SandboxError."""
    folder = os.path.dirname(program)
    if os.path.basename(folder) == "shims":
        root = os.path.dirname(folder)
        manager = _MANAGERS.get(os.path.basename(root), "")
    elif os.path.islink(program) and os.path.basename(os.path.realpath(program)) == _VOLTA:
        root, manager = os.path.dirname(folder), "volta"
    else:
        return program
    if not manager:
        return program
    if os.path.realpath(root) not in _kept(manager):
        raise SandboxError(
            f"'{visible(program, 200)}' asks {manager} which program is meant, and yours is not kept there",
            next_step=f"give the program's full path; or, if it is yours, set {_PLACES[manager][0]} to its directory",
        )
    command = _command(manager, root)
    return _ask(command, os.path.basename(program), cwd, program)


def _kept(manager: str) -> set[str]:
    variable, usual = _PLACES[manager]
    places = (os.environ.get(variable, ""), os.path.expanduser(usual))
    return {os.path.realpath(one) for one in places if os.path.isabs(one)}


def _command(manager: str, root: str) -> str:
    own = os.environ.get("PATH", os.defpath)  # callgate's, not the one the server was given
    places = [os.path.join(root, "bin", manager)]
    places += [os.path.join(one, manager) for one in own.split(os.pathsep) if os.path.isabs(one)]
    for place in places:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    raise SandboxError(
        f"'{manager}' manages this program, and cannot be found",
        next_step=f"put the program itself into the command: {manager} which PROGRAM says where it is",
    )


def _ask(command: str, name: str, cwd: str, program: str) -> str:
    import subprocess

    try:
        answer = subprocess.run(
            [command, "which", name],
            cwd=cwd,
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
