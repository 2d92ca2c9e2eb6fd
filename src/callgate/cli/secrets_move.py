"""`callgate secrets move`: credentials of servers go into a store, references stay in the files; `--undo` goes back."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from callgate.cli.install import check_clients, shown_path, state_of_user
from callgate.cli.secrets_backups import scrub
from callgate.cli.secrets_files import (
    FilePlan,
    Moves,
    Pick,
    carry_out_move,
    carry_out_undo,
    plan_move,
    plan_undo,
    store,
)
from callgate.cli.secrets_find import search
from callgate.cli.secrets_uses import uses
from callgate.clients.commit import carry_out
from callgate.clients.entries import Entry, entries
from callgate.clients.files import lock, tidy
from callgate.clients.formats import string
from callgate.clients.git import tracked
from callgate.clients.launcher import launcher
from callgate.clients.literals import write
from callgate.clients.machine import Found, Machine, find
from callgate.clients.plan import Plan, Step, Wish, plan_install
from callgate.clients.records import Records
from callgate.clients.table import Shape
from callgate.clients.tree import Node
from callgate.config import user_config_file
from callgate.errors import CallgateError, ConfigError
from callgate.text import visible
from callgate.vault.find import Fingerprints
from callgate.vault.find_files import readers
from callgate.vault.find_places import is_env_file
from callgate.vault.move import StoreKeeper, keeper

EXIT_OK, EXIT_NO = 0, 1
WIDTH = 80


@dataclass(slots=True)
class Work:
    """Everything one run would do."""

    state: Path
    keeper: StoreKeeper
    records: Records
    moves: Moves
    undo: bool
    entries: list[Plan] = field(default_factory=list)
    files: list[FilePlan] = field(default_factory=list)
    rotate: list[tuple[str, str]] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Files with more to move once this is done."""

    @property
    def writes(self) -> int:
        """Values that would change places."""
        return sum(len(one.changes) for one in self.files) + sum(len(_noted(one)) for one in self.entries)

    @property
    def failed(self) -> bool:
        """Whether something that was asked for cannot be done."""
        return any(one.problem or one.refused for one in self.files) or any(one.failed for one in self.entries)


def move(arguments: argparse.Namespace) -> int:
    """Plan, show, ask, do."""
    check_clients(arguments.client)
    for path in arguments.path:
        if not os.path.isfile(path) or not is_env_file(os.path.basename(path)):
            raise ConfigError(
                f"{visible(path, 300)} is no .env file", next_step="clients' files are found without names"
            )
    if arguments.project and not os.path.isdir(arguments.project):
        raise ConfigError(f"{visible(arguments.project, 300)} is no directory")
    state = state_of_user()
    with lock(state):
        work = Work(state, keeper(state, arguments.to), Records(state), Moves(state), arguments.undo)
        if not arguments.dry_run:
            _tidy(work, arguments)
        (_plan_undo if arguments.undo else _plan)(work, arguments)
        _show(work)
        if not (work.writes or any(one.drop for one in work.files)):
            print("nothing to put back" if work.undo else "nothing to move")
            return EXIT_NO if work.failed else EXIT_OK
        if not _agreed(work, arguments):
            return EXIT_OK if arguments.dry_run and not work.failed else EXIT_NO
        failed = _do(work) or work.failed
        if not work.undo:
            _say_what_is_left(work, arguments)
    if not failed:
        print("restart the clients: they read their files when they start")
    return EXIT_NO if failed else EXIT_OK


def _tidy(work: Work, arguments: argparse.Namespace) -> None:
    """Remove what an interrupted command left beside files: it may hold values."""
    files = {os.path.realpath(path) for path in (*arguments.path, user_config_file()) if path}
    files |= {found.real for found in find(Machine.here(), (), arguments.project)}
    files |= {one.file for one in work.moves.all()} | {one.file for one in work.records.all()}
    for path in (*sorted(files), *(str(work.state / name) for name in ("clients.json", "moves.json"))):
        tidy(path)


# --- planning -----------------------------------------------------------------------------------


def _plan(work: Work, arguments: argparse.Namespace) -> None:
    wish = Wish(launcher(), tuple(arguments.server), keeper=work.keeper, only_wrapped=True)
    found = list(find(Machine.here(), tuple(arguments.client), arguments.project))
    work.entries = [plan for plan in plan_install(found, work.records, wish) if _matters(plan)]
    fingerprints = Fingerprints.of_state(work.state)
    changed = {plan.content.path for plan in work.entries if plan.content and plan.text is not None}
    for one in found:
        if not one.place.hands_off and one.place.scope != "managed":
            by_hand = _ByHand(one, work.records, wish)
            plan = plan_move(one.real, one.place.format, by_hand.picks, work.keeper, fingerprints)
            if plan.problem is None and plan.changes and one.real in changed:
                work.again.append(one.real)  # one change of a file at a time
            elif plan.problem is None and (plan.changes or plan.refused):
                work.files.append(plan)
    config = user_config_file()
    if config and not arguments.client:
        picks = _Configured(tuple(arguments.server)).picks
        plan = plan_move(os.path.realpath(config), "toml", picks, work.keeper, fingerprints)
        if plan.problem or plan.changes or plan.refused:
            work.files.append(plan)
    for path in arguments.path:
        plan = plan_move(os.path.realpath(path), "env", lambda _: (), work.keeper, fingerprints)
        if plan.problem or plan.changes or plan.refused:
            work.files.append(plan)
    work.rotate = list(_exposed(work))


