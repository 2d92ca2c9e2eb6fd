"""What a scope of systemd's holds, tried inside the machine: `python3 limits_inside.py BACKEND`. One JSON object."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from callgate.sandbox.backend import Backend
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import MIB, Limits, SandboxSpec

ROOT = "/sys/fs/cgroup"
SPEC = SandboxSpec(
    "limits",
    environment={"PATH": "/usr/bin:/bin"},
    limits=Limits(processes=20, memory_bytes=120 * MIB, cpus=0.5, disk_bytes=0),
)
HOG = """
import os, sys
for n in range(4):
    if os.fork() == 0:
        held = b"1" * ({mib} << 20)
        os.write(1, b"k")
        os.read(0, 1)
        os._exit(0)
codes = []
while True:
    try:
        codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
    except ChildProcessError:
        break
    if codes[-1] == -9:
        break
print(sorted(codes), flush=True)
"""
BOMB = "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i+1)); done; echo all"
ORPHAN = "setsid sleep 1000 & read -r group </proc/self/cgroup; echo $group; echo end; read x"


class Box:
    """A confined program, with its output, and what its sandbox told."""

    def __init__(self, backend: Backend, argv: list[str], spec: SandboxSpec = SPEC) -> None:
        prepared = backend.prepare(spec, argv)
        self.process = subprocess.Popen(
            prepared.argv,
            env=dict(prepared.environment),
            cwd=prepared.cwd or None,
            pass_fds=prepared.pass_fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert prepared.started
        assert prepared.settled
        self.running = prepared.started(self.process.pid)
        self.missing = [*prepared.not_enforced, *prepared.settled()]

    def lines(self, last: str) -> list[str]:
        assert self.process.stdout
        return list(iter(lambda: self.process.stdout.readline().decode().strip(), last))  # type: ignore[union-attr]

    def end(self) -> tuple[int, str, list[dict[str, Any]]]:
        """Its status, what it said, and what its sandbox told at the end."""
        if self.process.stdin:
            self.process.stdin.close()
        status = self.process.wait(timeout=60)
        events = self.running.read_events()
        self.running.close()  # what it left behind may hold the pipe
        assert self.process.stdout
        return status, self.process.stdout.read().decode(errors="replace"), events


def scope_of(lines: list[str]) -> str:
    """The scope's directory, by what a program in it sees of itself: in its own namespace by its name only."""
    name = next(line for line in lines if line.startswith("0::")).rpartition("/")[2]
    found = subprocess.run(["find", ROOT, "-name", name, "-type", "d"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def number(directory: str, name: str) -> str:
    with open(os.path.join(directory, name)) as file:
        return file.read().strip()


def gone(directory: str) -> bool:
    until = time.monotonic() + 30
    while os.path.exists(directory):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def held(backend: Backend) -> dict[str, Any]:
    box = Box(backend, ["/bin/sh", "-c", ORPHAN])
    directory = scope_of(box.lines("end"))
    files = ("memory.max", "memory.swap.max", "pids.max", "cpu.max")
    found: dict[str, Any] = {name: number(directory, name) for name in files}
    inside = [int(one) for one in number(directory, "cgroup.procs").split()]
    found["inside"] = sorted(number(f"/proc/{pid}", "comm") for pid in inside)
    found["missing"] = box.missing
    box.end()
    found["gone"] = gone(directory)
    found["left"] = [pid for pid in inside if os.path.exists(f"/proc/{pid}")]
    return found


def memory(backend: Backend, mib: int) -> dict[str, Any]:
    box = Box(backend, ["/usr/bin/python3", "-I", "-c", HOG.format(mib=mib)])
    status, text, events = box.end()
    return {"status": status, "text": text, "events": events}


def processes(backend: Backend) -> str:
    return Box(backend, ["/bin/sh", "-c", BOMB]).end()[1]


def killed(name: str) -> dict[str, Any]:
    """callgate is killed: nothing of the server, and no scope, stays."""
    code = f"import limits_inside as one; one.start_and_wait({name!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=os.path.dirname(os.path.abspath(__file__))
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline().decode() for _ in range(1)]
        directory = scope_of([line.strip() for line in lines])
        inside = number(directory, "cgroup.procs").split()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    return {"inside": len(inside), "gone": gone(directory), "left": [p for p in inside if os.path.exists(f"/proc/{p}")]}


def start_and_wait(name: str) -> None:
    box = Box(BACKENDS[name](), ["/bin/sh", "-c", ORPHAN])
    for line in box.lines("end"):
        if line.startswith("0::"):
            print(line, flush=True)
    select.select([], [], [], 120)


def refused(backend: Backend) -> dict[str, Any]:
    """The manager does not answer: the server starts, and it is said."""
    from callgate.sandbox import systemd

    systemd.SECONDS = 0.5
    found = subprocess.run(
        ["pgrep", "-u", str(os.getuid()), "-x", "systemd"], capture_output=True, text=True, check=True
    )
    manager = int(found.stdout.split()[0])
    os.kill(manager, signal.SIGSTOP)
    try:
        box = Box(backend, ["/bin/echo", "here"])
        _, text, _ = box.end()
        return {"text": text, "missing": box.missing}
    finally:
        os.kill(manager, signal.SIGCONT)


BACKENDS = {"bubblewrap": BubblewrapBackend, "landlock": LandlockBackend}


def main() -> None:
    name, *wanted = sys.argv[1:]
    backend = BACKENDS[name]()
    found: dict[str, Any] = {"own": number("/proc/self", "cgroup")}
    for one in wanted:
        if one == "held":
            found[one] = held(backend)
        elif one == "hog":
            found[one] = memory(backend, 60)
        elif one == "near":
            found[one] = memory(backend, 15)
        elif one == "bomb":
            found[one] = processes(backend)
        elif one == "killed":
            found[one] = killed(name)
        elif one == "refused":
            found[one] = refused(backend)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
