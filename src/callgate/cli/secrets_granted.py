"""What `callgate secrets move` grants: a credential that leaves an entry goes to what that entry starts, as before."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from callgate.cli.client_options import configuration
from callgate.cli.secrets_work import Work
from callgate.clients import granting
from callgate.clients.entries import Entry
from callgate.clients.granting import Need, owner_of
from callgate.clients.machine import Found, Machine, find
from callgate.vault.grants import Grant
from callgate.vault.grants_file import changing

_BY_HAND = "moved"
_CONFIGURED = "callgate secrets move"


def grant(work: Work, arguments: argparse.Namespace) -> list[Need]:
    """Before anything is moved: all that entries need afterwards, and that the user's settings are the user's."""
    needs = list(_needs(work, arguments))
    settings = granting.unusual(configuration())
    with changing(work.state) as draft:
        for need in needs:
            draft.add(need.grants)
        if settings and not work.undo:  # references go into it, or entries start with it
            draft.believe(settings, _CONFIGURED)
    return needs


def settle(work: Work, needs: list[Need]) -> None:
    """Afterwards: what nobody needs any more is taken back."""
    left = {owner_of((one.file, one.where[:at]), _BY_HAND) for one in work.moves.all() for at in range(len(one.where))}
    if work.moves.all() or any(one.moved for one in work.records.all()):
        left.add(_CONFIGURED)

    def gone(owner: str, _: Grant | None) -> bool:
        return (owner.startswith(_BY_HAND + "\0") or owner == _CONFIGURED) and owner not in left

    with changing(work.state) as draft:
        granting.settle(draft, work.records, needs)
        draft.release(gone)


def _needs(work: Work, arguments: argparse.Namespace) -> Iterator[Need]:
    config = configuration()
    found = list(find(Machine.here(), tuple(arguments.client), arguments.project))
    project = arguments.project
    yield from granting.of_plans(work.entries, found, work.records, work.state, config, lambda _: True, project=project)
    for plan in work.files:
        group = [one for one in found if one.real == plan.path]
        if work.undo or plan.text is None or not group:
            continue
        wheres = [change.record.where for change in plan.changes]
        moved = {change.reference for change in plan.changes}

        def owned(one: Found, entry: Entry, wheres: list[tuple[str, ...]] = wheres) -> str:
            touched = any(where[: len(entry.where)] == entry.where for where in wheres)
            return owner_of((one.real, entry.where), _BY_HAND) if touched else ""

        for need in granting.needs(group, group[0].place.format, plan.text, owned, work.state, config, project=project):
            yield replace(need, grants=tuple(one for one in need.grants if one.reference in moved))
