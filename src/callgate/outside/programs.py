"""Which file a program is that callgate starts outside of every sandbox: `npm`, `node`, `uv`, `python3`, `op`, engines.

A command of the user's own takes it from the user's PATH, as a shell would. What a client starts takes, in this order:

1. the one that the user's configuration names (`launch.programs`);
2. the one that the user's own commands found last (`remembered`);
3. the first on PATH, if only root can have put it there, or it belongs to callgate's own installation.

Anything else is refused: an entry's PATH may lead to a program of a project's, and the next best one would be taken in
silence. Relative and empty parts of PATH count nowhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from callgate.errors import TrustError
from callgate.outside import caller, places, remembered
from callgate.text import visible

KNOWN = ("npm", "node", "uv", "python3", "op", "docker", "podman", "nerdctl")
"""What is remembered. Others, as `python3.12`, are looked for in the directories of these."""
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")


def find(name: str) -> str:
    """The program; '' where there is none. Raises TrustError for one that may not be started here."""
    if os.sep in name:
        return _by_path(name)
    named = caller.settings().programs.get(name, "")
    if named:
        if not _is_program(named):
            raise TrustError(
                f"launch.programs.{visible(name, 40)} is {visible(named, 200)}, and that is no program",
                next_step="correct your callgate.toml",
            )
        return named
    if caller.own():
        return _of_the_user(name)
    known = _remembered().get(name, "")
    if known:
        return known
    found = next(_on_path(name), "")
    if not found or _trusted(found):
        return found or _beside(name)
    raise TrustError(
        f"{visible(name, 40)} would be started outside the sandbox, and a client's entry decides which one that is: "
        f"{visible(found, 200)} is none that you have used, nor one that only root can have put there",
        next_step=f"run callgate doctor in a terminal where {visible(name, 40)} is the one you want, or name it in "
        f'your callgate.toml: launch.programs = {{ {visible(name, 40)} = "/…/{visible(name, 40)}" }}',
    )


def path(program: str) -> str:
    """The PATH for a program that is started: what it starts in turn is found there and nowhere else."""
    beside = [os.path.dirname(program)]
    if os.path.basename(program) == "npm":  # its first line is `env node`
        node = os.path.join(beside[0], "node")
        beside = [os.path.dirname(node if _is_program(node) else find("node") or node), *beside]
    if caller.own():
        extra = beside if os.path.basename(program) == "npm" else []
        return os.pathsep.join(dict.fromkeys([*extra, *_folders()]))
    known = [os.path.dirname(one) for one in (*caller.settings().programs.values(), *_remembered().values())]
    system = [one for one in (*_folders(), *_SYSTEM_PATH) if os.path.isdir(one) and places.installed_by_root(one)]
    return os.pathsep.join(dict.fromkeys([*beside, *known, *system]))


def remember(source: str = "") -> None:
    """Keep where the user's own programs are, and that the configuration at `source` is the user's.

    Only for commands of the user's own, once the state is settled.
    """
    state = caller.settings().state
    if not caller.own() or not state:
        return
    before = remembered.read(state)
    now = {name: path for name, path in before.programs.items() if not next(_on_path(name), "")}
    for name in KNOWN:
        found = next(_on_path(name), "")
        # Version managers make directories of a shell's own, which are links and gone tomorrow.
        real = os.path.join(os.path.realpath(os.path.dirname(found)), name) if found else ""
        unsure = any(places.in_project(one) or places.is_temporary(one) for one in (found, real) if one)
        if real and not unsure and not places.others(real):
            now[name] = real
    settings = before.settings
    if source and (real := os.path.realpath(source)) not in settings:
        settings = (*settings, real)
    after = remembered.Remembered(now, settings)
    if after != before:
        remembered.write(state, after)


def _of_the_user(name: str) -> str:
    found = next(_on_path(name), "")
    problem = places.everybody(found) if found else ""
    if problem:
        raise TrustError(
            f"{visible(found, 200)} would be started outside the sandbox, and {problem}",
            next_step=f"correct that, put another directory with {visible(name, 40)} before it on your PATH, or name "
            f'one in your callgate.toml: launch.programs = {{ {visible(name, 40)} = "/…/{visible(name, 40)}" }}',
        )
    return found or _beside(name)


def _by_path(program: str) -> str:
    """A launch line names a file. The line may be a project's, whoever started callgate."""
    if os.path.isabs(program) and _is_program(program):
        named = {*caller.settings().programs.values(), *_remembered().values()}
        if program in named or _trusted(program):
            return program
    raise TrustError(
        f"the command names {visible(program, 200)}, which would be started outside the sandbox, and it is none that "
        "you have used, nor one that only root can have put there",
        next_step="let the command name it without its directory, or name it in your callgate.toml: launch.programs",
    )


def _trusted(found: str) -> bool:
    return places.installed_by_root(found) or os.path.dirname(found) == os.path.dirname(sys.executable)


def _remembered() -> dict[str, str]:
    """Those that are still there, and still nobody else's."""
    known = remembered.read(caller.settings().state).programs
    return {name: path for name, path in known.items() if _is_program(path) and not places.others(path)}


def _on_path(name: str) -> Iterator[str]:
    return (one for folder in _folders() if _is_program(one := os.path.join(folder, name)))


def _folders() -> list[str]:
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return list(dict.fromkeys(os.path.normpath(one) for one in parts if os.path.isabs(one)))


def _beside(name: str) -> str:
    """Beside this callgate: uv may be installed with it."""
    program = os.path.join(os.path.dirname(sys.executable), name)
    return program if _is_program(program) else ""


def _is_program(file: str) -> bool:
    return os.path.isabs(file) and os.path.isfile(file) and os.access(file, os.X_OK)
