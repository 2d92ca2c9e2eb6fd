"""`callgate uninstall`: put back, byte for byte, what `callgate install` changed."""

from __future__ import annotations

import argparse

from callgate.cli.install import EXIT_NO, add_choice, check_clients, show_and_do, state_of_user
from callgate.clients.files import lock
from callgate.clients.plan import plan_uninstall
from callgate.clients.records import Record, Records
from callgate.text import visible

DESCRIPTION = """\
Put the servers of clients back as they were before `callgate install`, byte for
byte. An entry that was edited since is refused, with the difference; others go
on. Entries that were added since are kept.
"""


def main(argv: list[str]) -> int:
    """The sub-command. 0 done, or nothing to do; 1 something was not done; 2 usage."""
    parser = argparse.ArgumentParser(
        prog="callgate uninstall", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_choice(parser)
    parser.add_argument(
        "--keep-edits",
        action="store_true",
        help="of an edited entry, put back command and arguments, and keep the rest",
    )
    arguments = parser.parse_args(argv)
    check_clients(arguments.client)

    def wanted(record: Record) -> bool:
        return (not arguments.client or record.client in arguments.client) and (
            not arguments.server or record.where[-1] in arguments.server
        )

    state = state_of_user()
    with lock(state):
        records = Records(state)
        plans = list(plan_uninstall(records, wanted, keep_edits=arguments.keep_edits))
        missing = [name for name in arguments.server if all(r.where[-1] != name for r in records.all())]
        for name in missing:
            print(f"no server '{visible(name, 80)}' was wrapped by callgate install")
        done = show_and_do(plans, records, state, arguments, verb="Put back", nothing="nothing to put back")
    return done if not missing else EXIT_NO
