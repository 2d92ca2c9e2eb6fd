"""A control group of its own for a server, where the system lets us make one: memory, processes and processors of
all its programs together, held by the kernel.

Where systemd runs, the groups are its own and it is asked for one (`systemd.py`). Elsewhere: the v1 controllers as
root, or a v2 group below one that was delegated to this user with its controllers on. The stub enters those by
itself, through descriptors opened before (cgroup_attach_permissions looks at who opened them), so nothing of the
server ever runs outside.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from callgate.sandbox.spec import Limits
else:
    Protocol = object

ROOT = "/sys/fs/cgroup"
_PERIOD_US = 100_000
_END_S = 2.0


class ControlGroup(Protocol):
    """One server's, whoever made it."""

    held: frozenset[str]
    """Of `memory`, `processes`, `cpus`. Less than before, perhaps, after `settle`."""
    refusal: str
    """Why it does not hold what it should, in words for a person."""

    @property
    def fds(self) -> tuple[int, ...]:
        """Of `cgroup.procs`: writing `0` enters. Descriptors keep their numbers on the way to the stub."""

    @property
    def meeting(self) -> int:
        """A descriptor on which the stub waits to be taken in; -1: it enters by itself."""

    @property
    def kill_count(self) -> str:
        """The file in which the kernel counts what it ended for want of memory; empty where there is none."""

    def settle(self) -> None:
        """Wait until it is known what it holds."""

    def admit(self) -> None:
        """The sandbox was spawned: let the stub in, or on. Raises SandboxError."""

    def read_events(self) -> list[dict[str, object]]: ...

    def close(self) -> None: ...


class Group:
    """One server's control group, in one hierarchy (v2) or several (v1)."""

    refusal = ""
    meeting = -1

    def __init__(self, directories: list[str], fds: list[int], held: frozenset[str]) -> None:
        self._directories = directories
        self._told = 0
        self.fds = tuple(fds)
        self.held = held

    def settle(self) -> None:
        """It is known."""

    def admit(self) -> None:
        """The stub has its own descriptors by now."""
        fds, self.fds = self.fds, ()
        for fd in fds:
            os.close(fd)

    @property
    def kill_count(self) -> str:
        """In the first hierarchy that counts: its group is gone where the file is."""
        return next(filter(None, map(kill_count, self._directories)), "")

    def read_events(self) -> list[dict[str, object]]:
        """That the kernel ended something in it, once for each time somebody asks after it did."""
        now, before = kills(self.kill_count), self._told
        self._told = now
        return [memory_event(now - before)] if now > before else []

    def close(self) -> None:
        """End what is left in it and remove it. Safe to call twice."""
        self.admit()
        directories, self._directories = self._directories, []
        until = time.monotonic() + _END_S
        for directory in directories:
            while not _removed(directory) and time.monotonic() < until:
                kill_all(directory)
                time.sleep(0.005)


def open_group(limits: Limits, root: str = ROOT, own: str = "/proc/self/cgroup") -> Group | None:
    """A new group with these limits, or None where the system gives us none or there is nothing to limit."""
    if not (limits.memory_bytes or limits.processes or limits.cpus):
        return None
    name = f"callgate-{os.getpid()}-{time.monotonic_ns():x}"
    return _version_2(limits, root, own, name) or _version_1(limits, root, own, name)