def _matters(plan: Plan) -> bool:
    return plan.problem is not None or any(step.notes or step.action == "refused" for step in plan.steps)


@dataclass(frozen=True, slots=True)
class _ByHand:
    """Entries that start behind the gate and were not put there by `callgate install`."""

    found: Found
    records: Records
    wish: Wish

    def picks(self, root: Node) -> Iterator[Pick]:
        """Their variables."""
        for entry in entries(root, self.found.place, self.found.client.shape):
            if (
                entry.kind == "wrapped"
                and self.wish.wants(entry.name)
                and not self.records.get(self.found.real, entry.where)
            ):
                yield from _variables(entry, self.found.client.shape)


def _variables(entry: Entry, shape: Shape) -> Iterator[Pick]:
    member = entry.node.get(shape.env)
    for one in member.node.members if member and member.node.kind == "map" else ():
        if one.node.kind == "scalar":
            yield Pick((*entry.where, shape.env, one.key), entry.name, one.key, one.node)


@dataclass(frozen=True, slots=True)
class _Configured:
    """The servers of callgate.toml."""

    servers: tuple[str, ...]

    def picks(self, root: Node) -> Iterator[Pick]:
        """Their variables and headers."""
        servers = root.get("servers")
        for server in servers.node.members if servers else ():
            if self.servers and server.key not in self.servers:
                continue
            for table in ("environment", "headers"):
                member = server.node.get(table) if server.node.kind == "map" else None
                for one in member.node.members if member and member.node.kind == "map" else ():
                    if one.node.kind == "scalar":
                        where = ("servers", server.key, table, one.key)
                        yield Pick(where, server.key, one.key, one.node)


def _plan_undo(work: Work, arguments: argparse.Namespace) -> None:
    wish = Wish(launcher(), tuple(arguments.server), managed=True, only_wrapped=True, put_back=work.keeper.fetch)
    found = find(Machine.here(), tuple(arguments.client), arguments.project)
    files = {record.file for record in work.records.all() if record.moved}
    work.entries = [
        plan for plan in plan_install((f for f in found if f.real in files), work.records, wish) if _matters(plan)
    ]
    fingerprints = Fingerprints.of_state(work.state)
    chosen = [one for one in work.moves.all() if _chosen(one.file, one.where, arguments)]
    for file in dict.fromkeys(one.file for one in chosen):
        records = [one for one in chosen if one.file == file]
        work.files.append(plan_undo(file, records, work.keeper, fingerprints))


def _chosen(file: str, where: tuple[str, ...], arguments: argparse.Namespace) -> bool:
    if arguments.path and file not in {os.path.realpath(path) for path in arguments.path}:
        return False
    if arguments.client:
        clients = {found.real for found in find(Machine.here(), tuple(arguments.client), arguments.project)}
        if file not in clients:
            return False
    return not arguments.server or any(name in where for name in arguments.server)


def _exposed(work: Work) -> Iterator[tuple[str, str]]:
    """References of values that others could read where they stood, and why."""
    for path, references in _moved(work):
        status = os.stat(path)
        who = readers(path, status)
        reason = {"everyone": "every user of this machine could read it", "group": "its group could read it"}.get(
            who, ""
        )
        if not reason and tracked(path):
            reason = "whoever has the git repository has it"
        if reason:
            yield from ((reference, reason) for reference in references)


def _moved(work: Work) -> Iterator[tuple[str, list[str]]]:
    for plan in work.entries:
        if plan.content is not None and plan.moves:
            yield plan.content.path, [one.reference for one in plan.moves]
    for file in work.files:
        if file.content is not None and file.changes:
            yield file.content.path, [one.reference for one in file.changes]


# --- showing ------------------------------------------------------------------------------------


def _noted(plan: Plan) -> list[str]:
    return [note for step in plan.steps for note in step.notes if plan.text is not None or plan.add]


def _show(work: Work) -> None:
    for plan in work.entries:
        print(shown_path(plan.path))
        if plan.problem is not None:
            _say(visible(plan.problem.what, 300), plan.problem.next_step)
        for step in plan.steps:
            _show_step(step)
        print()
    for file in work.files:
        print(shown_path(file.path))
        if file.problem is not None:
            _say(visible(file.problem.what, 300), file.problem.next_step)
        for change in file.changes:
            _say(f"{change.line}: {visible(change.label, 120)}")
            _say(("from " if work.undo else "to ") + visible(change.reference, 300), deeper=True)
            if change.note:
                _say(change.note, deeper=True)
        if file.changes and file.changes[0].record.format == "env" and not work.undo:
            _say("a program that reads this file by itself gets the references: start it with callgate run")
        for label, reason in file.refused:
            _say(f"{visible(label, 120)}: left: {visible(reason, 300)}")
        print()


