"""Putting callgate's hook entries into clients' files, and taking them out, byte for byte.

Nothing of the file changes but what is inserted; each inserted text is recorded in `hooks.json` of the state directory
(0600). Taking out removes exactly those texts; where a client has laid its file out anew since, the entries are found
by what they say. A file that was made for the hooks goes with them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from callgate.clients import files
from callgate.clients.diffs import file_diff
from callgate.clients.formats import parse
from callgate.clients.hook_entries import command_line, entries, find_ours, plain
from callgate.clients.hook_text import Pieces, check_added, inserted_entry, inserted_member, taken_out
from callgate.clients.machine import Machine
from callgate.clients.surroundings import HOOK_FILES
from callgate.clients.tree import ClientFileError, Node, canonical

FILE_NAME = "hooks.json"


@dataclass(frozen=True, slots=True)
class HookRecord:
    """What was put into one file: the texts, and whether the file was made for them."""

    client: str
    file: str
    inserted: Pieces
    created: bool
    at: str = ""


@dataclass(slots=True)
class HookPlan:
    """What would become of one file. `action`: `add`, `remove`, `already`, `none`, `refused`."""

    client: str
    path: str
    real: str
    action: str = "none"
    detail: str = ""
    next_step: str = ""
    content: files.Content | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    """The new text; None with `remove`: the file goes."""
    record: HookRecord | None = None

    def diff(self) -> list[str]:
        """The change of the file."""
        if self.action not in ("add", "remove"):
            return []
        old = self.content.text if self.content else ""
        return file_diff(self.path, "json", old, self.text or "")


class HookRecords:
    """The records of a state directory. Raises ClientFileError where the file is damaged or not ours alone."""

    def __init__(self, state: Path) -> None:
        self.path = state / FILE_NAME
        self._records: dict[str, HookRecord] = {}
        if self.path.exists():
            try:
                root = parse("json", files.read(str(self.path), private=True).text)
                for one in _python(root)["records"]:
                    record = HookRecord(
                        one["client"],
                        one["file"],
                        tuple((int(at), piece) for at, piece in one["inserted"]),
                        one["created"] == "true",
                        one["at"],
                    )
                    self._records[record.file] = record
            except (KeyError, TypeError, ValueError) as error:
                raise ClientFileError(f"{self.path} is damaged", next_step="move it away, then try again") from error

    def get(self, file: str) -> HookRecord | None:
        """The record of one file."""
        return self._records.get(file)

    def all(self) -> list[HookRecord]:
        """All of them."""
        return list(self._records.values())

    def save(self, add: HookRecord | None = None, drop: str = "") -> None:
        """Change the file: all of it or nothing."""
        self._records.pop(drop, None)
        if add:
            self._records[add.file] = add
        document = {"version": 1, "records": [asdict(one) for one in self._records.values()]}
        files.write_private(self.path, json.dumps(document, indent=1).encode())


def plan_add(
    machine: Machine, records: HookRecords, names: tuple[str, ...], launcher: tuple[str, ...], state: Path
) -> Iterator[HookPlan]:
    """A plan for each client with hooks whose directory is there."""
    for client in names:
        path = machine.expand(HOOK_FILES[client])
        if not os.path.isdir(os.path.dirname(path)):
            continue
        real = os.path.realpath(path)
        plan = HookPlan(client, path, real, record=records.get(real))
        try:
            _add(plan, command_line(client, launcher, state))
        except ClientFileError as error:
            plan.action, plan.detail, plan.next_step = "refused", error.what, error.next_step
        yield plan


def _add(plan: HookPlan, command: str) -> None:
    wanted, earlier = entries(plan.client, command), plan.record
    exists = os.path.lexists(plan.real)
    plan.content = files.read(plan.real) if exists else None
    text = plan.content.text if plan.content else ""
    if not exists or (earlier and earlier.created and earlier.inserted == ((0, text),)):
        document = {"version": 1} if plan.client == "cursor" else {}
        hooks = {event: [entry] for event, entry in wanted.items()}
        new = json.dumps({**document, "hooks": hooks}, indent=2, ensure_ascii=False) + "\n"
        plan.action = "already" if new == text else "add"
        plan.text, plan.record = new, _record(plan, ((0, new),), created=True)
        return
    root = parse("json", text)
    ours = list(find_ours(root))
    if ours:
        if all(plain(node) == wanted.get(event) for event, node, _ in ours) and len(ours) == len(wanted):
            plan.action = "already"
            return
        text = taken_out(text, root, _pieces(earlier))
        root = parse("json", text)
    inserted: list[tuple[int, str]] = []
    now = root
    for event, entry in wanted.items():
        text, at, piece = inserted_entry(text, now, event, entry)
        inserted.append((at, piece))
        now = parse("json", text)
    if plan.client == "cursor" and now.get("version") is None:
        text, at, piece = inserted_member(text, now, "version", 1)
        inserted.append((at, piece))
        now = parse("json", text)
    check_added(canonical(root), canonical(now), wanted)
    if plan.content:
        files.check_replaceable(plan.content)
    plan.action, plan.text, plan.record = "add", text, _record(plan, tuple(inserted), created=False)


def _record(plan: HookPlan, inserted: Pieces, *, created: bool) -> HookRecord:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return HookRecord(plan.client, plan.real, inserted, created, at)


def plan_remove(machine: Machine, records: HookRecords, names: tuple[str, ...]) -> Iterator[HookPlan]:
    """A plan for each file that holds entries of callgate's, recorded or not."""
    places = {os.path.realpath(machine.expand(HOOK_FILES[name])): name for name in names}
    for record in records.all():
        if record.client in names:
            places.setdefault(record.file, record.client)
    for real, client in places.items():
        plan = HookPlan(client, real, real, record=records.get(real))
        try:
            _remove(plan)
        except ClientFileError as error:
            plan.action, plan.detail, plan.next_step = "refused", error.what, error.next_step
        if plan.action != "none" or plan.record:
            yield plan


