"""`callgate secrets move`: credentials of servers go into a store, references stay in the files; `--undo` goes back."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterable, Iterator

from callgate.cli.asked import agreed
from callgate.cli.client_options import chosen_clients, shown_path, state_of_user
from callgate.cli.secrets_files import FilePlan, Moves, carry_out_move, carry_out_undo, store
from callgate.cli.secrets_find import search
from callgate.cli.secrets_granted import grant, settle
from callgate.cli.secrets_uses import uses
from callgate.cli.secrets_work import Work, plan_back, plan_there, tidy_up
from callgate.clients.commit import carry_out
from callgate.clients.files import lock
from callgate.clients.plan import Plan, Step
from callgate.clients.records import Records
from callgate.clients.scrub import scrub
from callgate.clients.url_parts import references
from callgate.errors import CallgateError, ConfigError
from callgate.text import visible
from callgate.vault.find import Fingerprints
from callgate.vault.find_places import is_env_file
from callgate.vault.move import keeper

EXIT_OK, EXIT_NO = 0, 1
WIDTH = 80


def move(arguments: argparse.Namespace) -> int:
    """Plan, show, ask, do."""
    chosen_clients(arguments)
    for path in arguments.path:
        if not os.path.isfile(path) or not is_env_file(os.path.basename(path)):
            raise ConfigError(
                f"{visible(path, 300)} is no .env file", next_step="clients' files are found without names"
            )
    state = state_of_user()
    with lock(state):
        work = Work(state, keeper(state, arguments.to), Records(state), Moves(state), arguments.undo)
        if not arguments.dry_run:
            tidy_up(work, arguments)
        (plan_back if arguments.undo else plan_there)(work, arguments)
        _show(work)
        if not (work.writes or any(one.drop for one in work.files)):
            print("nothing to put back" if work.undo else "nothing to move")
            return EXIT_NO if work.failed else EXIT_OK
        if not agreed(_question(work), arguments):
            return EXIT_OK if arguments.dry_run and not work.failed else EXIT_NO
        needs = grant(work, arguments)
        failed = _do(work) or work.failed
        settle(work, [] if failed else needs)
        if not work.undo:
            _say_what_is_left(work, arguments)
    if not failed:
        print("restart the clients: they read their files when they start")
    return EXIT_NO if failed else EXIT_OK


# --- showing ------------------------------------------------------------------------------------


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


def _question(work: Work) -> str:
    count = f"{work.writes} credential{'s' * (work.writes != 1)}"
    return f"Put {count} back into the files?" if work.undo else f"Move {count} to {work.keeper.store.name}?"


# --- doing --------------------------------------------------------------------------------------


def _do(work: Work) -> bool:
    """Do it; whether something failed."""
    failed = False
    for plan in work.entries:
        if plan.text is None and not plan.add:
            continue
        try:
            _entry(work, plan)
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
    yield from (part.value for plan in work.entries for one in plan.moves for part in one.stored)
    yield from (one.value for plan in work.files for one in plan.changes)


def _file_move(work: Work, plan: FilePlan) -> None:
    for one in plan.changes:
        store(work.keeper, one.reference, one.value)
    scrub(work.state, [(one.old, one.new, one.value, one.reference) for one in plan.changes])
    carry_out_move(plan, work.moves, work.keeper)


def _entry(work: Work, plan: Plan) -> None:
    before = {
        reference
        for new in plan.add
        if (old := work.records.get(*new.key))
        for one in old.moved
        for reference in references(one.reference)
    }
    carry_out(plan, work.records, work.state, work.keeper)
    if work.undo:
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
