"""The processes of this machine and what listens on it, from /proc: nothing is asked, nothing needs rights.

What belongs to other users is seen as far as the kernel shows it, and said to be theirs. Without /proc there is nothing
to see.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_PROCESSES: Final = 32_768
MAX_COMMAND: Final = 64 * 1024
MAX_DESCRIPTORS: Final = 4096
"""Descriptors of one process that are looked through for sockets."""
MAX_LISTENERS: Final = 4096
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `argv` may hold secrets: mask it before it is shown. `confined` is what the kernel says."""

    pid: int
    parent: int
    user: int
    argv: tuple[str, ...] = field(repr=False)
    confined: bool = False
    """It has a seccomp filter, and can gain no new rights."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP socket that listens. `pid` is 0 where its owner is not to be seen."""

    address: str
    port: int
    user: int
    pid: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.address.startswith("127.") or self.address == "::1"


@dataclass(frozen=True, slots=True)
class Machine:
    """What was seen. `hidden`: processes that would not be read; `partial`: there were more than the limits."""

    processes: Mapping[int, Process]
    listeners: tuple[Listener, ...]
    hidden: int = 0
    partial: bool = False
    supported: bool = True

    def ancestors(self, pid: int) -> list[Process]:
        """The process itself, its parent, and so on."""
        found: list[Process] = []
        while pid in self.processes and len(found) < 64:
            found.append(self.processes[pid])
            pid = self.processes[pid].parent
        return found


def look(root: str = "/proc") -> Machine:
    """Read the tables."""
    if not os.path.isdir(f"{root}/self"):
        return Machine({}, (), supported=False)
    pids = sorted(int(name) for name in os.listdir(root) if name.isdigit())
    found: dict[int, Process] = {}
    hidden = 0
    sockets: dict[int, int] = {}
    for pid in pids[:MAX_PROCESSES]:
        process = _process(root, pid)
        if process is None:
            hidden += os.path.exists(f"{root}/{pid}")  # a process that ended meanwhile hides nothing
            continue
        found[pid] = process
        for inode in _sockets(f"{root}/{pid}/fd"):
            sockets.setdefault(inode, pid)
    listeners = [one for name in ("tcp", "tcp6") for one in _listeners(f"{root}/net/{name}", sockets)]
    partial = len(pids) > MAX_PROCESSES or len(listeners) > MAX_LISTENERS
    return Machine(found, tuple(listeners[:MAX_LISTENERS]), hidden, partial)


def _process(root: str, pid: int) -> Process | None:
    try:
        with open(f"{root}/{pid}/cmdline", "rb") as file:
            command = file.read(MAX_COMMAND)
        with open(f"{root}/{pid}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.split(":\t", 1) for line in file.read(16 * 1024).split("\n") if ":\t" in line)
        words = tuple(word.decode("utf-8", "replace") for word in command.rstrip(b"\0").split(b"\0")) if command else ()
        confined = status.get("Seccomp", "0").strip() == "2" and status.get("NoNewPrivs", "0").strip() == "1"
        return Process(pid, int(status["PPid"]), int(status["Uid"].split()[0]), words, confined)
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _sockets(folder: str) -> list[int]:
    """Inodes of a process' sockets; none where it is another user's."""
    found: list[int] = []
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names[:MAX_DESCRIPTORS]:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append(int(target[8:-1]))
    return found


def _listeners(path: str, sockets: Mapping[int, int]) -> list[Listener]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = file.readlines()[1:]
    except OSError:
        return []
    found: list[Listener] = []
    for line in lines:
        parts = line.split()
        try:
            if parts[3] != _LISTEN:
                continue
            address, _, port = parts[1].partition(":")
            inode = int(parts[9])
            found.append(Listener(_address(address), int(port, 16), int(parts[7]), sockets.get(inode, 0)))
        except (IndexError, ValueError):
            continue
    return found


def _address(text: str) -> str:
    """An address of these tables: groups of 32 bits, each with its bytes turned around."""
    from ipaddress import ip_address

    packed = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    address = ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
