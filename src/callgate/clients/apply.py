"""Changing several entries of one text, and proving that nothing else changed.

Every new text is parsed again and compared, value by value, with what it must say; and what will be kept for the way
back is put back once, to see that the old text results byte for byte. What fails either is not done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callgate.clients.formats import FormatName, Splice, parse, splice
from callgate.clients.moving import Moved, put_back, reveal, with_values
from callgate.clients.records import Record
from callgate.clients.tree import Canonical, ClientFileError, EntryRefused, Node, canonical, locate
from callgate.clients.wrap import Change, extent

_INEXACT = EntryRefused(
    "it cannot be changed without changing something else", next_step="write the entry in a plainer form"
)


@dataclass(frozen=True, slots=True)
class Job:
    """One entry to change."""

    where: tuple[str, ...]
    node: Node
    change: Change


@dataclass(frozen=True, slots=True)
class Trace:
    """What one change replaced: the texts before and after, and where they stand in the old and the new text."""

    before: str
    after: str
    spans: tuple[tuple[int, int, int, int], ...]
    """The touched members first, then each value that changed beside them."""


@dataclass(frozen=True, slots=True)
class Result:
    """A new text, parsed, and what each change of it replaced."""

    text: str
    root: Node
    traces: tuple[Trace, ...] = ()


def apply(text: str, format_: FormatName, root: Node, jobs: Sequence[Job]) -> Result:
    """The text with all changes. Raises EntryRefused when one of them cannot be exact."""
    if not jobs:
        return Result(text, root)
    new = splice(text, [one for job in jobs for one in job.change.splices])
    try:
        new_root = parse(format_, new)
    except ClientFileError as error:
        raise _INEXACT from error
    if canonical(new_root) != canonical(root, {id(job.node): job.change.value for job in jobs}):
        raise _INEXACT
    traces: list[Trace] = []
    back: list[Splice] = []
    for job in jobs:
        node = locate(new_root, job.where)
        if node is None:
            raise _INEXACT
        start, end = extent(job.node, job.change.before)
        new_start, new_end = extent(node, job.change.after)
        spans = [(start, end, new_start, new_end)]
        for path in job.change.values:
            old_value, new_value = locate(job.node, path), locate(node, path)
            if old_value is None or new_value is None or min(old_value.start, new_value.start) < 0:
                raise _INEXACT
            if not start <= old_value.start < end:
                spans.append((old_value.start, old_value.end, new_value.start, new_value.end))
        traces.append(Trace(text[start:end], new[new_start:new_end], tuple(spans)))
        back += (Splice(after, after_end, text[before:before_end]) for before, before_end, after, after_end in spans)
    if splice(new, back) != text:
        raise _INEXACT
    return Result(new, new_root, tuple(traces))


def apply_most(
    text: str, format_: FormatName, root: Node, jobs: Sequence[Job]
) -> tuple[Result, list[tuple[Job, Trace]], list[tuple[Job, EntryRefused]]]:
    """All changes that can be made: the result, those made, those refused."""
    refused: list[tuple[Job, EntryRefused]] = []
    good = list(jobs)
    try:
        result = apply(text, format_, root, good)
    except (EntryRefused, ClientFileError):
        good = []
        for job in jobs:
            try:
                apply(text, format_, root, [job])
            except (EntryRefused, ClientFileError) as error:
                refused.append((job, _as_refusal(error)))
            else:
                good.append(job)
        result = apply(text, format_, root, good)
    return result, list(zip(good, result.traces, strict=True)), refused


def _as_refusal(error: EntryRefused | ClientFileError) -> EntryRefused:
    return error if isinstance(error, EntryRefused) else EntryRefused(error.what, next_step=error.next_step)


def undo(
    text: str, record: Record, node: Node, *, keep_edits: bool = False, values: Mapping[str, str] | None = None
) -> Change:
    """The change that puts one entry back.

    Layout may have changed since, as when a client writes its file anew. Other edits of the entry are refused, or
    kept with `keep_edits` when they are in other members. `values` are the credentials by reference; without them the
    references stay where they are. Raises EntryRefused.
    """
    now = canonical(node)
    before_text, original = record.before_text, record.original
    moved: tuple[Moved, ...] = ()
    if values is not None:
        moved = record.moved
        before_text = reveal(before_text, moved, values)
        original = with_values(original, moved, values)
    value: Canonical = original
    if now != record.wrapped:
        if not keep_edits or not isinstance(now, dict) or any(_differ(now, record.wrapped, k) for k in record.touched):
            raise EntryRefused("edited since callgate wrapped it")
        value = {key: item for key, item in now.items() if key not in record.touched}
        value |= {key: item for key, item in original.items() if _differ(record.original, record.wrapped, key)}
    start, end = extent(node, record.touched)
    if "".join(text[start:end].split()) != "".join(record.after_text.split()):
        raise EntryRefused("edited since callgate wrapped it: comments, or members between command and arguments")
    changed = {key for key in record.original if _differ(record.original, record.wrapped, key)}
    # A touched member may say the same as before: callgate's own interpreter, of a server that has the same one.
    keys = tuple(key for key in record.original if key in changed or key in record.touched)
    beside = [one for one in moved if one.at < 0 and _holds(now, one)]
    if now != record.wrapped and values is not None:
        value = with_values(value, (one for one in moved if _holds(value, one)), values)
    splices = (Splice(start, end, before_text), *put_back(node, beside, values or {}))
    return Change(splices, record.touched, keys, value, tuple(one.path for one in beside))


def _holds(value: Canonical, one: Moved) -> bool:
    """Whether the reference stands where the record says."""
    for key in one.path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return bool(value == "s" + one.reference)


def _differ(one: Canonical, other: Canonical, key: str) -> bool:
    return bool(one.get(key) != other.get(key))
