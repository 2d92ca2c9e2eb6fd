"""What `callgate secrets move` and its undo would do: worked out whole before anything is written."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from callgate.cli.client_options import configuration, settings_options, settings_places
from callgate.cli.secrets_files import FilePlan, Moves, Pick, plan_move, plan_undo
from callgate.clients.entries import Entry, entries
from callgate.clients.files import tidy
from callgate.clients.git import tracked
from callgate.clients.launcher import launcher
from callgate.clients.machine import Found, Machine, find
from callgate.clients.plan import Plan, Wish, plan_install
from callgate.clients.records import Records
from callgate.clients.table import Shape
from callgate.clients.tree import Node
from callgate.config.places import user_config_file
from callgate.vault.find import Fingerprints
from callgate.vault.find_files import readers
from callgate.vault.move import StoreKeeper


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
        return sum(len(one.changes) for one in self.files) + sum(len(noted(one)) for one in self.entries)

    @property
    def failed(self) -> bool:
        """Whether something that was asked for cannot be done."""
        return any(one.problem or one.refused for one in self.files) or any(one.failed for one in self.entries)


def noted(plan: Plan) -> list[str]:
    """What is done to the credentials of entries."""
    return [note for step in plan.steps for note in step.notes if plan.text is not None or plan.add]


def tidy_up(work: Work, arguments: argparse.Namespace) -> None:
    """Remove what an interrupted command left beside files: it may hold values."""
    files = {os.path.realpath(path) for path in (*arguments.path, user_config_file()) if path}
    files |= {found.real for found in find(Machine.here(), (), arguments.project)}
    files |= {one.file for one in work.moves.all()} | {one.file for one in work.records.all()}
    for path in (*sorted(files), *(str(work.state / name) for name in ("clients.json", "moves.json"))):
        tidy(path)


def plan_there(work: Work, arguments: argparse.Namespace) -> None:
    """Credentials into the store."""
    wish = replace(_wish(work, arguments), keeper=work.keeper)
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


def _wish(work: Work, arguments: argparse.Namespace) -> Wish:
    config = configuration()
    options, places = settings_options(config, work.state), settings_places(config, work.state)
    return Wish(launcher(), tuple(arguments.server), options=options, places=places, only_wrapped=True)


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


def plan_back(work: Work, arguments: argparse.Namespace) -> None:
    """Credentials into the files again."""
    wish = replace(_wish(work, arguments), managed=True, put_back=work.keeper.fetch)
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
            yield plan.content.path, [part.reference for one in plan.moves for part in one.stored]
    for file in work.files:
        if file.content is not None and file.changes:
            yield file.content.path, [one.reference for one in file.changes]
