"""`callgate trust update` and `diff`: what a newer release changed, and taking it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from callgate.cli import trust_checks, trust_report
from callgate.cli.trust_common import (
    EXIT_NO,
    EXIT_OK,
    Place,
    chosen,
    confirmed,
    fetching,
    options,
    parser,
    place,
    say,
    say_error,
    show_diff,
    title,
    told,
)
from callgate.cli.trust_report import Report
from callgate.errors import CallgateError, TrustError
from callgate.supply import publisher, resolve
from callgate.supply.cooldown import Cooldown, parse_time
from callgate.supply.lockfile import LockedServer
from callgate.supply.resolve_update import Definitions, Proposal, drop, propose
from callgate.text import visible

UPDATE = """\
Resolve the launch lines of locked servers anew. A release that is old enough
(launch.cooldown_days) is fetched, compared with the locked one, shown, and
taken when you say yes. Nothing of it runs before that.
"""
DIFF = """\
Fetch a release of a locked server, show what it would change, and throw it
away again. VERSION is one the registry knows; without it, the newest, whether
old enough to be taken or not.
"""


def asking(state: Path) -> Definitions:
    """Start what was fetched, in its sandbox, and ask it what it offers."""

    def ask(server: LockedServer) -> dict[str, str]:
        from callgate.launching.definitions import definitions_of

        try:
            return definitions_of(server, state)
        except TrustError:
            raise
        except CallgateError as error:
            raise TrustError(error.what, next_step=error.next_step) from error

    return ask


def main_update(argv: list[str], definitions: Definitions | None = None) -> int:
    """0: all are up to date or were updated; 1: something was not taken."""
    made = parser("update", UPDATE)
    fetching(made)
    made.add_argument("--new-publisher", action="store_true", help="take releases of another publisher, or of none")
    made.add_argument("--all", action="store_true", help="show all changes")
    made.add_argument("names", metavar="NAME", nargs="*", help="names of servers (default: all)")
    trust_report.option(made)
    arguments = made.parse_args(argv)
    with trust_report.reporting("update", as_json=arguments.json) as report:
        where = place(arguments)
        report.lock = str(where.lock)
        for server in chosen(where, arguments.names):
            if not _update(where, arguments, server, definitions or asking(where.state), report):
                report.code = EXIT_NO
        return report.code


def _update(
    where: Place, arguments: argparse.Namespace, server: LockedServer, definitions: Definitions, report: Report
) -> bool:
    """One server: whether it is up to date now."""
    try:
        with told(f"looking for a newer {server.name}"):
            proposal = propose(server, where.state, options(arguments, where), definitions)
    except TrustError as error:
        print(f"{title(server)}: not updated")
        say_error(error)
        report.server(server.name, "refused", error=trust_report.error_of(error))
        return False
    if proposal.nothing:
        print(f"{title(server)}: nothing newer to take" + _why(server))
        report.server(server.name, "unchanged", before=trust_report.server_of(server))
        return True
    if proposal.older:
        drop(proposal, where.state, where.lock)
        print(
            f"{title(server)}: not updated\n"
            f"  the registry now gives {visible(proposal.after.version, 40)}, which is older than what is locked:\n"
            "  releases were withdrawn, or are not old enough (--no-cooldown takes them)"
        )
        report.server(server.name, "older", **_said(proposal))
        return False
    show(proposal, every=arguments.all)
    warnings = trust_checks.package_warnings(proposal.after, where.state)
    for one in warnings:
        say(one.text)
    try:
        taken = (
            not any(one.refuses for one in warnings)
            and _same_publisher(proposal, taken=arguments.new_publisher)
            and confirmed("  take it?", yes=arguments.yes)
        )
    except BaseException:
        drop(proposal, where.state, where.lock)
        raise
    said = {**_said(proposal), "warnings": trust_report.warnings_of(warnings)}
    if not taken:
        drop(proposal, where.state, where.lock)
        print("  not taken")
        report.server(server.name, "refused", **said)
        return False
    before, after = visible(server.version, 60), visible(proposal.after.version, 60)
    resolve.commit(proposal.after, where.lock, approved=f"updated from {before} to {after}")
    print(f"  taken; written to {visible(str(where.lock), 300)}")
    report.server(server.name, "updated", **said)
    return True


def _same_publisher(proposal: Proposal, *, taken: bool) -> bool:
    """Whether it may be taken as far as its publisher goes: a plain yes is not enough for another one."""
    if taken or not publisher.change(proposal.before.provenance, proposal.after.provenance):
        return True
    say("ask the publisher whether they moved; if they did: --new-publisher")
    return False


def _said(proposal: Proposal) -> dict[str, Any]:
    """A proposal for `--json`."""
    before, after = proposal.before, proposal.after
    return {
        "before": trust_report.server_of(before),
        "after": trust_report.server_of(after),
        "publisher_change": publisher.change(before.provenance, after.provenance),
        "code": trust_report.diff_of(proposal.diff),
        "definitions": list(proposal.definitions),
    }


def main_diff(argv: list[str], definitions: Definitions | None = None) -> int:
    """0: nothing would change; 1: something would."""
    made = parser("diff", DIFF)
    made.set_defaults(no_cooldown=True)  # it only looks
    made.add_argument(
        "--allow-sdist", action="store_true", help="build Python packages without wheels: runs their code"
    )
    made.add_argument("--no-provenance", action="store_true", help="do not ask the registry who built it")
    made.add_argument("--all", action="store_true", help="show all changes")
    made.add_argument("name", metavar="NAME")
    made.add_argument("version", metavar="VERSION", nargs="?", default="")
    trust_report.option(made)
    arguments = made.parse_args(argv)
    with trust_report.reporting("diff", as_json=arguments.json) as report:
        where = place(arguments)
        report.lock = str(where.lock)
        server = chosen(where, [arguments.name])[0]
        looking = options(arguments, where, arguments.version)
        with told(f"fetching {server.name}"):
            proposal = propose(server, where.state, looking, definitions or asking(where.state))
        if proposal.nothing:
            print(f"{title(server)}: nothing would change")
            report.server(server.name, "unchanged", before=trust_report.server_of(server))
            return EXIT_OK
        try:
            show(proposal, every=arguments.all)
            young = _too_young(proposal, where)
            if young:
                days = where.config.launch.cooldown_days
                print(f"  it is not old enough to be taken: less than {days} days (launch.cooldown_days)")
        finally:
            drop(proposal, where.state, where.lock)
        report.code = EXIT_NO
        report.server(server.name, "changes", **_said(proposal), too_young=young)
        return report.code


def _why(server: LockedServer) -> str:
    exact = server.requested.lstrip("=v") == server.version and server.version
    return f" (the launch line asks for {visible(server.version, 40)} and no other)" if exact else ""


def _too_young(proposal: Proposal, where: Place) -> bool:
    published = parse_time(proposal.after.published)
    limit = Cooldown(where.config.launch.cooldown_days).limit
    return bool(published and limit and published > limit)


def show(proposal: Proposal, *, every: bool = False) -> None:
    """What an update changes, for a person."""
    before, after = proposal.before, proposal.after
    versions = (
        f"{visible(before.version, 71)} -> {visible(after.version, 71)}"
        if before.version != after.version
        else visible(after.version or after.package, 120)
    )
    name = "" if before.kind in ("local", "binary") else f"{visible(after.package, 100)} "
    print(f"{visible(after.name, 64)}: {name}{versions}")
    if after.published:
        print(
            f"  published {after.published[:10]}"
            + (f", before that {before.published[:10]}" if before.published else "")
        )
    changed = publisher.change(before.provenance, after.provenance)
    if changed:
        say(f"PUBLISHER  {changed}")
    elif publisher.statement_of(before.provenance) != publisher.statement_of(after.provenance):
        for text in publisher.describe(after.provenance):
            say(text)
        if publisher.moved(before.provenance, after.provenance):
            say(publisher.moved(before.provenance, after.provenance))
    if before.store:
        show_diff(proposal.diff, every=every)
    if before.store and set(after.artefacts) == set(before.artefacts):
        print("  the artefacts are the same; the tree they unpack to is not")
    for one in proposal.definitions:
        print(f"  definition {visible(one, 120)}")
    if not proposal.definitions and before.definitions and before.definitions == after.definitions:
        print("  definitions were not compared: they are, when the server next runs")