def _version_2(limits: Limits, root: str, own: str, name: str) -> Group | None:
    """Beside us, below the nearest group that is ours to write and passes its controllers on."""
    path = next((line[3:] for line in read(own).splitlines() if line.startswith("0::/")), "")
    if not path or not os.path.exists(os.path.join(root, "cgroup.controllers")):
        return None
    place = os.path.dirname(path)
    while True:
        parent = root + (place if place != "/" else "")
        controllers = set(read(os.path.join(parent, "cgroup.subtree_control")).split())
        if "memory" in controllers and os.access(parent, os.W_OK):
            files = {"memory.max": limits.memory_bytes, "memory.swap.max": 0 if limits.memory_bytes else None}
            files |= {"pids.max": limits.processes} if "pids" in controllers else {}
            cpu = f"{int(limits.cpus * _PERIOD_US)} {_PERIOD_US}" if limits.cpus and "cpu" in controllers else None
            found = _make(f"{parent}/{name}", {**files, "cpu.max": cpu})
            if found is not None:
                held = {"memory", *(["processes"] if "pids" in controllers else []), *(["cpus"] if cpu else [])}
                return Group([f"{parent}/{name}"], [found], frozenset(held))
        if place in {"/", ""}:
            return None
        place = os.path.dirname(place)


def _version_1(limits: Limits, root: str, own: str, name: str) -> Group | None:
    """Below our own group of each controller's hierarchy: only root may, as a rule."""
    quota = int(limits.cpus * _PERIOD_US)
    wanted: list[tuple[str, str, dict[str, int | str | None]]] = []
    if limits.memory_bytes:
        wanted.append(("memory", "memory", {"memory.limit_in_bytes": limits.memory_bytes}))
    if limits.processes:
        wanted.append(("processes", "pids", {"pids.max": limits.processes}))
    if limits.cpus:
        wanted.append(("cpus", "cpu", {"cpu.cfs_period_us": _PERIOD_US, "cpu.cfs_quota_us": quota}))
    groups = {}
    for line in read(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        groups.update(dict.fromkeys(controllers.split(","), path))
    directories: list[str] = []
    fds: list[int] = []
    held: set[str] = set()
    for what, controller, files in wanted:
        if controller not in groups:
            continue
        directory = os.path.join(root, controller, groups[controller].lstrip("/"), name)
        if not os.access(os.path.dirname(directory), os.W_OK):
            continue
        found = _make(directory, files)
        if found is not None:
            directories.append(directory)
            fds.append(found)
            held.add(what)
    return Group(directories, fds, frozenset(held)) if held else None


def _make(directory: str, files: dict[str, int | str | None]) -> int | None:
    """Make a group, set its limits, open its list of processes; None, and nothing left, where one of these fails.

    A member that is zero or None is not set, except one that must be zero to mean something (swap).
    """
    try:
        os.mkdir(directory)
    except OSError:
        return None
    try:
        for name, value in files.items():
            if value is None or (value == 0 and name != "memory.swap.max"):
                continue
            path = os.path.join(directory, name)
            if name == "memory.swap.max" and not os.path.exists(path):
                continue
            with open(path, "w") as file:
                file.write(str(value))
        return os.open(os.path.join(directory, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        _removed(directory)
        return None


def kill_count(directory: str) -> str:
    """The file of a group in which the kernel counts what it ended for want of memory; empty where there is none."""
    places = (os.path.join(directory, name) for name in ("memory.events", "memory.oom_control"))
    return next(filter(os.path.exists, places), "")


def kills(path: str) -> int:
    """How often it has done that."""
    for line in read(path).splitlines():
        word, _, number = line.partition(" ")
        if word == "oom_kill" and number.isdigit():
            return int(number)
    return 0


def memory_event(ended: int) -> dict[str, object]:
    """For the evidence: the kernel ended so many of its processes."""
    return {"kind": "limit", "limit": "memory", "ended": ended, "reason": "memory: more than allowed"}


def kill_all(directory: str) -> None:
    """End every process of a group."""
    try:
        with open(os.path.join(directory, "cgroup.kill"), "w") as file:
            file.write("1")
        return
    except OSError:
        pass
    for pid in _pids(directory):
        try:
            os.kill(pid, 9)
        except OSError:
            continue


def _pids(directory: str) -> Iterable[int]:
    return [int(word) for word in read(os.path.join(directory, "cgroup.procs")).split()]


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def read(path: str) -> str:
    """A small file of the kernel's; empty where it cannot be read."""
    try:
        with open(path) as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError):
        return ""
