"""Runs a plan: every series in rounds, its subjects taking turns (A/B/A/B), so that drift hits all alike."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.harness import measure
from bench.harness.build import program
from bench.harness.machine import Placement
from bench.harness.paths import INSTALLED
from bench.harness.results import Log, Sample
from bench.harness.series import Series
from bench.harness.subjects import HTTP, STDIO

REAL_SERVER = (
    INSTALLED / "everything" / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
)


def run(plan: list[Series], rounds: int, placement: Placement, log: Log, say: Callable[[str], None]) -> None:
    """Measure everything in the plan that this machine can."""
    with tempfile.TemporaryDirectory(prefix="callgate-bench-", ignore_cleanup_errors=True) as directory:
        for series in plan:
            if not placement.possible(series.mode):
                say(f"{series.name}: left out, mode {series.mode} needs two CPUs")
                continue
            run_series = _http_series if series.kind == "http" else _stdio_series
            run_series(series, series.rounds or rounds, placement, Path(directory), log, say)


def _stdio_series(series: Series, rounds: int, placement: Placement, scratch: Path, log: Log,
                  say: Callable[[str], None]) -> None:  # fmt: skip
    server = [program("stdio_echo")]
    if series.server == "real":
        if not REAL_SERVER.exists():
            log.absent("server-everything", "not installed: bench/peers/install.py everything")
            return
        server = ["node", str(REAL_SERVER), "stdio"]
    subjects = [STDIO[name] for name in series.subjects if not _absent(name, STDIO[name].absent(), log)]
    for number in range(rounds):
        for subject in subjects:
            place = scratch / f"stdio-{subject.name}"
            place.mkdir(exist_ok=True)
            if series.kind == "start" and number == 0:
                measure.stdio(subject, series, placement, place, server)  # fills caches; a first start is another thing
            _keep(series, subject.name, number, measure.stdio(subject, series, placement, place, server), log, say)


def _http_series(series: Series, rounds: int, placement: Placement, scratch: Path, log: Log,
                 say: Callable[[str], None]) -> None:  # fmt: skip
    prefix = placement.prefix(series.mode, series.realtime)
    with measure.echo_server(prefix, polling=series.mode == "split") as server, contextlib.ExitStack() as stack:
        gateways = []
        for name in series.subjects:
            if _absent(name, HTTP[name].absent(), log):
                continue
            place = Path(tempfile.mkdtemp(prefix=f"http-{name}-", dir=scratch))
            try:
                gateway = measure.start_gateway(HTTP[name], server, prefix, place)
            except measure.StartError as error:
                _keep(series, name, 0, {"ok": False, "error": f"did not start: {error}"}, log, say)
                continue
            if gateway.process is not server[0]:
                stack.callback(measure.stop, gateway.process)
            gateways.append(gateway)
        for number in range(rounds):
            for gateway in gateways:
                sample = measure.http(gateway, series, placement, server[0].pid)
                _keep(series, gateway.subject.name, number, sample, log, say)


def _absent(name: str, why: str, log: Log) -> bool:
    if why:
        log.absent(name, why)
    return bool(why)


def _keep(series: Series, subject: str, number: int, sample: Sample, log: Log, say: Callable[[str], None]) -> None:
    sample["load1"] = os.getloadavg()[0]
    log.sample(series.name, subject, number, sample)
    if not sample.get("ok"):
        say(f"{series.name:<16} {number} {subject:<20} FAILED {str(sample.get('error', ''))[-300:]}")
        return
    shown = {"first_ms": sample.get("first_ms")} if series.kind == "start" else {
        key: sample.get(key) for key in ("p50", "p99", "rate", "cpu_us", "rss_kb", "event_p50") if key in sample
    }  # fmt: skip
    say(f"{series.name:<16} {number} {subject:<20} " + "  ".join(f"{key} {value}" for key, value in shown.items()))
