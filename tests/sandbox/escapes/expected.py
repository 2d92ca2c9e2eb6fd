"""What each probe is expected to do under each backend. `docs/sandbox.md` shows this table; a test runs it.

A probe that is not named for a backend must be held there. What is named stays open, for the reason given; the test
fails when such a probe is held after all, unless that depends on the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BACKENDS = ("bubblewrap", "landlock", "podman")
"""Those that every machine of the tests has. Docker's engine runs in the test machine (tests/machine)."""
LISTED = (*BACKENDS, "docker")


@dataclass(frozen=True)
class Open:
    """A probe that gets through. `sometimes`: another kernel or a control group holds it."""

    reason: str
    sometimes: bool = False


@dataclass(frozen=True)
class Listed:
    name: str
    group: str
    title: str
    bomb: bool


@cache
def probes() -> tuple[Listed, ...]:
    """All probes, asked of the hostile program itself."""
    program = Path(__file__).parent / "hostile" / "index.py"
    said = subprocess.run([sys.executable, "-I", str(program), "--list"], capture_output=True, check=True, text=True)
    return tuple(Listed(*one) for one in json.loads(said.stdout))


_PROJECT = "a directory given to write to; Landlock has no rule that takes a place in it away again"
_LOADER = (
    "Landlock knows starting a program, not mapping one: the system's loader runs it, as an interpreter runs a script"
)
_TOTAL = "the total of what is written into directories of the host has no limit"
_EXECUTABLE = (
    "docker binds a directory without `noexec`; a server's AppArmor profile, where it is loaded, takes that away"
)
_SETUID = "the file belongs to this user all the same; it matters where other people have accounts on the machine"
_COUNTED = "counted every five seconds: what is too much then ends the server"
_WATCHED = "looked at every second without a control group; with one the kernel refuses"

OPEN: dict[str, dict[str, Open]] = {
    "bubblewrap": {
        "leave_setuid_file": Open(_SETUID),
        "loader_exec": Open(_LOADER),
        "fill_home": Open(_COUNTED, sometimes=True),
        "fill_project": Open(_TOTAL),
    },
    "landlock": {
        "stat_home_file": Open("Landlock does not hide names, sizes and times; the content is held"),
        "host_accounts": Open("the host's own /etc/passwd is read there: programs need one"),
        "host_name": Open("there is no namespace to give the machine another name"),
        "watch_home": Open("Landlock does not know inotify: that a file was touched is seen, its content is not"),
        "write_git_hook": Open(_PROJECT),
        "write_project_agent_config": Open(_PROJECT),
        "replace_git_directory": Open(_PROJECT),
        "leave_setuid_file": Open(_SETUID),
        "loader_exec": Open(_LOADER),
        "daemon_at_the_end": Open(
            "without a process namespace or a control group its processes are looked for once a second", sometimes=True
        ),
        "fork_bomb": Open(_WATCHED, sometimes=True),
        "fill_tmp": Open(_COUNTED, sometimes=True),
        "fill_home": Open(_COUNTED, sometimes=True),
        "fill_project": Open(_TOTAL),
    },
    "podman": {
        "leave_setuid_file": Open(_SETUID),
        "memory_hog_children": Open("rootless podman has no control group before version 2", sometimes=True),
        "fill_home": Open(_TOTAL),
        "fill_project": Open(_TOTAL),
    },
    "docker": {
        "leave_setuid_file": Open(_SETUID),
        "drop_exec": Open(_EXECUTABLE),
        "home_exec": Open(_EXECUTABLE),
        "loader_exec": Open(_EXECUTABLE),
        "fill_home": Open(_TOTAL),
        "fill_project": Open(_TOTAL),
    },
}

IN_NAMESPACES = "takes root, which an ordinary user has in a user namespace of its own (the second control)"
NEVER = "takes root of the machine: proves that no sandbox gives it away"
MACHINE = "depends on the machine: a module, a device, a setting of the kernel"

INSIDE = "is about a process that exists in a sandbox only"

CONTROL: dict[str, str] = {
    "first_process_links": INSIDE,
    "first_process_memory": INSIDE,
    "open_by_handle": NEVER,
    "device_nodes": MACHINE,
    "setuid_program": MACHINE,
    "ptrace": MACHINE,
    "process_vm_readv": MACHINE,
    "proc_mem": MACHINE,
    "pidfd_getfd": MACHINE,
    "proc_fd": MACHINE,
    "victim_environment": MACHINE,
    "launcher_environment": MACHINE,
    "proc_root": MACHINE,
    "type_into_terminal": MACHINE,
    "posix_mq": MACHINE,
    "user_keyring": MACHINE,
    "add_key": MACHINE,
    "tcp_loopback_v6": MACHINE,
    "internet_route": MACHINE,
    "internet_route_v6": MACHINE,
    "metadata_route": MACHINE,
    "vsock": MACHINE,
    "packet_socket": IN_NAMESPACES,
    "raw_socket": IN_NAMESPACES,
    "alg_socket": MACHINE,
    "rare_sockets": MACHINE,
    "userns_unshare": MACHINE,
    "userns_clone": MACHINE,
    "userns_clone3": MACHINE,
    "mount": IN_NAMESPACES,
    "fsopen": IN_NAMESPACES,
    "open_tree": IN_NAMESPACES,
    "pivot_root": IN_NAMESPACES,
    "chroot_escape": IN_NAMESPACES,
    "mknod": NEVER,
    "setns": NEVER,
    "capabilities": IN_NAMESPACES,
    "io_uring": MACHINE,
    "bpf": MACHINE,
    "perf_event": MACHINE,
    "userfaultfd": MACHINE,
    "fanotify": MACHINE,
    "kexec": NEVER,
    "kernel_module": NEVER,
    "kernel_log": MACHINE,
    "swapon": NEVER,
    "reboot": IN_NAMESPACES,
    "set_clock": NEVER,
    "set_hostname": IN_NAMESPACES,
    "proc_sys": IN_NAMESPACES,
    "calls_of_32_bit": MACHINE,
    "calls_of_x32": MACHINE,
    "realtime": NEVER,
    "core_dump": MACHINE,
    "loader_exec": MACHINE,
    "fork_bomb": MACHINE,
    "memory_hog": MACHINE,
    "memory_hog_children": MACHINE,
    "large_file": MACHINE,
    "descriptors": MACHINE,
}
"""Probes that may fail without any sandbox, and why they are there all the same. All others must succeed bare."""
