"""Run each fuzz target for a number of seconds: exit status 1 when an invariant broke, 2 when they cannot run."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = {"decode": 4096, "sse": 512, "headers": 2048, "lane": 4096, "forms": 2048}
"""Target and the longest input to try: the SSE target cuts its input into single bytes."""


def run(script: Path, seeds: Path, findings: Path, seconds: int, longest: int = 4096) -> int:
    """One target for `seconds`; the exit status of libFuzzer, 0 when nothing was found."""
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as found:
        command = [
            sys.executable,
            str(script),
            f"-max_total_time={seconds}",
            f"-max_len={longest}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            f"-dict={HERE / 'json.dict'}",
            f"-artifact_prefix={findings}{os.sep}",
            found,
            str(seeds),
        ]
        source = str(HERE.parent / "src")
        paths = os.pathsep.join(path for path in (source, os.environ.get("PYTHONPATH", "")) if path)
        # libFuzzer stops by itself; the deadline is for a target that hangs in spite of its own time limit.
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + 120,
            check=False,
        )
    if done.returncode != 0:
        told = [line for line in done.stderr.splitlines() if not line.startswith(("#", "INFO", "WARNING"))]
        print(done.stdout[-4000:], *told[-60:], sep="\n", file=sys.stderr)
    else:
        print(f"{script.name}: {_executed(done.stderr)} inputs in {seconds} s, nothing found")
    return done.returncode


def _executed(log: str) -> str:
    for line in log.splitlines():
        if line.startswith("stat::number_of_executed_units:"):
            return line.rpartition(":")[2].strip()
    return "?"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: install the dependency group `fuzz`", file=sys.stderr)
        return 2
    broken = []
    for name in options.target or TARGETS:
        script, findings = HERE / f"fuzz_{name}.py", HERE / "findings" / name
        if run(script, HERE / "corpus" / name, findings, options.seconds, TARGETS[name]) != 0:
            broken.append(name)
    for name in broken:
        print(f"{name}: an invariant broke, the input is in fuzz/findings/{name}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
