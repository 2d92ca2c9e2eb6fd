"""CPU placement, process trees and the description of the machine.

Modes:
  1cpu   client, gateway and server share CPU 0: the whole cost of a hop, context switches included,
         without the wake-up of an idle core. The most repeatable mode; added latency is measured in it.
  split  the gateway alone on CPU 1, client and server on CPU 0: what one core of gateway carries. Client and
         server never sleep there, so that the gateway does not pay for waking them on the other CPU; on a
         virtual machine that costs more than the call and hits the slower gateway harder.
  free   the scheduler decides, as deployed.
Where it is permitted the pinned modes run under SCHED_RR, so that nothing else gets in between. Some series are
repeated under the default scheduler, as deployed: it makes a pump of two threads dearer, a single loop hardly.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from callgate.native import core

Mode: TypeAlias = Literal["1cpu", "split", "free"]

CLIENT_CPU = {"1cpu": 0, "split": 0, "free": -1}
GATEWAY_CPU = {"1cpu": 0, "split": 1, "free": -1}


class Placement:
    """How processes are started and where they run. `realtime`: use SCHED_RR when the system lets us."""

    def __init__(self, realtime: bool) -> None:
        self.cpus = sorted(os.sched_getaffinity(0))
        self.realtime = realtime and shutil.which("chrt") is not None and self._permitted()

    @staticmethod
    def _permitted() -> bool:
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
        except OSError:
            return False
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return True

    def prefix(self, mode: Mode, realtime: bool) -> list[str]:
        """The command prefix for a process of this mode; `realtime`: the series asks for SCHED_RR."""
        return ["chrt", "-r", "1"] if self.realtime and realtime and mode != "free" else []

    def possible(self, mode: Mode) -> bool:
        """`split` needs two CPUs that are called 0 and 1."""
        return mode == "free" or {CLIENT_CPU[mode], GATEWAY_CPU[mode]} <= set(self.cpus)

    def pin(self, pids: Iterable[int], cpu: int) -> None:
        """Move all threads of these processes to one CPU; -1: to any."""
        wanted = self.cpus if cpu < 0 else [cpu]
        for pid in pids:
            for thread in _threads(pid):
                try:
                    os.sched_setaffinity(thread, wanted)
                except ProcessLookupError:
                    continue


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def process_tree(root: int) -> list[int]:
    """The process and all its descendants."""
    pids = [root]
    for pid in pids:
        for thread in _threads(pid):
            pids += [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
    return pids


def cpu_ns(pids: Sequence[int]) -> int:
    """CPU time used so far, by all threads, ended ones included.

    The kernel brings it up to date when a process is interrupted; one that never sleeps may have a CPU without
    ticks to itself, so a reader should run on the same one.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns(_cpu_clock(pid))
    return total


def _cpu_clock(pid: int) -> int:
    """What clock_getcpuclockid(3) gives on Linux, which Python does not wrap: CPUCLOCK_SCHED of a process."""
    return (~pid << 3) | 2


def memory_kb(pids: Sequence[int]) -> tuple[int, int]:
    """RSS and PSS."""
    rss = pss = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss += int(line.split()[1])
    return rss, pss


def command_of(pid: int) -> str:
    """Its name as the kernel has it, 15 characters at most."""
    return _read(f"/proc/{pid}/comm").strip()


def _first_line(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[0] if lines else ""


def describe(placement: Placement) -> dict[str, str]:
    """The class of machine, without anything that names it."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    virtual = " hypervisor" in _read("/proc/cpuinfo")
    return {
        "cpu": f"{model.group(1) if model else platform.machine()}, {len(placement.cpus)} CPUs"
        + (", virtual" if virtual else ""),
        "memory": f"{round(int(memory.group(1)) / 1024 / 1024)} GiB" if memory else "unknown",
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": f"{platform.python_implementation()} {platform.python_version()}, built "
        + ("with" if optimised else "without")
        + " profile-guided optimisation",
        "native lane": "built" if core is not None else "not built",
        "compiler": re.sub(r"\s*\(.*?\)", "", _first_line(["cc", "--version"])),
        "scheduling": "SCHED_RR in the pinned modes, but for the series that say otherwise"
        if placement.realtime
        else "default scheduler",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "executable": Path(sys.executable).name,
    }
