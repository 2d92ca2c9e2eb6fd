"""What `install` and `uninstall` would do to one file: worked out whole before anything is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from callgate.clients.apply import Job, apply_most, undo
from callgate.clients.diffs import Sides, file_diff, value_diff
from callgate.clients.entries import Entry, entries
from callgate.clients.files import Content, check_replaceable, read
from callgate.clients.formats import FormatName, parse
from callgate.clients.launcher import wrapper_missing
from callgate.clients.machine import Found
from callgate.clients.masking import mask_url, mask_words
from callgate.clients.names import Names
from callgate.clients.records import Record, Records
from callgate.clients.tree import ClientFileError, EntryRefused, Node, canonical, locate
from callgate.clients.wrap import wrap

_NO_SIGN_IN = "if the client signs in to it in a browser (OAuth), leave it out: callgate run --url does not"

Action: TypeAlias = Literal["wrap", "unwrap", "already", "left", "refused", "gone"]


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one server, and why. `lines` say more: a diff."""

    client: str
    server: str
    action: Action
    detail: str = ""
    next_step: str = ""
    lines: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    """One file's new text with all that goes with it. No new text: nothing is written."""

    path: str
    client: str
    scope: str = "user"
    format: FormatName = "json"
    problem: ClientFileError | None = None
    content: Content | None = None
    text: str | None = None
    sides: Sides | None = None
    """What is known of the old and the new text."""
    steps: list[Step] = field(default_factory=list)
    add: list[Record] = field(default_factory=list)
    drop: list[Record] = field(default_factory=list)

    def diff(self) -> list[str]:
        """The change of the file, masked."""
        if self.content is None or self.text is None:
            return []
        return file_diff(self.path, self.format, self.content.text, self.text, self.sides)

    @property
    def failed(self) -> bool:
        """Whether something that was asked for cannot be done."""
        return self.problem is not None or any(step.action == "refused" for step in self.steps)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an install was asked for."""

    launcher: tuple[str, ...]
    servers: tuple[str, ...] = ()
    managed: bool = False

    def wants(self, server: str) -> bool:
        """Whether a server is among the chosen ones."""
        return not self.servers or server in self.servers


def plan_install(found: Iterable[Found], records: Records, wish: Wish) -> Iterator[Plan]:
    """One plan a file, in the order of the table."""
    files: dict[str, list[Found]] = {}
    for one in found:
        files.setdefault(one.real, []).append(one)
    names = Names(records)
    for real, group in files.items():
        first = group[0]
        plan = Plan(first.path, first.client.name, first.place.scope, first.place.format)
        try:
            _Install(plan, group, records, wish, names).work(real)
        except ClientFileError as error:
            plan.problem, plan.text, plan.add, plan.drop, plan.steps = error, None, [], [], []
        yield plan


class _Install:
    def __init__(self, plan: Plan, group: list[Found], records: Records, wish: Wish, names: Names) -> None:
        self._plan = plan
        self._group = group
        self._records = records
        self._wish = wish
        self._names = names

    def work(self, real: str) -> None:
        plan = self._plan
        plan.content = read(real)
        text = plan.content.text
        root = old_root = parse(plan.format, text)
        jobs = [
            (entry, record, undo(text, record, entry.node))
            for one, entry in self._entries(root)
            if (record := self._to_renew(one, entry))
        ]
        if jobs:  # put them back first, then wrap them as everything else
            result, _, _ = apply_most(text, plan.format, root, [Job(e.where, e.node, c) for e, _, c in jobs])
            text, root = result.text, result.root
        wraps: dict[tuple[str, ...], tuple[Job, Entry, str]] = {}
        for one, entry in self._entries(root):
            wrap_job = self._job(one, entry, text)
            if wrap_job:
                wraps[entry.where] = (wrap_job[0], entry, wrap_job[1])
        result, done, refused = apply_most(text, plan.format, root, [job for job, _, _ in wraps.values()])
        for job, error in refused:
            self._step(job.where[-1], "refused", error.what, error.next_step)
        for job, trace in done:
            _, entry, name = wraps[job.where]
            detail = mask_url(entry.url) if entry.kind == "remote" else " ".join(mask_words(entry.command))
            self._step(entry.name, "wrap", detail, _NO_SIGN_IN if entry.kind == "remote" else "")
            plan.add.append(
                Record(
                    client=plan.client,
                    file=real,
                    where=job.where,
                    gate_name=name,
                    format=plan.format,
                    before_text=trace.before,
                    after_text=trace.after,
                    touched=job.change.after,
                    original=canonical(entry.node),
                    wrapped=job.change.value,
                    at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                ).sealed()
            )
        if result.text != plan.content.text:
            check_replaceable(plan.content)
            spans = () if jobs else tuple(trace.span for trace in result.traces)
            plan.text, plan.sides = result.text, Sides(old_root, result.root, spans)

    def _entries(self, root: Node) -> Iterator[tuple[Found, Entry]]:
        for one in self._group:
            for entry in entries(root, one.place, one.client.shape):
                if self._wish.wants(entry.name):
                    yield one, entry

    def _kept_off(self, one: Found) -> str:
        if one.place.hands_off:
            return one.place.hands_off
        return "a managed file: --managed changes it" if one.place.scope == "managed" and not self._wish.managed else ""

    def _to_renew(self, one: Found, entry: Entry) -> Record | None:
        """The record of an entry whose callgate is gone, when it is as it was written."""
        if entry.kind != "wrapped" or self._kept_off(one) or not wrapper_missing(entry.command):
            return None
        record = self._records.get(one.real, entry.where)
        return record if record and canonical(entry.node) == record.wrapped else None

    def _job(self, one: Found, entry: Entry, text: str) -> tuple[Job, str] | None:
        if entry.kind == "other":
            return None
        if entry.kind == "wrapped":
            missing = "" if not wrapper_missing(entry.command) else "the callgate it names is not there"
            self._step(entry.name, "refused" if missing else "already", missing, "correct its path" if missing else "")
            return None
        reason = self._kept_off(one)
        if reason:
            self._step(entry.name, "left", reason)
            return None
        try:
            name = self._names.choose(entry, one.client.name)
            change = wrap(text, self._plan.format, one.client.shape, entry, self._wish.launcher, name)
        except EntryRefused as error:
            self._step(entry.name, "left" if entry.kind == "remote" else "refused", error.what, error.next_step)
            return None
        return Job(entry.where, entry.node, change), name

    def _step(self, server: str, action: Action, detail: str = "", next_step: str = "") -> None:
        self._plan.steps.append(Step(self._plan.client, server, action, detail, next_step))


def plan_uninstall(
    records: Records,
    wanted: Callable[[Record], bool],
    *,
    keep_edits: bool = False,
) -> Iterator[Plan]:
    """One plan a file, from what was recorded."""
    for file in dict.fromkeys(record.file for record in records.all()):
        chosen = [record for record in records.of(file) if wanted(record)]
        if not chosen:
            continue
        plan = Plan(file, chosen[0].client, format=chosen[0].format)
        try:
            _uninstall(plan, chosen, keep_edits=keep_edits)
        except ClientFileError as error:
            plan.problem, plan.text, plan.add, plan.drop, plan.steps = error, None, [], [], []
        yield plan


def _uninstall(plan: Plan, chosen: list[Record], *, keep_edits: bool) -> None:
    from os.path import lexists

    if not lexists(plan.path):
        plan.drop = chosen
        plan.steps = [Step(r.client, r.where[-1], "gone", "the file is no longer there") for r in chosen]
        return
    plan.content = read(plan.path)
    text = plan.content.text
    root = parse(plan.format, text)
    jobs: dict[tuple[str, ...], Record] = {}
    work: list[Job] = []
    for record in chosen:
        node = locate(root, record.where)
        if node is None:
            plan.drop.append(record)
            plan.steps.append(Step(record.client, record.where[-1], "gone", "the entry is no longer there"))
        elif canonical(node) == record.original:
            plan.drop.append(record)
            plan.steps.append(Step(record.client, record.where[-1], "already", "as it was before callgate"))
        else:
            try:
                work.append(Job(record.where, node, undo(text, record, node, keep_edits=keep_edits)))
                jobs[record.where] = record
            except EntryRefused as error:
                plan.steps.append(_drifted(record, node, error, keep_edits=keep_edits))
    result, done, refused = apply_most(text, plan.format, root, work)
    for job, refusal in refused:
        plan.steps.append(_drifted(jobs[job.where], job.node, refusal, keep_edits=keep_edits))
    for job, _ in done:
        plan.drop.append(jobs[job.where])
        plan.steps.append(Step(plan.client, job.where[-1], "unwrap"))
    if result.text != text:
        check_replaceable(plan.content)
        spans = tuple(trace.span for trace in result.traces)
        plan.text, plan.sides = result.text, Sides(root, result.root, spans)


def _drifted(record: Record, node: Node, error: EntryRefused, *, keep_edits: bool) -> Step:
    now = canonical(node)
    elsewhere = isinstance(now, dict) and all(now.get(key) == record.wrapped.get(key) for key in record.touched)
    if elsewhere and now != record.wrapped and not keep_edits:
        next_step = f"--keep-edits puts {' and '.join(record.touched)} back and keeps what you changed beside them"
    else:
        next_step = f"undo your change, or write the entry anew; as it was, it is in {record.backup}"
    lines = value_diff(".".join(record.where), record.wrapped, now)
    return Step(record.client, record.where[-1], "refused", error.what, next_step, tuple(lines))