def _remove(plan: HookPlan) -> None:
    record = plan.record
    if not os.path.lexists(plan.real):
        plan.detail = "the file is no longer there"
        return
    plan.content = files.read(plan.real)
    text = plan.content.text
    root = parse("json", text)
    if record and record.created and record.inserted == ((0, text),):
        plan.action, plan.text = "remove", None
        return
    if not list(find_ours(root)):
        plan.detail = "its hooks are no longer there"
        return
    plan.text = taken_out(text, root, _pieces(record))
    plan.action = "remove"
    files.check_replaceable(plan.content)


def _pieces(record: HookRecord | None) -> Pieces:
    """What was put into a file that was there before."""
    return () if record is None or record.created else record.inserted


def carry_out(plan: HookPlan, records: HookRecords, state: Path) -> Path | None:
    """Write one file and its record; the backup's path. Raises ClientFileError, with nothing half done.

    Adding: backup, record, file. Removing: backup, file, record.
    """
    backup: Path | None = None
    files.tidy(plan.real)
    if plan.content is not None and plan.action in ("add", "remove"):
        backup = files.backup(state, plan.client, plan.content)
    if plan.action == "add" and plan.record and plan.text is not None:
        earlier = records.get(plan.real)
        records.save(add=plan.record)
        try:
            if plan.content is None:
                files.write_private(Path(plan.real), plan.text.encode())
            else:
                files.replace(plan.content, plan.text)
        except ClientFileError:
            records.save(add=earlier, drop=plan.real)
            raise
    elif plan.action == "remove" and plan.content is not None:
        if plan.text is None:
            os.unlink(plan.real)
        else:
            files.replace(plan.content, plan.text)
    if plan.action in ("remove", "none") and plan.record:
        records.save(drop=plan.real)
    return backup


def _python(node: Node) -> Any:
    if node.kind == "map":
        return {member.key: _python(member.node) for member in node.members}
    if node.kind == "list":
        return [_python(item) for item in node.items]
    return node.text
