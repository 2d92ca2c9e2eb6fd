"""What the limits of a spec become: resource limits of the process, and words for what is not held."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callgate.sandbox.spec import Limits

# asm-generic/resource.h: x86-64 and aarch64 use it as it is.
_FSIZE, _DATA, _CORE, _NPROC, _NOFILE = 1, 2, 4, 6, 7
_OTHER_PROCESSES = 4096
"""Room for what the user starts elsewhere, where processes are counted per user and not per sandbox."""


def resource_limits(limits: Limits, *, own_count: bool) -> list[tuple[int, int]]:
    """(RLIMIT_*, value). Never RLIMIT_AS: runtimes reserve far more addresses than memory, and die of it.

    `own_count`: the sandbox has a user namespace, in which only its own processes count.
    """
    found = [(_CORE, 0)]
    if limits.file_bytes:
        found.append((_FSIZE, limits.file_bytes))
    if limits.memory_bytes:
        found.append((_DATA, limits.memory_bytes))
    if limits.descriptors:
        found.append((_NOFILE, limits.descriptors))
    if limits.processes:
        others = 0 if own_count else threads_of(os.getuid()) + _OTHER_PROCESSES
        found.append((_NPROC, limits.processes + others))
    return found


def threads_of(user: int) -> int:
    """How many processes and threads a user has now."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found = os.stat(f"/proc/{name}/task")
            except OSError:
                continue
            if found.st_uid == user:
                total += max(0, found.st_nlink - 2)
    return total


def not_held(limits: Limits, held: frozenset[str], *, own_count: bool) -> list[str]:
    """In words for a person. `held`: what a control group holds, of `memory`, `processes`, `cpus`."""
    words = []
    if limits.memory_bytes and "memory" not in held:
        words.append("memory of all processes together is looked at every second, not held at once")
    if limits.processes and "processes" not in held and (not own_count or os.getuid() == 0):
        words.append("the number of processes is looked at every second, not held at once")
    if limits.cpus and "cpus" not in held:
        words.append("its share of the processors is not limited")
    words.append("the total of what it writes into directories it was given is not limited")
    return words
