#!/usr/bin/env python3
"""Many calls through callgate; its memory must not grow.

    bench/soak.py                     200,000 calls each: stdio, HTTP with sessions, HTTP of 2026-07-28
    bench/soak.py --calls 10000000    the long form

Warm-up is the first tenth of the calls. After it, RSS (all of the gateway's processes, nothing left out) may
rise above what it was at the end of the warm-up by at most --bound MiB, at any of the moments it is looked
at. Exit code 1 when it does, or when a call fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # started as bench/soak.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import measure
from bench.harness.build import BuildError, build_all, program
from bench.harness.machine import Placement, command_of, memory_kb, process_tree
from bench.harness.subjects import HTTP, STDIO

CALLS = 200_000
BOUND_MIB = 2.0
LOOKS = 40
"""How often RSS is read."""
WARM_UP = 0.1


@dataclass(slots=True)
class Soak:
    """What one soak saw: (calls made, RSS in KiB), and whether every call was answered."""

    name: str
    seen: list[tuple[int, int]] = field(default_factory=list)
    ok: bool = False
    message: str = ""

    @property
    def growth_mib(self) -> float:
        """The highest RSS after the warm-up, minus that at its end."""
        if not self.seen:
            return 0.0
        warm = max(1, round(len(self.seen) * WARM_UP))
        baseline = self.seen[warm - 1][1]
        return max(rss - baseline for _, rss in self.seen[warm - 1 :]) / 1024

    def passed(self, bound_mib: float) -> bool:
        """All calls answered, memory looked at, and within the bound."""
        return self.ok and len(self.seen) >= LOOKS / 2 and self.growth_mib <= bound_mib


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
    placement = Placement(realtime=False)
    with measure.echo_server(placement) as server:
        try:
            gateway = measure.start_gateway(HTTP["callgate"], server, placement, scratch)
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
                soak.seen.append((int(line.split()[1]), memory_kb(pids(load.pid))[0]))
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
        first, last = (soak.seen[0][1] / 1024, soak.seen[-1][1] / 1024) if soak.seen else (0.0, 0.0)
        print(
            f"{soak.name:<18} {soak.seen[-1][0] if soak.seen else 0:>10,} calls  RSS {first:.1f} to {last:.1f} MiB  "
            f"growth after warm-up {soak.growth_mib:.2f} MiB, bound {options.bound:g}: {'pass' if good else 'FAIL'}"
        )
        if not good and soak.message:
            print(soak.message.strip()[-600:], file=sys.stderr)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
