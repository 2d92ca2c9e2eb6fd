"""Where this machine keeps the files of the table."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from callgate.clients.table import ALL, CLIENTS, Client, Place, System
from callgate.errors import ConfigError
from callgate.text import visible

MAX_NEIGHBOURS = 64
_NO_HOMES = frozenset({"All Users", "Default", "Default User", "Public", "desktop.ini"})
_WINDOWS = "it belongs to a client of the Windows side"


@dataclass(frozen=True, slots=True)
class Machine:
    """What paths depend on."""

    system: System
    home: str
    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> Machine:
        """This one; systems that are none of the three keep files as Linux does."""
        systems: dict[str, System] = {name: name for name in ALL}
        return cls(systems.get(sys.platform, "linux"), os.path.expanduser("~"), os.environ)

    def expand(self, template: str) -> str:
        """The path of a template; empty where it needs a variable that is not set."""
        out = template
        while "{" in out:
            before, _, rest = out.partition("{")
            name, _, after = rest.partition("}")
            variable, has_default, default = name.partition("|")
            value = (self.environ.get(variable) or default) if has_default else self._settings()
            if not value:
                return ""
            out = before + value + after
        return self.home + out[1:] if out.startswith("~") else out

    def _settings(self) -> str:
        if self.system == "darwin":
            return f"{self.home}/Library/Application Support"
        if self.system == "win32":
            return self.environ.get("APPDATA") or f"{self.home}/AppData/Roaming"
        chosen = self.environ.get("XDG_CONFIG_HOME", "")
        return chosen if os.path.isabs(chosen) else f"{self.home}/.config"


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there. `path` is as the client names it, `real` what it leads to."""

    client: Client
    place: Place
    path: str
    real: str


def find(machine: Machine, names: tuple[str, ...] = (), project: str = "") -> Iterator[Found]:
    """The files of the chosen clients (none chosen: of all), those of `project` too where one is given.

    A file of several clients comes once, for the first of them. Raises ConfigError for a client nobody knows.
    """
    known = {client.name for client in CLIENTS}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no client '{visible(name, 80)}'", next_step="one of: " + ", ".join(sorted(known))
            )
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for client in CLIENTS:
        if names and client.name not in names:
            continue
        for place in client.places:
            if machine.system not in place.systems or (place.scope == "project" and not project):
                continue
            for path in _paths(machine, place, project):
                real = os.path.realpath(path)
                if (real, place.keys) not in seen:
                    seen.add((real, place.keys))
                    yield Found(client, place, path, real)


def neighbours(root: str = "/mnt/c/Users", version: str = "/proc/version") -> list[Machine]:
    """Under WSL, the homes of the Windows side; elsewhere none. What lies there is looked at, never changed."""
    try:
        with open(version, encoding="utf-8", errors="replace") as file:
            if "microsoft" not in file.read(1000).lower():
                return []
        names = sorted(os.listdir(root))[:MAX_NEIGHBOURS]
    except OSError:
        return []
    homes = [f"{root}/{name}" for name in names if name not in _NO_HOMES]
    return [Machine("win32", home, {}) for home in homes if os.path.isdir(f"{home}/AppData")]


def find_all(machine: Machine, names: tuple[str, ...] = (), project: str = "") -> Iterator[Found]:
    """As `find`, then what the clients of the Windows side have under WSL."""
    yield from find(machine, names, project)
    for other in neighbours():
        for one in find(other, names):
            if one.place.scope != "managed":
                yield replace(one, place=replace(one.place, hands_off=_WINDOWS))


def _paths(machine: Machine, place: Place, project: str) -> list[str]:
    path = machine.expand(place.path)
    if not path:
        return []
    base = ""
    if place.scope == "project":
        base = os.path.abspath(project)
    if "*" not in path:
        full = os.path.join(base, path)
        return [full] if os.path.isfile(full) else []
    pattern = glob.escape(os.path.join(base, path)).replace("[*]", "*")
    return sorted(full for full in glob.glob(pattern) if os.path.isfile(full))
