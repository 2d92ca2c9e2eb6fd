"""Carrying plans out, in an order that no interruption can break.

Install: store, backup, record, file. Uninstall, and putting credentials back: file, record. Between two of these the
record knows more than the file shows, never less; `status` compares both, and either command may simply be run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from callgate.clients import files
from callgate.clients.formats import string
from callgate.clients.literals import write
from callgate.clients.moving import Keeper, Move
from callgate.clients.plan import Plan
from callgate.clients.records import Records
from callgate.clients.scrub import scrub
from callgate.clients.tree import ClientFileError
from callgate.text import visible


def carry_out(plan: Plan, records: Records, state: Path, keeper: Keeper | None = None) -> Path | None:
    """Write one file and its records; the backup's path. Raises CallgateError, with nothing half done.

    Credentials the plan moves are stored first, and read back: what the store would not give back is not moved. Then
    they are taken out of earlier backups.
    """
    backup: Path | None = None
    if plan.content is not None and plan.text is not None:
        files.check_replaceable(plan.content)
        _store(plan, keeper)
        scrub(state, [one for move in plan.moves for one in _literals(plan, move)])
    if plan.content is not None:
        files.tidy(plan.content.path)
    if plan.content is not None and plan.text is not None:
        kept = plan.content.encoded(plan.kept_text) if plan.kept_text else plan.content.data
        backup = files.backup(state, plan.client, plan.content, kept)
    if plan.file_first:
        _write(plan)
        records.save(add=[replace(record, backup=str(backup or "")) for record in plan.add], drop=plan.drop)
    elif plan.add:
        before = [old for new in plan.add if (old := records.get(*new.key))]
        made = [replace(record, backup=str(backup or "")) for record in plan.add]
        records.save(add=made)
        try:
            _write(plan)
        except ClientFileError:
            records.save(drop=made, add=before)
            raise
    else:
        _write(plan)
        if plan.drop:
            records.save(drop=plan.drop)
    return backup


def _literals(plan: Plan, move: Move) -> Iterator[tuple[str, str, str, str]]:
    whole = write(move.form, move.value), string(plan.format, move.reference)
    yield (*whole, move.value, move.reference)
    for part in move.parts:  # the same credential may have stood in another URL
        yield (*whole, part.value, part.reference)


def _store(plan: Plan, keeper: Keeper | None) -> None:
    for part in (part for move in plan.moves for part in move.stored):
        if keeper is None:
            raise ClientFileError("a credential has no store to go to", next_step="see callgate secrets")
        keeper.keep(part.reference, part.value)
        if keeper.fetch(part.reference) != part.value:
            raise ClientFileError(
                f"{visible(part.reference)} does not give back what was stored", next_step="see callgate secrets test"
            )


def _write(plan: Plan) -> None:
    if plan.content is not None and plan.text is not None:
        files.replace(plan.content, plan.text)
