"""How long a server takes from its launch line to its first answer: through npx, and pinned.

    python -m bench.pinned [RUNS]

`npx -y PACKAGE` with a warm cache, `npx --prefer-offline -y PACKAGE`, and what callgate.lock starts in its place, in
turn, RUNS times each (10); the time is from the start of the process to the answer to `initialize`. The pinned start
includes finding and checking the pin. Then, what `pinned_launch` alone costs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from callgate.supply.pinned import pinned_launch
from callgate.supply.resolve import lock_server

PACKAGE = "@modelcontextprotocol/server-memory"
LINE = ("npx", "-y", PACKAGE)
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}


def main(runs: int) -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        lock = state / "callgate.lock"
        version = lock_server("memory", LINE, state=state).version

        def pinned() -> Sequence[str]:
            found = pinned_launch("memory", LINE, [lock], state)
            assert found
            return found.argv

        ways: dict[str, Callable[[], Sequence[str]]] = {
            "npx -y": lambda: ("npx", "-y", f"{PACKAGE}@{version}"),
            "npx -y --prefer-offline": lambda: ("npx", "--prefer-offline", "-y", f"{PACKAGE}@{version}"),
            "pinned": pinned,
        }
        for way in ways.values():
            first_answer(way, state)  # warms caches
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(runs):
            for name, way in ways.items():
                took[name].append(first_answer(way, state))
        base = statistics.median(took["pinned"])
        for name, times in took.items():
            median = statistics.median(times)
            print(f"{name:<26} median {median:7.1f} ms  fastest {min(times):7.1f} ms  {median / base:5.2f} x pinned")
        alone = []
        for _ in range(200):
            start = time.perf_counter()
            pinned()
            alone.append((time.perf_counter() - start) * 1000)
        entries = sum(1 for _ in state.rglob("*"))
        print(f"pinned_launch alone        median {statistics.median(alone):7.2f} ms  (a tree of {entries} entries)")
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    return 0


def first_answer(way: Callable[[], Sequence[str]], cwd: Path) -> float:
    """Milliseconds to the first answer."""
    start = time.perf_counter()
    command = way()
    with subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        took = (time.perf_counter() - start) * 1000
        os.killpg(process.pid, 9)
    if b'"result"' not in answer:
        raise SystemExit(f"{command[0]} did not answer")
    return took


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
