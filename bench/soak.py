#!/usr/bin/env python3
"""Many calls through callgate; its memory must not grow.

    bench/soak.py                     200,000 calls each: stdio, HTTP with sessions, HTTP of 2026-07-28
    bench/soak.py --calls 10000000    the long form

Warm-up is the first tenth of the calls. After it, RSS may rise above what it was at the end of the warm-up by at
most --bound MiB, at any of the moments it is looked at. RSS is the sum over the gateway's processes; one that
is there at fewer than a quarter of the looks is a helper that comes and goes (it signs a checkpoint) and does
not count. Exit code 1 when memory grows, or when a call fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # started as bench/soak.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import measure
from bench.harness.build import BuildError, build_all, program
from bench.harness.machine import command_of, memory_kb, process_tree
from bench.harness.subjects import HTTP, STDIO

CALLS = 200_000
BOUND_MIB = 2.0
LOOKS = 40
"""How often RSS is read."""
WARM_UP = 0.1


@dataclass(slots=True)
class Soak:
    """What one soak saw: at each look the calls made and the RSS in KiB of each process."""

    name: str
    looks: list[tuple[int, dict[int, int]]] = field(default_factory=list)
    ok: bool = False
    """Whether every call was answered."""
    message: str = ""

    @property
    def seen(self) -> list[tuple[int, int]]:
        """Calls made, RSS in KiB of the processes that stay."""
        present = Counter(pid for _, memory in self.looks for pid, rss in memory.items() if rss)
        staying = {pid for pid, looks in present.items() if looks >= len(self.looks) / 4}
        return [(calls, sum(rss for pid, rss in memory.items() if pid in staying)) for calls, memory in self.looks]

    @property
    def growth_mib(self) -> float:
        """The highest RSS after the warm-up, minus that at its end."""
        seen = self.seen
        warm = max(1, round(len(seen) * WARM_UP))
        return max((rss - seen[warm - 1][1] for _, rss in seen[warm - 1 :]), default=0) / 1024

    def passed(self, bound_mib: float) -> bool:
        """All calls answered, memory looked at, and within the bound."""
        return self.ok and len(self.looks) >= LOOKS / 2 and self.growth_mib <= bound_mib


def stdio(calls: int, scratch: Path) -> Soak:
    """Through `callgate run`, 16 calls in flight."""
    subject = STDIO["callgate"]
    command = [
        *(program("stdio_load"), "--calls", str(calls), "--progress", str(max(calls // LOOKS, 1))),
        *("--window", "16", "--warmup", "0", "--", *subject.command([program("stdio_echo")], scratch)),
    ]
    environment = {**os.environ, **subject.environment(scratch)}

    def pids(load: int) -> list[int]:
        ours = [pid for pid in process_tree(load) if pid != load]
        return [pid for pid in ours if command_of(pid) != measure.SERVER_NAME]

    return _watch("stdio", command, environment, pids)


def http(calls: int, scratch: Path, modern: bool) -> Soak:
    """Through `callgate serve`, 16 connections."""
    name = "http, 2026-07-28" if modern else "http, sessions"
    with measure.echo_server([]) as server:
        try:
            gateway = measure.start_gateway(HTTP["callgate"], server, [], scratch)
        except measure.StartError as error:
            return Soak(name, message=str(error))
        try:
            command = [
                *(program("http_load"), "--port", str(gateway.port), "--connections", "16", "--warmup", "0"),
                *("--calls", str(calls), "--progress", str(max(calls // LOOKS, 1)), *gateway.load),
                *(("--modern",) if modern else ()),
            ]
            return _watch(name, command, dict(os.environ), lambda _: gateway.pids())
        finally:
            measure.stop(gateway.process)


def _watch(name: str, command: list[str], environment: dict[str, str], pids: Callable[[int], list[int]]) -> Soak:
    """Run the load; at each of its progress lines read the memory of `pids`."""
    soak = Soak(name)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        assert load.stderr is not None
        for line in load.stderr:
            if line.startswith("progress "):
                memory = {pid: memory_kb([pid])[0] for pid in pids(load.pid)}
                soak.looks.append((int(line.split()[1]), memory))
            elif not line.startswith(("MEASURE", "END")):
                soak.message += line
    soak.ok = load.returncode == 0
    return soak


def run(calls: int) -> list[Soak]:
    """All three soaks, one after the other."""
    build_all()
    soaks = []
    with tempfile.TemporaryDirectory(prefix="callgate-soak-", ignore_cleanup_errors=True) as directory:
        for number, soak in enumerate((stdio, _http_sessions, _http_modern)):
            scratch = Path(directory) / str(number)
            scratch.mkdir()
            soaks.append(soak(calls, scratch))
    return soaks


def _http_sessions(calls: int, scratch: Path) -> Soak:
    return http(calls, scratch, modern=False)


def _http_modern(calls: int, scratch: Path) -> Soak:
    return http(calls, scratch, modern=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS, help=f"calls of each soak (default {CALLS:,})")
    parser.add_argument("--bound", type=float, default=BOUND_MIB, help=f"MiB (default {BOUND_MIB})")
    options = parser.parse_args()
    try:
        soaks = run(options.calls)
    except BuildError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    passed = True
    for soak in soaks:
        good = soak.passed(options.bound)
        passed = passed and good
        seen = soak.seen or [(0, 0)]
        first, last = seen[0][1] / 1024, seen[-1][1] / 1024
        print(
            f"{soak.name:<18} {seen[-1][0]:>10,} calls  RSS {first:.1f} to {last:.1f} MiB  "
            f"growth after warm-up {soak.growth_mib:.2f} MiB, bound {options.bound:g}: {'pass' if good else 'FAIL'}"
        )
        if not good and soak.message:
            print(soak.message.strip()[-600:], file=sys.stderr)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