def _show_step(step: Step) -> None:
    if not (step.notes or step.action == "refused"):
        return
    _say(
        visible(step.server, 60) + (": left: " + visible(step.detail, 300) if step.action == "refused" else ""),
        step.next_step,
    )
    for note in step.notes:
        _say(visible(note, 400), deeper=True)


def _say(text: str, next_step: str = "", *, deeper: bool = False) -> None:
    lead = "      " if deeper else "  "
    for line, first in ((text, lead), (next_step and f"next: {visible(next_step, 300)}", "      ")):
        if line:
            print(
                textwrap.fill(line, WIDTH, initial_indent=first, subsequent_indent=first + "  ", break_on_hyphens=False)
            )


def _agreed(work: Work, arguments: argparse.Namespace) -> bool:
    if arguments.dry_run:
        print("dry run: nothing was written")
        return False
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        print("nothing was written: nobody is there to agree; --yes agrees")
        return False
    count = f"{work.writes} credential{'s' * (work.writes != 1)}"
    question = f"Put {count} back into the files?" if work.undo else f"Move {count} to {work.keeper.store.name}?"
    print(f"{question} [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was written")
    return False


# --- doing --------------------------------------------------------------------------------------


def _do(work: Work) -> bool:
    """Do it; whether something failed."""
    failed = False
    for plan in work.entries:
        if plan.text is None and not plan.add:
            continue
        try:
            _entry_undo(work, plan) if work.undo else _entry_move(work, plan)
        except CallgateError as error:
            failed = True
            print(error.diagnostics())
        else:
            print(f"written: {shown_path(plan.path)}")
    for file in work.files:
        try:
            _file_undo(work, file) if work.undo else _file_move(work, file)
        except CallgateError as error:
            failed = True
            print(error.diagnostics())
        else:
            if file.text is not None:
                print(f"written: {shown_path(file.path)}")
    for reference, reason in work.rotate:
        _say(f"rotate {visible(reference, 300)}: {reason}")
    return failed


def _say_what_is_left(work: Work, arguments: argparse.Namespace) -> None:
    """Where servers' credentials, and what was just moved, still lie in plain text."""
    values = tuple(_values(work))
    fingerprints = Fingerprints.of_state(work.state)
    moved = {fingerprints.of(value) for value in values}
    asked = argparse.Namespace(path=[], client=arguments.client, project=arguments.project, home=False)
    for one in search(asked, values).findings:
        name = ": ".join(part for part in (visible(one.server, 40), visible(one.key, 120)) if part)
        place = f"{shown_path(one.path)}:{one.line}{' ' if name else ''}{name}"
        if one.digest in moved:
            _say(f"the same value still lies in {place}")
        elif one.source in ("client", "callgate"):
            why = " (an argument: no reference can stand there)" if one.in_arguments else ""
            _say(f"still in plain text: {place}{why}")
    for path in work.again:
        _say(f"run it again for {shown_path(path)}: there are entries that were put behind the gate by hand")


def _values(work: Work) -> Iterator[str]:
    yield from (one.value for plan in work.entries for one in plan.moves)
    yield from (one.value for plan in work.files for one in plan.changes)


def _entry_move(work: Work, plan: Plan) -> None:
    for one in plan.moves:
        store(work.keeper, one.reference, one.value)
    scrub(
        work.state,
        [
            (write(one.form, one.value), string(plan.format, one.reference), one.value, one.reference)
            for one in plan.moves
        ],
    )
    carry_out(plan, work.records, work.state, work.keeper)


def _file_move(work: Work, plan: FilePlan) -> None:
    for one in plan.changes:
        store(work.keeper, one.reference, one.value)
    scrub(work.state, [(one.old, one.new, one.value, one.reference) for one in plan.changes])
    carry_out_move(plan, work.moves, work.keeper)


def _entry_undo(work: Work, plan: Plan) -> None:
    before = {one.reference for new in plan.add if (old := work.records.get(*new.key)) for one in old.moved}
    carry_out(plan, work.records, work.state)
    _forget(work, before)


def _file_undo(work: Work, plan: FilePlan) -> None:
    carry_out_undo(plan, work.moves)
    _forget(work, {one.reference for one in plan.changes})


def _forget(work: Work, references: Iterable[str]) -> None:
    """Take from the store what is in the files again, unless a reference to it stands somewhere."""
    found, problems = uses(work.state)
    still = {use.reference for use in found}
    for reference in references:
        if reference in still or problems:
            _say(f"kept in the store, it may be used elsewhere: {visible(reference, 300)}")
        else:
            work.keeper.forget(reference)
