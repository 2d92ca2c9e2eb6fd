#!/usr/bin/env python3
"""What the sandbox costs: starts and messages, bare and confined, interleaved so that all see the same machine.

    bench/sandbox.py [--rounds 40] [--messages 3000] [--programs python,node]

Starts are from before `prepare` until the program has ended; what is on the disk of it (the kept proof, the
compiled filter) is there, as after the first start. Messages are one line each way through pipes. Last, what a client
sees: from the start of `callgate run` in a new process to the answer to `initialize` of a server that needs no time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if not __package__:  # started as bench/sandbox.py
    sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "src")]

from bench.harness.build import build_all, program
from bench.harness.subjects import callgate_command
from callgate.config import SandboxConfig
from callgate.errors import SandboxError
from callgate.sandbox.backend import Backend
from callgate.sandbox.choose import choose
from callgate.sandbox.defaults import spec_for

BACKENDS = ("bubblewrap", "landlock")
ECHO = "import sys\nfor line in sys.stdin:\n sys.stdout.write(line)\n sys.stdout.flush()\n"
HELLO = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"bench","version":"1"}}}\n'
)
COLD = """
import sys, time, pathlib
import callgate.config, callgate.errors
start = time.perf_counter()
from callgate.config import SandboxConfig
from callgate.sandbox.choose import choose
from callgate.sandbox.defaults import spec_for
state = pathlib.Path(sys.argv[1])
spec, argv = spec_for("bench", sys.argv[3:], environment={}, cwd="", state=state, config=SandboxConfig())
prepared = choose(sys.argv[2], state).prepare(spec, argv)
print(time.perf_counter() - start)
prepared.abandon()
"""


class Boxed:
    """A program bare (`backend` is empty) or in a backend."""

    def __init__(self, backend: str, argv: list[str], state: Path) -> None:
        self.name = backend or "bare"
        self._argv = argv
        self._state = state
        self._backend: Backend | None = choose(backend, state) if backend else None

    def start(self, **pipes: int) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
        if self._backend is None:
            return subprocess.Popen(self._argv, env={"PATH": "/usr/bin:/bin"}, **pipes), lambda: None
        spec, argv = spec_for("bench", self._argv, environment={}, cwd="", state=self._state, config=SandboxConfig())
        prepared = self._backend.prepare(spec, argv)
        process = subprocess.Popen(prepared.argv, env={}, cwd="/", pass_fds=prepared.pass_fds, **pipes)
        running = prepared.started(process.pid) if prepared.started else None
        return process, running.close if running else lambda: None

    def run_once(self) -> float:
        begin = time.perf_counter()
        process, close = self.start()
        status = process.wait()
        took = time.perf_counter() - begin
        close()
        if status:
            raise SystemExit(f"{self.name}: status {status}")
        return took

    def messages(self, count: int) -> list[float]:
        process, close = self.start(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        assert process.stdout
        to, back = process.stdin.fileno(), process.stdout.fileno()
        took = []
        for _ in range(count + 100):
            begin = time.perf_counter()
            os.write(to, b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
            os.read(back, 4096)
            took.append(time.perf_counter() - begin)
        process.stdin.close()
        process.wait()
        process.stdout.close()
        close()
        return took[100:]


def usable(state: Path) -> list[str]:
    found = []
    for name in BACKENDS:
        try:
            choose(name, state)
            found.append(name)
        except SandboxError as error:
            print(error.diagnostics(), file=sys.stderr)
    return found


def starts(label: str, argv: list[str], backends: list[str], rounds: int, state: Path) -> None:
    boxes = [Boxed(name, argv, state) for name in ("", *backends)]
    took: dict[str, list[float]] = {box.name: [] for box in boxes}
    for box in boxes:
        box.run_once()
    for turn in range(rounds):
        for box in boxes if turn % 2 else boxes[::-1]:
            took[box.name].append(box.run_once() * 1e3)
    bare = took["bare"]
    print(f"\nstart of {label}, ms, {rounds} rounds")
    print(f"{'':14}{'min':>8}{'median':>8}{'more (min)':>12}{'more (median)':>15}")
    for name, values in took.items():
        more = f"{min(values) - min(bare):>12.1f}{statistics.median(values) - statistics.median(bare):>15.1f}"
        print(f"{name:14}{min(values):>8.1f}{statistics.median(values):>8.1f}{more}")


def cold(argv: list[str], backends: list[str], rounds: int, state: Path) -> None:
    """What callgate itself does before the spawn, in a new process: imports, spec, choice, preparation."""
    print(f"\nbefore the spawn, in a new process, ms, {rounds} rounds\n{'':14}{'min':>8}{'median':>8}")
    for name in backends:
        command = [sys.executable, "-c", COLD, str(state), name, *argv]
        found = [
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1e3
            for _ in range(rounds)
        ]
        print(f"{name:14}{min(found):>8.1f}{statistics.median(found):>8.1f}")


def messages(argv: list[str], backends: list[str], count: int, state: Path) -> None:
    print(f"\none message there and back, us, {count} messages, best of 3\n{'':14}{'p50':>8}{'p99':>8}{'ratio':>8}")
    boxes = [Boxed(name, argv, state) for name in ("", *backends)]
    best: dict[str, list[float]] = {}
    for _ in range(3):
        for box in boxes:
            found = sorted(box.messages(count))
            if box.name not in best or found[count // 2] < best[box.name][count // 2]:
                best[box.name] = found
    for name, found in best.items():
        ratio = found[count // 2] / best["bare"][count // 2]
        print(f"{name:14}{found[count // 2] * 1e6:>8.1f}{found[count * 99 // 100] * 1e6:>8.1f}{ratio:>8.2f}")


def answered(command: list[str], environment: dict[str, str]) -> float:
    """Seconds to the first answer, in a new process."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(HELLO)
        process.stdin.flush()
        answer = process.stdout.readline()
        took = time.perf_counter() - begin
        process.stdin.close()
    if b'"result"' not in answer:
        raise SystemExit(f"no answer from {' '.join(command)}")
    return took


def first_answers(backends: list[str], rounds: int, state: Path) -> None:
    server = program("stdio_echo")
    run = [*callgate_command(), "run", "--name", "bench", "--read", server]
    commands = {"direct": [server]}
    commands |= {name: [*run, "--sandbox", name, "--", server] for name in ("none", *backends)}
    environment = {**os.environ, "CALLGATE_STATE_DIR": str(state)}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name in commands if turn % 2 else reversed(commands):
            found = answered(commands[name], environment) * 1e3
            if turn:  # the first fills caches
                took[name].append(found)
    print(f"\nfirst answer through callgate run, ms, {rounds} rounds\n{'':14}{'min':>8}{'median':>8}")
    for name, values in took.items():
        print(f"{name:14}{min(values):>8.1f}{statistics.median(values):>8.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--programs", default="python,node")
    options = parser.parse_args()
    build_all()
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    with tempfile.TemporaryDirectory() as place:
        state = Path(place)
        backends = usable(state)
        wanted = options.programs.split(",")
        if "python" in wanted:
            starts("python3 -I -c 0", [python, "-I", "-c", "0"], backends, options.rounds, state)
        node = shutil.which("node")
        if "node" in wanted and node:
            starts("node -e 0", [node, "-e", "0"], backends, options.rounds, state)
        cold([python, "-I", "-c", "0"], backends, max(5, options.rounds // 4), state)
        messages([python, "-I", "-c", ECHO], backends, options.messages, state)
        first_answers(backends, max(5, options.rounds // 2), state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
