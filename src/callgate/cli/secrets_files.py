"""Files whose credentials are replaced by references, beside the entries `callgate install` wrapped.

These are callgate.toml, `.env` files a person names, and entries of clients that were put behind the gate by hand. Each
file is changed like a client's: exact places, parsed again and compared, put back once to see that it can be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from callgate.clients.files import Content, check_replaceable, read, replace, tidy, write_private
from callgate.clients.formats import FormatName, Splice, parse, splice, string
from callgate.clients.literals import Form, describe, write
from callgate.clients.tree import ClientFileError, EntryRefused, Node, canonical, locate
from callgate.detect.credentials import judge
from callgate.errors import CallgateError, SecretError
from callgate.vault import move_env
from callgate.vault.find import Fingerprints
from callgate.vault.move import StoreKeeper, same
from callgate.vault.move_records import FILE_NAME, MoveRecord, dump, load
from callgate.vault.reference import is_reference

_SCHEMES = ("bearer", "token", "basic", "apikey", "bot")


@dataclass(frozen=True, slots=True)
class Pick:
    """A value that may be a credential: where it stands, and whose it is."""

    where: tuple[str, ...]
    server: str
    key: str
    node: Node


@dataclass(frozen=True, slots=True)
class Change:
    """One value that goes into the store, or comes back from it."""

    line: int
    label: str
    reference: str
    start: int
    end: int
    new: str = field(repr=False)
    old: str = field(repr=False)
    value: str = field(repr=False)
    record: MoveRecord
    note: str = ""


@dataclass(slots=True)
class FilePlan:
    """One file's new text. No new text: nothing is written."""

    path: str
    content: Content | None = None
    text: str | None = field(default=None, repr=False)
    changes: list[Change] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Labels, and why they stay as they are."""
    drop: list[MoveRecord] = field(default_factory=list)
    """Records of values that are back already, or no longer in the file."""
    problem: CallgateError | None = None


class Moves:
    """The records of a state directory. Raises ClientFileError, SecretError."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE_NAME
        self._records: dict[tuple[str, tuple[str, ...]], MoveRecord] = {}
        if self._path.exists():
            self._records = {one.key: one for one in load(read(str(self._path), private=True).data)}

    def all(self) -> list[MoveRecord]:
        """All of them, in the order they were made."""
        return list(self._records.values())

    def save(self, add: Iterable[MoveRecord] = (), drop: Iterable[MoveRecord] = ()) -> None:
        """Change the file: all of it or nothing."""
        before = dict(self._records)
        for record in drop:
            self._records.pop(record.key, None)
        self._records |= {record.key: record for record in add}
        if self._records != before:
            write_private(self._path, dump(self._records.values()))


def plan_move(
    path: str, format_: str, picks: Callable[[Node], Iterable[Pick]], keeper: StoreKeeper, fingerprints: Fingerprints
) -> FilePlan:
    """What moving the credentials of one file would change."""
    plan = FilePlan(path)
    try:
        plan.content = content = read(path)
        found = _env(content, keeper) if format_ == "env" else _document(content, format_, picks, keeper)
        for one in found:
            if isinstance(one, Change) and not _is_text(one):
                plan.refused.append((one.label, "there is half a character in its name, or in the path or the value"))
            elif isinstance(one, Change):
                plan.changes.append(_sealed(one, fingerprints))
            else:
                plan.refused.append(one)
        _settle(plan, format_)
    except (ClientFileError, EntryRefused) as error:
        plan.problem, plan.text, plan.changes = error, None, []
    return plan


def _is_text(change: Change) -> bool:
    """Whether all of it can be written down and read again: no lone surrogate."""
    texts = (change.record.file, *change.record.where, change.record.before, change.value)
    return not any("\ud800" <= char <= "\udfff" for text in texts for char in text)


def _sealed(change: Change, fingerprints: Fingerprints) -> Change:
    from dataclasses import replace as but

    return but(change, record=but(change.record, digest=fingerprints.whole(change.value)))


