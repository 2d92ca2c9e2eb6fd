"""What holds on this machine: what the kernel offers, and every backend tried now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callgate.sandbox.backend import Probe

_WATCHED = "limits of all processes together are watched, not held"


@dataclass(frozen=True, slots=True)
class Fact:
    """One property of the machine that decides what can hold. `note`: what to do about it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The machine, and its backends, best first. `automatic`: which one `auto` takes; empty: none."""

    facts: tuple[Fact, ...]
    probes: tuple[Probe, ...]
    automatic: str


def examine(state: Path) -> Report:
    """Try every backend of this platform; what is found is kept for the next launch. Takes about a second."""
    from callgate.sandbox.choose import probe_all

    probes = tuple(probe_all(state))
    automatic = next((one.backend for one in probes if one.usable), "")
    return Report(tuple(machine()), probes, automatic)


def machine() -> Iterator[Fact]:
    """What the kernel offers an ordinary program."""
    system = os.uname()
    yield Fact("system", f"{system.sysname} {system.release} {system.machine}, user {os.getuid()}")
    if system.sysname != "Linux":
        return
    yield _user_namespaces()
    from callgate.sandbox.stub import landlock_abi

    abi = landlock_abi()
    yield Fact("landlock", f"version {abi}" if abi else "none", "" if abi >= 6 else "Linux 6.12 holds most")
    yield Fact("seccomp", "there" if os.path.exists("/proc/sys/kernel/seccomp") else "none")
    yield _control_groups()
    yield _apparmor()
    scope = _line("/proc/sys/kernel/yama/ptrace_scope")
    note = "" if scope not in ("", "0") else "without a sandbox, programs of one user read each other's memory"
    yield Fact("ptrace", f"yama scope {scope}" if scope else "no yama", note)


def _user_namespaces() -> Fact:
    name = "user namespaces"
    if _line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return Fact(name, "only for programs with an AppArmor profile", "load bwrap-userns-restrict (docs/sandbox.md)")
    if _line("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return Fact(name, "closed", "sudo sysctl kernel.unprivileged_userns_clone=1")
    limit = _line("/proc/sys/user/max_user_namespaces")
    return Fact(name, "closed", "sudo sysctl user.max_user_namespaces=10000") if limit == "0" else Fact(name, "open")


def _control_groups() -> Fact:
    """A group with every limit is asked for as at a start, and given back."""
    from callgate.sandbox import cgroup, systemd
    from callgate.sandbox.spec import MIB, Limits

    name = "control groups"
    version = "version 2" if os.path.exists(os.path.join(cgroup.ROOT, "cgroup.controllers")) else "version 1"
    limits = Limits(processes=16, memory_bytes=64 * MIB, cpus=1.0)
    group: cgroup.ControlGroup | None = systemd.ask(limits)
    if group is not None:
        version += ", by systemd"
    else:
        group = cgroup.open_group(limits)
    if group is None:
        return Fact(name, f"{version}, not delegated to you", _WATCHED)
    try:
        group.settle()
        missing = [one for one in ("memory", "processes", "cpus") if one not in group.held]
        if not missing:
            return Fact(name, version)
        held = ", ".join(sorted(group.held)) or "nothing"
        return Fact(name, f"{version}, for {held}", group.refusal or (_WATCHED if missing != ["cpus"] else ""))
    finally:
        group.close()


def _apparmor() -> Fact:
    from callgate.sandbox.apparmor import kernel_has_it, loaded, parser

    name, program = "apparmor", "" if parser() else ", no apparmor_parser"
    if not kernel_has_it():
        return Fact(name, f"not in this kernel{program}")
    count = len(loaded())
    note = "" if count else "callgate sandbox explain NAME says how to load a server's profile"
    return Fact(name, f"on, {count} profiles of servers loaded{program}", note)


def _line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
