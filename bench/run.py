#!/usr/bin/env python3
"""Measure callgate beside the floors and, when asked, its peers; judge the targets; write the report.

    bench/run.py --quick            the floors and callgate, about three minutes
    bench/run.py --full             more rounds, and the peers that are installed (bench/peers/install.py)
    bench/run.py --only http        the series whose names start so
    bench/run.py --write-docs       write docs/performance.md from the newest results, measure nothing

Results go to bench/results/. Exit code 1 when a target was missed, unless --no-judge.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from pathlib import Path

if not __package__:  # started as bench/run.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import report, results, runner, targets
from bench.harness.build import BuildError, build_all
from bench.harness.machine import Placement, describe
from bench.harness.paths import REPORT, RESULTS
from bench.harness.series import plan

QUICK_ROUNDS, FULL_ROUNDS = 2, 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="floors and callgate only (the default)")
    size.add_argument("--full", action="store_true", help="more rounds, and the peers")
    parser.add_argument("--only", default="", help="only series whose name starts with one of these, comma-separated")
    parser.add_argument("--rounds", type=int, help=f"rounds of each series ({QUICK_ROUNDS} or {FULL_ROUNDS})")
    parser.add_argument("--no-realtime", action="store_true", help="never ask for SCHED_RR")
    parser.add_argument("--no-judge", action="store_true", help="exit 0 also when a target was missed")
    parser.add_argument("--output", type=Path, help="where to write the results (default: bench/results/)")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md from results, then stop")
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", help="with --write-docs: these results")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.write_docs:
        return write_docs(options.sources)
    try:
        build_all()
    except BuildError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    wanted = tuple(name.strip() for name in options.only.split(",") if name.strip())
    chosen = [series for series in plan(peers=options.full) if not wanted or series.name.startswith(wanted)]
    if not chosen:
        print(f"bench: no series starts with {options.only!r}", file=sys.stderr)
        return 2
    placement = Placement(realtime=not options.no_realtime)
    rounds = options.rounds or (FULL_ROUNDS if options.full else QUICK_ROUNDS)
    path = options.output or RESULTS / f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%S}.jsonl"
    log = results.Log(path)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    log.conditions({**describe(placement), "date": today, "rounds": rounds, "versions": report.versions()})
    if placement.realtime:
        # The harness must get in to read the clocks; what it starts is to be as usual.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(2))
    runner.run(chosen, rounds, placement, log, lambda line: print(line, flush=True))
    log.close()
    judged = targets.judge(log.results)
    print("\n" + report.terminal_table(judged))
    for subject, why in log.results.absent.items():
        print(f"{subject}: {why}")
    missed = [each for each in judged if each.verdict == "MISS"]
    failed = [key for key in log.results.failures if key[1].startswith("callgate")]
    return 1 if (missed or failed) and not options.no_judge else 0


def write_docs(sources: list[Path] | None) -> int:
    found = sources or sorted(RESULTS.glob("*.jsonl"))[-1:]
    if not found:
        print("bench: no results yet: run bench/run.py --full first", file=sys.stderr)
        return 2
    REPORT.write_text(report.markdown(results.load(found)))
    print(f"wrote {REPORT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