def _env(content: Content, keeper: StoreKeeper) -> Iterator[Change | tuple[str, str]]:
    folder = Path(content.path).parent.name or "env"
    for place in move_env.places(content.text):
        if judge(place.value, place.name) is None:
            continue
        if not place.clear:
            yield place.name, "programs read its escapes, $ or # in different ways"
            continue
        reference = keeper.offer(folder, place.name, place.value)
        if reference is not None:
            where = (place.name, str(place.number))
            record = _record(content, "env", where, reference, "", place.quote, ())
            new = move_env.literal(reference, place.quote)
            old = content.text[place.start : place.end]
            line = content.text.count("\n", 0, place.start) + 1
            yield Change(line, place.name, reference, place.start, place.end, new, old, place.value, record)


def _document(
    content: Content, format_: str, picks: Callable[[Node], Iterable[Pick]], keeper: StoreKeeper
) -> Iterator[Change | tuple[str, str]]:
    form_name = cast("FormatName", format_)
    text = content.text
    for pick in picks(parse(form_name, text)):
        node, label = pick.node, ".".join(pick.where)
        if not node.string or not node.text or is_reference(node.text) or judge(node.text, pick.key) is None:
            continue
        form = describe(form_name, text[node.start : node.end], node.text) if node.start >= 0 else None
        if form is None:
            yield label, "its quoting could not be put back exactly"
            continue
        before = _scheme(node.text)
        value = node.text[len(before) :]
        reference = keeper.offer(pick.server, pick.key, value if judge(value, pick.key) else node.text)
        if reference is None:
            continue
        if not judge(value, pick.key):
            before, value = "", node.text
        record = _record(content, format_, pick.where, reference, before, form.style, form.exceptions)
        line = text.count("\n", 0, node.start) + 1
        new = string(form_name, record.text)
        yield Change(line, label, reference, node.start, node.end, new, text[node.start : node.end], value, record)


def _scheme(value: str) -> str:
    """What stands before a token in a header: `Bearer `."""
    first, space, rest = value.partition(" ")
    return first + space if space and first.lower() in _SCHEMES and rest and " " not in rest else ""


def _record(
    content: Content,
    format_: str,
    where: tuple[str, ...],
    reference: str,
    before: str,
    style: str,
    exceptions: tuple[tuple[int, str], ...],
) -> MoveRecord:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return MoveRecord(content.path, format_, where, reference, before, style, exceptions, "", at)


def _settle(plan: FilePlan, format_: str) -> None:
    """Make the new text, and prove that it says what it must and can be put back. Raises EntryRefused."""
    content = plan.content
    if content is None or not plan.changes:
        return
    old = content.text
    new = splice(old, [Splice(one.start, one.end, one.new) for one in plan.changes])
    back: list[Splice] = []
    shift = 0
    for one in sorted(plan.changes, key=lambda change: change.start):
        start = one.start + shift
        back.append(Splice(start, start + len(one.new), old[one.start : one.end]))
        shift += len(one.new) - (one.end - one.start)
    if splice(new, back) != old or _values(new, format_) != _expected(old, format_, plan.changes):
        raise EntryRefused(
            "it cannot be changed without changing something else", next_step="write it in a plainer form"
        )
    check_replaceable(content)
    plan.text = new


def _values(text: str, format_: str) -> object:
    if format_ == "env":
        return [(place.name, place.value) for place in move_env.places(text)]
    return canonical(parse(cast("FormatName", format_), text))


def _expected(text: str, format_: str, changes: Sequence[Change]) -> object:
    if format_ == "env":
        new = {one.start: one.new for one in changes}
        return [
            (place.name, _unquoted(new[place.start]) if place.start in new else place.value)
            for place in move_env.places(text)
        ]
    form_name = cast("FormatName", format_)
    root = parse(form_name, text)
    instead: dict[int, str] = {}
    for one in changes:
        node = locate(root, one.record.where)
        says = parse(form_name, one.new if form_name != "toml" else f"v = {one.new}")
        if node is not None:
            instead[id(node)] = "s" + (says.members[0].node.text if form_name == "toml" else says.text)
    return canonical(root, instead)


def _unquoted(literal: str) -> str:
    return literal[1:-1] if len(literal) > 1 and literal[0] == literal[-1] and literal[0] in "\"'`" else literal


