"""`callgate trust prune`: remove from the store what no lock refers to any more."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from callgate.cli import trust_report
from callgate.cli.trust_common import EXIT_OK, parser, place, say, told
from callgate.errors import ConfigError
from callgate.supply import known_locks
from callgate.supply.prune import DAYS, Pruned, Tree, prune
from callgate.text import visible

DESCRIPTION = """\
Remove trees of the store that no lock refers to: your own lock, launch.lock,
and those of projects that you locked here with --project. Shows what would go;
--yes removes it. Nothing younger than --days goes, and nothing that a running
server was started from.
"""


def main_prune(argv: list[str]) -> int:
    """0, whether there was something to remove or not."""
    made = parser("prune", DESCRIPTION)
    made.add_argument(
        "--days",
        type=float,
        default=DAYS,
        metavar="N",
        help=f"keep what is younger (default: {DAYS}; at least an hour)",
    )
    made.add_argument("--forget", metavar="LOCK", default="", help="forget this project's lock; removes nothing")
    made.add_argument("--yes", action="store_true", help="remove")
    trust_report.option(made)
    arguments = made.parse_args(argv)
    with trust_report.reporting("prune", as_json=arguments.json) as report:
        if not 0 <= arguments.days <= 36500:
            raise ConfigError("--days is a number from 0 to 36500", next_step="correct it")
        where = place(arguments)
        if arguments.forget:
            known = known_locks.forget(where.state, Path(arguments.forget))
            report.more["forgotten"] = known
            print(f"{'forgotten' if known else 'not known'}: {visible(arguments.forget, 300)}")
            return EXIT_OK
        more = [Path(where.config.launch.lock)] if where.config.launch.lock else []
        with told("reading the store"):
            found = prune(where.state, more, days=arguments.days, remove=arguments.yes)
        _show(found, arguments.days, removed=arguments.yes)
        report.lock = str(where.lock)
        report.more.update(
            trees=[asdict(one) for one in found.trees],
            kept=found.kept,
            locks=list(found.locks),
            gone=list(found.gone),
            dry_run=not arguments.yes,
        )
    return EXIT_OK


def _show(found: Pruned, days: float, *, removed: bool) -> None:
    print(f"{found.kept} in the store are in a lock, {len(found.trees)} are in none")
    for one in found.trees:
        print(f"  {one.fate:8} {_size(one.size):>10}, {_age(one)}: {visible(one.record, 150)}")
    for path in found.gone:
        say(f"a lock that was known is gone: {visible(path, 300)}")
    going = [one for one in found.trees if one.fate in ("unused", "removed")]
    total = _size(sum(one.size for one in going))
    if going and removed:
        print(f"removed: {total}")
    elif going:
        print(f"nothing was removed; --yes removes {len(going)}: {total}")
    elif found.trees:
        print(f"nothing to remove (--days {days:g})")


def _age(tree: Tree) -> str:
    days = int(tree.age_s // 86400)
    return f"{days} day{'' if days == 1 else 's'} old"


def _size(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
