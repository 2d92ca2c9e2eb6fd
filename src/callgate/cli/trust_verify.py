"""`callgate trust verify`: is everything still what was locked?"""

from __future__ import annotations

from pathlib import Path

from callgate.cli import trust_report
from callgate.cli.trust_common import EXIT_NO, Place, chosen, parser, place, say, say_error, title, told
from callgate.cli.trust_report import Report
from callgate.errors import TrustError
from callgate.supply import lockfile, publisher, tree_check
from callgate.supply.lockfile import LockedServer
from callgate.text import visible

DESCRIPTION = """\
Compare every locked server with what is in the store: its program, every file
of its tree, and the signatures of the lock where launch.signers are named.
Reads everything, changes nothing, asks no registry. Where nothing is locked
there is nothing to verify, which is no success.
"""


def main_verify(argv: list[str]) -> int:
    """0: all hold; 1: something does not, or nothing is locked."""
    made = parser("verify", DESCRIPTION)
    made.add_argument("names", metavar="NAME", nargs="*", help="names of servers (default: all)")
    trust_report.option(made)
    arguments = made.parse_args(argv)
    with trust_report.reporting("verify", as_json=arguments.json) as report:
        where = place(arguments)
        report.lock = str(where.lock)
        servers = chosen(where, arguments.names)
        if not servers:
            return _nothing(where, report)
        _signatures(where, report)
        for server in servers:
            _server(where, server, report)
        return report.code


def _nothing(where: Place, report: Report) -> int:
    """A lock that went away must not look like one that holds."""
    there = "holds no server" if lockfile.exists(where.lock) else "is not there"
    option = f" --project {visible(str(where.lock.parent), 200)}" if not where.own else ""
    error = TrustError(
        f"there is nothing to verify: {visible(str(where.lock), 300)} {there}",
        next_step=f"pin a server: callgate trust lock NAME{option} -- COMMAND"
        + ("; the lock of a project is named with --project DIR" if where.own else ""),
    )
    say_error(error, 0)
    report.more["error"] = trust_report.error_of(error)
    report.code = EXIT_NO
    return report.code


def _signatures(where: Place, report: Report) -> None:
    launch = where.config.launch
    if not launch.signers:
        print("no signers are named (launch.signers): signatures were not asked for")
        report.more["signature"] = {"asked": False}
        return
    from callgate.supply.lock_signature import verify_lock

    said: dict[str, object] = {"asked": True, "threshold": launch.threshold}
    try:
        found = verify_lock(where.lock, [Path(one) for one in launch.signers], launch.threshold, where.state)
        print(f"signed by {len(found.signers)} of the named signers, {launch.threshold} needed")
        report.more["signature"] = {**said, "ok": True, "signers": len(found.signers)}
    except TrustError as error:
        print("FAILED  signature")
        say_error(error, 8)
        report.more["signature"] = {**said, "ok": False, "error": trust_report.error_of(error)}
        report.code = EXIT_NO


def _server(where: Place, server: LockedServer, report: Report) -> None:
    with told(f"reading {server.name}"):
        problems = tree_check.problems(server, where.lock, where.state, signed=bool(where.config.launch.signers))
    for one in problems:
        print(f"FAILED  {title(server)}")
        say_error(one, 8)
    if problems:
        report.code = EXIT_NO
    else:
        what = f"tree {server.tree[:19]}..." if server.tree else f"{server.artefacts[0].digest[:26]}..."
        print(f"ok      {title(server)}  {what}")
        vouched = where.own or where.config.launch.signers
        for text in publisher.describe(server.provenance):
            say(text if vouched else f"{text}; so says the lock, which nobody signed", 8)
    report.server(
        server.name,
        "failed" if problems else "ok",
        server=trust_report.server_of(server),
        problems=[trust_report.error_of(one) for one in problems],
    )
