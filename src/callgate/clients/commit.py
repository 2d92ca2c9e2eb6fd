"""Carrying plans out, in an order that no interruption can break.

Install: backup, record, file. Uninstall: file, record. Between two of these the record knows more than the file shows,
never less; `status` compares both, and either command may simply be run again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from callgate.clients import files
from callgate.clients.plan import Plan
from callgate.clients.records import Records
from callgate.clients.tree import ClientFileError


def carry_out(plan: Plan, records: Records, state: Path) -> Path | None:
    """Write one file and its records; the backup's path. Raises ClientFileError, with nothing half done."""
    backup: Path | None = None
    if plan.content is not None:
        files.tidy(plan.content.path)
    if plan.content is not None and plan.text is not None:
        files.check_replaceable(plan.content)
        backup = files.backup(state, plan.client, plan.content)
    if plan.add:
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


def _write(plan: Plan) -> None:
    if plan.content is not None and plan.text is not None:
        files.replace(plan.content, plan.text)
