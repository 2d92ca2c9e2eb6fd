"""`callgate uninstall`: put back, byte for byte, what `callgate install` changed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from callgate.cli.client_options import chosen_clients, clients_with_hooks, state_of_user
from callgate.cli.install import EXIT_NO, Work, add_choice, show_and_do
from callgate.clients.files import lock
from callgate.clients.hook_files import HookRecords, plan_remove
from callgate.clients.machine import Machine
from callgate.clients.plan_back import plan_uninstall
from callgate.clients.records import Record, Records
from callgate.text import visible

DESCRIPTION = """\
Put the servers of clients back as they were before `callgate install`, byte for
byte: credentials come back from the store (where they stay as well), and hooks
are taken out. An entry that was edited since is refused, with the difference;
others go on. Entries that were added since are kept.
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
    chosen_clients(arguments)

    def wanted(record: Record) -> bool:
        return (not arguments.client or record.client in arguments.client) and (
            not arguments.server or record.where[-1] in arguments.server
        )

    state = state_of_user()
    machine = Machine.here()
    with lock(state):
        records, hook_records = Records(state), HookRecords(state)
        fetch = _fetch(state) if any(record.moved for record in records.all()) else None
        plans = list(plan_uninstall(records, wanted, keep_edits=arguments.keep_edits, fetch=fetch))
        missing = [name for name in arguments.server if all(r.where[-1] != name for r in records.all())]
        for name in missing:
            print(f"no server '{visible(name, 80)}' was wrapped by callgate install")
        hooked = clients_with_hooks(arguments.client) if not arguments.server else ()
        hooks = list(plan_remove(machine, hook_records, hooked))
        work = Work(plans, hooks, records, hook_records, state)
        done, _ = show_and_do(work, arguments, nothing="nothing to put back")
    return done if not missing else EXIT_NO


def _fetch(state: Path) -> Callable[[str], str]:
    """Credentials by reference; a store is opened when something of it is asked for."""

    def fetch(reference: str) -> str:
        from callgate.vault.session import Session

        with Session(state) as session:
            return session.resolve(reference).value.decode("utf-8", "surrogatepass")

    return fetch
