"""What `install` would do to one file: worked out whole before anything is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from callgate.clients.apply import Job, Trace, apply_most, undo
from callgate.clients.arguments import Finder, advice
from callgate.clients.diffs import Sides, file_diff
from callgate.clients.entries import Entry, entries
from callgate.clients.files import Content, check_replaceable, read
from callgate.clients.formats import FormatName, Splice, parse, splice
from callgate.clients.launcher import wrapper_missing
from callgate.clients.machine import Found
from callgate.clients.masking import mask_address, mask_words
from callgate.clients.moving import (
    Keeper,
    Move,
    Moved,
    conceal,
    exposed,
    interrupted,
    kept_splices,
    plan_moves,
    same_apart,
    with_references,
)
from callgate.clients.names import Names
from callgate.clients.records import Record, Records
from callgate.clients.table import Shape
from callgate.clients.tree import ClientFileError, EntryRefused, Node, canonical, locate
from callgate.clients.url_parts import decoded, filled, has_references, references, url_values
from callgate.clients.wrap import Change, outdated, wrap
from callgate.errors import CallgateError
from callgate.text import visible

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
    notes: tuple[str, ...] = ()
    """What else is done to it, or is not."""
    gate_name: str = ""
    """What the gate calls a server that is wrapped."""
    command: tuple[str, ...] = field(default=(), repr=False)
    """What a wrapped server on stdin and stdout is started with."""


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
    moves: list[Move] = field(default_factory=list)
    """Credentials to be stored before anything is written."""
    file_first: bool = False
    """The file is written before the records: its values are in the store until both are done."""
    kept_text: str = field(default="", repr=False)
    """The old text with references in the place of those, for the backup; empty where there are none."""

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
    """The words that start this callgate."""
    servers: tuple[str, ...] = ()
    managed: bool = False
    keeper: Keeper | None = None
    """Takes the credentials of wrapped entries; none: they stay in the file."""
    find: Finder = lambda _: ()
    """Finds credentials among the words of a command line."""
    only_wrapped: bool = False
    """Entries that are not behind the gate are not put there; one with credentials for the keeper is refused."""
    options: tuple[str, ...] = ()
    """Of each `callgate run`, beside what an entry itself says: where settings and state are."""
    places: Mapping[str, str] = field(default_factory=dict)
    """The same for entries of which a variable would say it: `--config` and `--state`, empty where there is none."""
    put_back: Callable[[str], str] | None = None
    """Gives credentials by their references: those that were moved stand in the wrapped entries again."""

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
            plan.problem, plan.text, plan.add, plan.drop, plan.steps, plan.moves = error, None, [], [], [], []
        yield plan


@dataclass(frozen=True, slots=True)
class _Wrap:
    """One entry on its way behind the gate."""

    job: Job
    entry: Entry
    gate_name: str
    moves: tuple[Move, ...] = ()
    carried: tuple[Moved, ...] = ()
    notes: tuple[str, ...] = ()


class _Install:
    def __init__(self, plan: Plan, group: list[Found], records: Records, wish: Wish, names: Names) -> None:
        self._plan = plan
        self._group = group
        self._records = records
        self._wish = wish
        self._names = names
        self._stays: set[tuple[str, ...]] = set()
        """Wrapped entries that could not be written anew."""

    def work(self, real: str) -> None:
        plan = self._plan
        plan.file_first = self._wish.put_back is not None
        plan.content = read(real)
        text = plan.content.text
        root = old_root = whole_root = parse(plan.format, text)
        finished = self._interrupted(root)
        if finished:
            text = splice(text, [one for splices_of in finished.values() for one in splices_of])
            root = whole_root = parse(plan.format, text)
        whole = text
        renewed: dict[tuple[str, ...], tuple[Entry, Record, Change]] = {}
        for one, entry in self._entries(root):
            record = self._to_renew(one, entry, text)
            try:
                if record:
                    change = undo(text, record, entry.node, values=self._values(record))
                    renewed[entry.where] = entry, record, change
            except EntryRefused as refusal:
                next_step = "callgate uninstall names the difference; put it back by hand, then try again"
                self._step(entry.name, "refused", f"cannot be written anew: {refusal.what}", next_step)
        if renewed:  # put them back first, then wrap them as everything else
            undone = [Job(entry.where, entry.node, change) for entry, _, change in renewed.values()]
            result, _, _ = apply_most(text, plan.format, root, undone)
            text, root = result.text, result.root
        wraps: dict[tuple[str, ...], _Wrap] = {}
        for one, entry in self._entries(root):
            earlier = renewed[entry.where][1] if entry.where in renewed else None
            found = self._wrap(one, entry, text, earlier)
            if found:
                wraps[entry.where] = found
        result, done, refused = apply_most(text, plan.format, root, [one.job for one in wraps.values()])
        lost = renewed.keys() - {job.where for job, _ in done}
        if lost:  # what cannot be wrapped anew stays behind the gate as it is
            self._stays |= lost
            names = {where[-1] for where in lost}
            plan.steps = [step for step in plan.steps if step.action in ("left", "refused") and step.server in names]
            plan.steps += [self._refusal(job, error) for job, error in refused if job.where in lost]
            self.work(real)
            return
        plan.steps += [self._refusal(job, error) for job, error in refused]
        kept: list[Splice] = []
        for job, trace in done:
            one_wrap = wraps[job.where]
            self._wrapped(one_wrap)
            plan.add.append(self._record(real, text, one_wrap, trace))
            plan.moves += one_wrap.moves
            was = locate(whole_root, job.where)
            kept += kept_splices(plan.format, was, one_wrap.moves) if was else ()
        for where in finished.keys() - {job.where for job, _ in done}:
            notes = ("finishes a move that was interrupted",)
            plan.steps.append(Step(plan.client, where[-1], "already", notes=notes))
        if kept or finished:
            plan.kept_text = splice(whole, kept)
        if result.text != plan.content.text:
            check_replaceable(plan.content)
            spans = () if renewed or finished else tuple(span for trace in result.traces for span in trace.spans)
            plan.text, plan.sides = result.text, Sides(old_root, result.root, spans)

    def _wrapped(self, one: _Wrap) -> None:
        entry = one.entry
        detail = mask_address(entry.url) if entry.kind == "remote" else " ".join(mask_words(entry.command))
        next_step = _NO_SIGN_IN if entry.kind == "remote" else ""
        step = Step(
            self._plan.client,
            entry.name,
            "wrap",
            detail,
            next_step,
            notes=one.notes,
            gate_name=one.gate_name,
            command=entry.command,
        )
        self._plan.steps.append(step)

    def _record(self, real: str, text: str, one: _Wrap, trace: Trace) -> Record:
        plan, job = self._plan, one.job
        span = trace.spans[0][:2]
        before, moved = conceal(plan.format, text, job.node, span, one.moves, one.carried)
        return Record(
            client=plan.client,
            file=real,
            where=job.where,
            gate_name=one.gate_name,
            format=plan.format,
            before_text=before,
            after_text=trace.after,
            touched=job.change.after,
            original=with_references(canonical(job.node), one.moves),
            wrapped=job.change.value,
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            moved=moved,
        ).sealed()

    def _entries(self, root: Node) -> Iterator[tuple[Found, Entry]]:
        for one in self._group:
            for entry in entries(root, one.place, one.client.shape):
                if self._wish.wants(entry.name):
                    yield one, entry

    def _interrupted(self, root: Node) -> dict[tuple[str, ...], list[Splice]]:
        """What an interrupted move left to do, by entry; nothing where no store can be asked."""
        wish = self._wish
        fetch = wish.put_back or (wish.keeper.fetch if wish.keeper else None)
        found: dict[tuple[str, ...], list[Splice]] = {}
        for one, entry in self._entries(root) if fetch else ():
            record = self._records.get(one.real, entry.where)
            if fetch and record and entry.kind == "wrapped":
                splices_of = interrupted(self._plan.format, entry.node, record.wrapped, record.moved, fetch)
                if splices_of:
                    found[entry.where] = splices_of
        return found

    def _kept_off(self, one: Found) -> str:
        if one.place.hands_off:
            return one.place.hands_off
        return "a managed file: --managed changes it" if one.place.scope == "managed" and not self._wish.managed else ""

    def _to_renew(self, one: Found, entry: Entry, text: str) -> Record | None:
        """The record of an entry to be written anew, when it is as it was written.

        That is one whose callgate is gone, or whose credentials go into a store, or come back from it.
        """
        if entry.kind != "wrapped" or self._kept_off(one) or entry.where in self._stays:
            return None
        record = self._records.get(one.real, entry.where)
        if record is None or canonical(entry.node) != record.wrapped:
            return None
        comes_back = self._wish.put_back is not None and bool(record.moved)
        goes = self._wish.put_back is None and self._has_credentials(one, entry, text, record.gate_name)
        old = wrapper_missing(entry.command) or bool(outdated(entry, one.client.shape))
        if comes_back:
            try:
                self._values(record)
            except CallgateError as error:
                self._step(entry.name, "refused", f"its credentials cannot be put back: {error.what}", error.next_step)
                return None
        return record if comes_back or goes or (old and not self._wish.only_wrapped) else None

    def _has_credentials(self, one: Found, entry: Entry, text: str, server: str) -> bool:
        keeper = self._wish.keeper
        if keeper and entry.kind == "wrapped" and "--url" in entry.command[:-1]:
            # In a command line the URL has no place of its own: the entry is put back, then wrapped anew.
            url = entry.command[entry.command.index("--url") + 1]
            values = [] if has_references(url) else [(name, decoded(value)) for name, value, _ in url_values(url)]
            return any(value and keeper.offer(server, name, value) for name, value in values)
        return bool(keeper and plan_moves(text, self._plan.format, one.client.shape, entry, server, keeper)[0])

    def _values(self, record: Record) -> Mapping[str, str] | None:
        if self._wish.put_back is None:
            return None
        return {one.reference: filled(one.reference, self._wish.put_back) for one in record.moved}

    def _wrap(self, one: Found, entry: Entry, text: str, earlier: Record | None) -> _Wrap | None:
        plan, shape = self._plan, one.client.shape
        if entry.kind == "other":
            return None
        if entry.where in self._stays:
            return None
        if entry.kind == "wrapped":
            whole = self._wish.only_wrapped or not wrapper_missing(entry.command)
            missing = "" if whole else "the callgate it names is not there"
            self._step(entry.name, "refused" if missing else "already", missing, "correct its path" if missing else "")
            return None
        reason = self._kept_off(one)
        if reason:
            self._step(entry.name, "left", reason)
            return None
        try:
            known = earlier or self._begun(one, entry)
            name = known.gate_name if known else self._names.choose(entry, one.client.name)
            if self._wish.only_wrapped and earlier is None:
                self._not_wrapped(one, entry, text, name)
                return None
            moves, odd = ((), ()) if self._wish.keeper is None else self._moves(one, entry, text, name)
            wish = self._wish
            if entry.kind == "remote" and wish.keeper and earlier is None:
                _check_exposed(moves[0].reference if moves else entry.url, wish.find)
            named = (name, *wish.options)
            change = wrap(text, plan.format, shape, entry, wish.launcher, named, moves, wish.places)
        except EntryRefused as error:
            self._step(entry.name, "left" if entry.kind == "remote" else "refused", error.what, error.next_step)
            return None
        except CallgateError as error:
            if isinstance(error, ClientFileError):
                raise
            what = f"its credentials cannot be moved: {error.what}"
            self._step(entry.name, "refused", what, error.next_step or "--keep-secrets leaves them in the file")
            return None
        notes = (
            *(f"moves {part.name} to {part.reference}" for move in moves for part in move.stored),
            *(f"leaves {key} in the file: its quoting could not be put back exactly" for key in odd),
            *_gets(entry, shape, () if earlier is None else earlier.moved),
            *self._left(entry, shape),
        )
        back = puts_back(earlier) if earlier else ()
        notes = (*notes, *(back if self._wish.put_back is not None else ()))
        carried = tuple(moved for moved in earlier.moved if _still_there(entry.node, moved)) if earlier else ()
        return _Wrap(Job(entry.where, entry.node, change), entry, name, moves, carried, notes)

    def _not_wrapped(self, one: Found, entry: Entry, text: str, name: str) -> None:
        if self._has_credentials(one, entry, text, name):
            what = "not behind the gate, so nothing would replace its references by values"
            self._step(entry.name, "refused", what, "callgate install puts it there, and moves its credentials with it")

    def _moves(self, one: Found, entry: Entry, text: str, name: str) -> tuple[tuple[Move, ...], tuple[str, ...]]:
        if entry.kind not in ("stdio", "remote") or self._wish.keeper is None:
            return (), ()
        return plan_moves(text, self._plan.format, one.client.shape, entry, name, self._wish.keeper)

    def _begun(self, one: Found, entry: Entry) -> Record | None:
        """The record of an entry that was to be wrapped when something interrupted that."""
        record = self._records.get(one.real, entry.where)
        return record if record and same_apart(canonical(entry.node), record.original, record.moved) else None

    def _left(self, entry: Entry, shape: Shape) -> Iterator[str]:
        """Credentials that stand where no reference can."""
        if entry.kind != "stdio" or self._wish.keeper is None:
            return
        for label, what in advice(entry.command, shape.env, self._wish.find):
            yield f"leaves the credential of {label} on the command line: {what}"

    def _refusal(self, job: Job, error: EntryRefused) -> Step:
        return Step(self._plan.client, job.where[-1], "refused", error.what, error.next_step)

    def _step(self, server: str, action: Action, detail: str = "", next_step: str = "") -> None:
        self._plan.steps.append(Step(self._plan.client, server, action, detail, next_step))


def _gets(entry: Entry, shape: Shape, known: Sequence[Moved]) -> Iterator[str]:
    """References that whoever wrote the entry put there: behind the gate it gets what they stand for."""
    ours = {one.reference for one in known}
    env = entry.node.get(shape.env)
    found = [(one.key, one.node.text) for one in env.node.members if one.node.string] if env else []
    for name, text in [*found, ("its URL", entry.url)]:
        if text not in ours:
            yield from (f"hands it the secret {reference}, as {name} says" for reference in references(text))


def _check_exposed(url: str, find: Finder) -> None:
    """Raise EntryRefused where the entry would have a credential on its command line, which every user can read."""
    name = exposed(url, find)
    if name:
        raise EntryRefused(
            f"a URL with a credential ({visible(name, 60)}) that would stand on a command line, for all to read",
            next_step="write the value itself, percent-encoded (%3D for =, %2F for /), or put the server's url into "
            "callgate.toml and use callgate serve",
        )


def _still_there(node: Node, moved: Moved) -> bool:
    found = locate(node, moved.path)
    return found is not None and found.string and found.text == moved.reference


def puts_back(record: Record) -> tuple[str, ...]:
    """What is said of the credentials that come back from a store."""
    named = ((one.path[-1], reference) for one in record.moved for reference in references(one.reference))
    return tuple(f"puts {name} back from {reference}" for name, reference in named)
