"""`callgate install`: put the servers of MCP clients behind the gate, in the files the clients read."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from callgate.clients.commit import carry_out
from callgate.clients.files import lock
from callgate.clients.git import tracked
from callgate.clients.launcher import launcher
from callgate.clients.machine import Machine, find
from callgate.clients.plan import Plan, Step, Wish, plan_install
from callgate.clients.records import Records
from callgate.clients.table import BY_NAME
from callgate.clients.tree import ClientFileError
from callgate.config import load, state_directory, user_config_file
from callgate.errors import ConfigError
from callgate.text import visible

EXIT_OK, EXIT_NO = 0, 1

DESCRIPTION = """\
Put the MCP servers of every client on this machine behind the gate: each entry
becomes `callgate run --name NAME -- COMMAND`, or `--url URL`, and nothing else
of the file changes. Shows the change and asks; keeps a backup; `callgate
uninstall` puts every byte back. Restart a client to make it read its file.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="callgate install", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_choice(made)
    made.add_argument("--project", metavar="DIR", default="", help="the files of this project too")
    made.add_argument("--managed", action="store_true", help="files an administrator manages too")
    return made


def add_choice(made: argparse.ArgumentParser) -> None:
    """The options install and uninstall share."""
    made.add_argument("--client", metavar="NAME", action="append", default=[], help="only this client (repeatable)")
    made.add_argument("--server", metavar="NAME", action="append", default=[], help="only this server (repeatable)")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--dry-run", action="store_true", help="show the change and write nothing")


def main(argv: list[str]) -> int:
    """The sub-command. 0 done, or nothing to do; 1 something was not done; 2 usage."""
    arguments = parser().parse_args(argv)
    machine = Machine.here()
    if machine.system == "win32":
        raise ConfigError("callgate run is not available on Windows yet, so no client can be pointed to it")
    if arguments.project and not os.path.isdir(arguments.project):
        raise ConfigError(f"{visible(arguments.project, 300)} is no directory")
    state = state_of_user()
    wish = Wish(launcher(), tuple(arguments.server), arguments.managed)
    with lock(state):
        records = Records(state)
        found = find(machine, tuple(arguments.client), arguments.project)
        plans = list(plan_install(found, records, wish))
        missing = [name for name in wish.servers if not any(s.server == name for p in plans for s in p.steps)]
        for name in missing:
            print(f"no server '{visible(name, 80)}' in these files")
        done = show_and_do(plans, records, state, arguments, verb="Wrap", nothing="nothing to wrap")
    return done if not missing else EXIT_NO


def state_of_user() -> Path:
    """The state directory that the user's configuration names."""
    path = user_config_file()
    return state_directory(load(path) if path else None)


def show_and_do(
    plans: list[Plan], records: Records, state: Path, arguments: argparse.Namespace, *, verb: str, nothing: str
) -> int:
    """Show what would be done, ask, do it."""
    for plan in plans:
        show(plan)
    failed = any(plan.failed for plan in plans)
    writes = [plan for plan in plans if plan.text is not None]
    if writes:
        counted = sum(step.action in ("wrap", "unwrap") for plan in writes for step in plan.steps)
        question = f"{verb} {_plural(counted, 'server')} in {_plural(len(writes), 'file')}?"
        if not _agreed(question, arguments):
            return EXIT_OK if arguments.dry_run and not failed else EXIT_NO
    for plan in plans:
        try:
            if arguments.dry_run:
                continue
            backup = carry_out(plan, records, state)
        except ClientFileError as error:
            failed = True
            print(error.diagnostics())
        else:
            if backup:
                print(f"written: {shown_path(plan.path)}\n  backup: {shown_path(str(backup))}")
    if not writes:
        print(nothing)
    elif not failed:
        print("restart the clients: they read their files when they start")
    return EXIT_NO if failed else EXIT_OK


def show(plan: Plan) -> None:
    """One file: its servers, then the change of its text."""
    if not plan.steps and plan.problem is None:
        return
    client = BY_NAME.get(plan.client)
    print(f"{client.title if client else visible(plan.client, 40)}  {shown_path(plan.path)}")
    if plan.problem is not None:
        print(textwrap.indent(plan.problem.diagnostics(), "  "))
    if plan.text is not None and tracked(os.path.realpath(plan.path)):
        print("  git tracks this file: whoever gets it next needs callgate at the same path")
    width = min(24, max((len(visible(step.server, 40)) for step in plan.steps), default=0))
    for step in plan.steps:
        _show_step(step, width)
    for line in plan.diff():
        print(line)
    print()


def _show_step(step: Step, width: int) -> None:
    head = f"  {step.action:<8} {visible(step.server, 40):<{width}}  "
    columns = max(60, shutil.get_terminal_size().columns)
    detail = visible(step.detail)
    if step.action == "wrap":
        room = columns - len(head)
        print(head + (detail if len(detail) <= room else detail[: max(10, room - 1)] + "…"))
    else:
        print(_filled(head, detail, columns))
    if step.next_step:
        print(
            textwrap.fill(
                visible(step.next_step), columns, initial_indent=" " * 11 + "next: ", subsequent_indent=" " * 17
            )
        )
    for line in step.lines:
        print("    " + line)


def _filled(head: str, text: str, columns: int) -> str:
    if not text:
        return head.rstrip()
    lines = textwrap.wrap(text, max(30, columns - 13), break_on_hyphens=False)
    if len(head) + len(lines[0]) <= columns and len(lines) == 1:
        return head + lines[0]
    return "\n".join([head.rstrip(), *(" " * 13 + line for line in lines)])


def shown_path(path: str) -> str:
    """A path, short and safe to print."""
    home = os.path.expanduser("~")
    return visible("~" + path[len(home) :] if path.startswith(home + os.sep) else path, 300)


def _agreed(question: str, arguments: argparse.Namespace) -> bool:
    if arguments.dry_run:
        print("dry run: nothing was written")
        return False
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        print("nothing was written: nobody is there to agree; --yes agrees")
        return False
    print(f"{question} [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was written")
    return False


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_clients(names: Iterable[str]) -> None:
    """Raise ConfigError for a client nobody knows."""
    for name in names:
        if name not in BY_NAME:
            raise ConfigError(
                f"there is no client '{visible(name, 80)}'", next_step="one of: " + ", ".join(sorted(BY_NAME))
            )