def plan_undo(path: str, records: Sequence[MoveRecord], keeper: StoreKeeper, fingerprints: Fingerprints) -> FilePlan:
    """What putting the credentials of one file back would change."""
    plan = FilePlan(path)
    try:
        if not Path(path).exists():
            plan.drop = list(records)
            plan.refused = [
                (".".join(one.where), f"the file is gone; {one.reference} stays in its store") for one in records
            ]
            return plan
        plan.content = content = read(path)
        for record in records:
            _undo(plan, content, record, keeper, fingerprints)
        if plan.changes:
            _settle(plan, records[0].format)
    except (ClientFileError, EntryRefused) as error:
        plan.problem, plan.text, plan.changes, plan.drop = error, None, [], []
    return plan


def _undo(
    plan: FilePlan, content: Content, record: MoveRecord, keeper: StoreKeeper, fingerprints: Fingerprints
) -> None:
    label = record.where[0] if record.format == "env" else ".".join(record.where)
    found = _at(content.text, record)
    if found is None:
        plan.drop.append(record)
        plan.refused.append((label, f"no longer in the file; {record.reference} stays in its store"))
        return
    now, start, end = found
    if now != record.text:
        value = now.removeprefix(record.before)
        if fingerprints.whole(value) == record.digest:
            plan.drop.append(record)  # an interrupted undo: it is back already
        else:
            plan.refused.append((label, "changed since it was moved"))
        return
    try:
        value = keeper.fetch(record.reference)
    except SecretError as error:
        plan.refused.append((label, f"cannot be put back: {error.what}"))
        return
    note = "" if fingerprints.whole(value) == record.digest else "another value than was moved: it was rotated since"
    new = record.style + value + record.style
    if record.format != "env":
        new = _written(cast("FormatName", record.format), record, record.before + value)
    elif not move_env.is_clear(value, record.style):
        plan.refused.append((label, "the value it has now cannot be written into such a file"))
        return
    line = content.text.count("\n", 0, start) + 1
    old = content.text[start:end]
    plan.changes.append(Change(line, label, record.reference, start, end, new, old, value, record, note))


def _written(format_: FormatName, record: MoveRecord, text: str) -> str:
    """A literal as the old one was written; as usual, where that form cannot hold the value there is now."""
    new = write(Form(record.style, record.exceptions), text)
    return new if describe(format_, new, text) is not None else string(format_, text)


def _at(text: str, record: MoveRecord) -> tuple[str, int, int] | None:
    """What stands at a record's place now, and where."""
    if record.format == "env":
        for place in move_env.places(text):
            if (place.name, str(place.number)) == record.where:
                return place.value, place.start, place.end
        return None
    node = locate(parse(cast("FormatName", record.format), text), record.where)
    return (node.text, node.start, node.end) if node is not None and node.string and node.start >= 0 else None


def carry_out_move(plan: FilePlan, moves: Moves, keeper: StoreKeeper) -> None:
    """Store, read back, record, file. Raises CallgateError, with nothing half done."""
    if plan.content is None or plan.text is None:
        return
    tidy(plan.content.path)
    check_replaceable(plan.content)
    for one in plan.changes:
        store(keeper, one.reference, one.value)
    before = {record.key: record for record in moves.all()}
    made = [one.record for one in plan.changes]
    moves.save(add=made)
    try:
        replace(plan.content, plan.text)
    except ClientFileError:
        moves.save(drop=made, add=[before[one.key] for one in made if one.key in before])
        raise


def store(keeper: StoreKeeper, reference: str, value: str) -> None:
    """Store a value and see that it comes back. Raises SecretError."""
    keeper.keep(reference, value)
    if not same(keeper.fetch(reference), value):
        raise SecretError(
            f"{reference} does not give back what was stored", next_step="callgate secrets test tells more"
        )


def carry_out_undo(plan: FilePlan, moves: Moves) -> None:
    """File, then record. Raises CallgateError, with nothing half done."""
    if plan.content is not None and plan.text is not None:
        tidy(plan.content.path)
        replace(plan.content, plan.text)
    moves.save(drop=[*plan.drop, *(one.record for one in plan.changes)])
