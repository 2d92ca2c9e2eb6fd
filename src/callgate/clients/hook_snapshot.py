"""What a hook must know and has no time to work out: `hooks/snapshot.json` in the state directory.

Install, uninstall and doctor write it; a hook reads it. It says where each client's servers are written down and what
is guarded; what those files say is read when it is asked for, so that a server that was unwrapped since is seen.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from callgate.clients.machine import Machine

VERSION = 1
FOLDER = "hooks"
MAX_BYTES = 4 * 1024 * 1024
POLICIES = ("deny", "ask")
OPEN_POLICIES = ("deny", "ask", "allow")
DEFAULT_POLICY = {"unknown": "deny", "open": "ask", "config": "ask"}
CLIENTS = ("claude-code", "cursor", "codex")
_NOT_TAILS = (".vscode/settings.json", ".devcontainer/devcontainer.json")
"""Files of projects that hold much else, and that agents edit often."""


class HookError(Exception):
    """A hook cannot judge; the text is safe to print."""


class Snapshot:
    """The file's content. Paths are absolute, and folded where the file system does not mind capitals."""

    __slots__ = (
        "config",
        "configurations",
        "fold",
        "gateways",
        "guarded",
        "home",
        "open",
        "packages",
        "places",
        "programs",
        "pythons",
        "state",
        "tails",
        "unknown",
    )

    def __init__(self, document: Mapping[str, Any]) -> None:
        if document["version"] != VERSION:
            raise HookError("the hooks' snapshot is of another version of callgate: run callgate install")
        self.home: str = document["home"]
        self.state: str = document["state"]
        self.fold: bool = document["fold"]
        self.unknown: str = document["policy"]["unknown"]
        """What becomes of a call to a server that no file declares: `deny` or `ask`."""
        self.open: str = document["policy"]["open"]
        """What becomes of a call to a declared server that is not behind the gate: `deny`, `ask` or `allow`."""
        self.config: str = document["policy"]["config"]
        """What becomes of an edit of a client's settings."""
        self.configurations = frozenset(document.get("configurations", ()))
        """The user's own settings of callgate."""
        self.programs = frozenset(document["programs"])
        self.pythons = frozenset(document.get("pythons", ()))
        """The interpreter of this callgate, as it is called: where a link leads is one without callgate in it."""
        self.packages = tuple(document["packages"])
        self.gateways = tuple(document["gateways"])
        self.guarded = frozenset(document["guarded"])
        self.tails = tuple(document["tails"])
        self.places: Mapping[str, list[dict[str, Any]]] = document["places"]
        if (
            self.unknown not in POLICIES
            or self.open not in OPEN_POLICIES
            or self.config not in POLICIES
            or not self.state
        ):
            raise HookError("the hooks' snapshot is damaged: run callgate install")

    def folded(self, path: str) -> str:
        """A path as it is compared."""
        return path.casefold() if self.fold else path


def load(state: str) -> Snapshot:
    """Read the snapshot. Raises HookError."""
    from jiter import from_json

    path = os.path.join(state, FOLDER, "snapshot.json")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise HookError(f"the hooks' snapshot cannot be read ({error.strerror}): run callgate install") from error
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise HookError("the hooks' snapshot could be changed by others: run callgate install")
    try:
        return Snapshot(from_json(data, catch_duplicate_keys=True, allow_inf_nan=False))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HookError("the hooks' snapshot is damaged: run callgate install") from error


def policy(state: Path) -> dict[str, str]:
    """The policy in force; the default where there is none."""
    try:
        found = load(str(state))
    except HookError:
        return dict(DEFAULT_POLICY)
    return {"unknown": found.unknown, "open": found.open, "config": found.config}


def write(
    state: Path,
    machine: Machine,
    launcher: tuple[str, ...],
    *,
    gateways: tuple[str, ...] = (),
    configuration: str = "",
    chosen: Mapping[str, str] | None = None,
) -> Path:
    """Write the snapshot; of the policy, what is not `chosen` stays. Raises ClientFileError."""
    import json

    from callgate.clients.files import write_private

    settled = policy(state) | {name: value for name, value in (chosen or {}).items() if value}
    fold = machine.system != "linux"
    own = {os.path.abspath(launcher[0]), os.path.realpath(launcher[0])}
    python = os.path.abspath(sys.executable)
    document = {
        "version": VERSION,
        "home": machine.home,
        "state": _fold(os.path.realpath(state), fold=fold),
        "fold": fold,
        "policy": settled,
        "configurations": [_fold(os.path.realpath(configuration), fold=fold)] if configuration else [],
        "programs": sorted(_fold(path, fold=fold) for path in own if "python" not in os.path.basename(path)),
        "launcher": list(launcher),
        "pythons": [_fold(python, fold=fold)],
        "packages": [_fold(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), fold=fold)],
        "gateways": list(gateways),
        "guarded": sorted({_fold(path, fold=fold) for path in _guarded(machine)}),
        "tails": sorted(_tails()),
        "places": {name: _places(machine, name) for name in CLIENTS},
    }
    folder = state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "snapshot.json"
    write_private(path, json.dumps(document, indent=1).encode())
    return path


def _fold(path: str, *, fold: bool) -> str:
    return path.casefold() if fold else path


def _guarded(machine: Machine) -> list[str]:
    """Every file of a person, and of an administrator, that says which servers or hooks a client starts."""
    from callgate.clients.surroundings import HOOK_FILES, MANAGED
    from callgate.clients.table import CLIENTS as TABLE

    found: list[str] = []
    templates = [p for client in TABLE for p in client.places if machine.system in p.systems and p.scope != "project"]
    paths = [*(place.path for place in templates), *HOOK_FILES.values(), *MANAGED[machine.system]]
    for path in map(machine.expand, paths):
        if path and "*" not in path:
            found += {path, os.path.realpath(path)}
    return found


def _tails() -> set[str]:
    from callgate.clients.surroundings import PROJECT_SETTINGS
    from callgate.clients.table import CLIENTS as TABLE

    paths = [place.path for client in TABLE for place in client.places if place.scope == "project"]
    return {f"/{path}" for path in (*paths, *PROJECT_SETTINGS) if "*" not in path and path not in _NOT_TAILS}


def _places(machine: Machine, name: str) -> list[dict[str, Any]]:
    from callgate.clients.table import BY_NAME

    client = BY_NAME[name]
    return [
        {
            "path": machine.expand(place.path) if place.scope != "project" else place.path,
            "keys": list(place.keys),
            "format": place.format,
            "project": place.scope == "project",
        }
        for place in client.places
        if machine.system in place.systems and machine.expand(place.path)
    ]
