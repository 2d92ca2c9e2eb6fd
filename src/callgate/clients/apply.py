"""Changing several entries of one text, and proving that nothing else changed.

Every new text is parsed again and compared, value by value, with what it must say; and what will be kept for the way
back is put back once, to see that the old text results byte for byte. What fails either is not done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callgate.clients.formats import FormatName, Splice, parse, splice
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
    span: tuple[int, int, int, int]


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
        traces.append(Trace(text[start:end], new[new_start:new_end], (start, end, new_start, new_end)))
        back.append(Splice(new_start, new_end, text[start:end]))
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


def undo(text: str, record: Record, node: Node, *, keep_edits: bool = False) -> Change:
    """The change that puts one entry back.

    Layout may have changed since, as when a client writes its file anew. Other edits of the entry are refused, or
    kept with `keep_edits` when they are in other members. Raises EntryRefused.
    """
    now = canonical(node)
    value: Canonical = record.original
    if now != record.wrapped:
        if not keep_edits or not isinstance(now, dict) or any(_differ(now, record.wrapped, k) for k in record.touched):
            raise EntryRefused("edited since callgate wrapped it")
        value = {key: item for key, item in now.items() if key not in record.touched}
        value |= {key: item for key, item in record.original.items() if _differ(record.original, record.wrapped, key)}
    start, end = extent(node, record.touched)
    if "".join(text[start:end].split()) != "".join(record.after_text.split()):
        raise EntryRefused("edited since callgate wrapped it: comments, or members between command and arguments")
    keys = tuple(key for key in record.original if _differ(record.original, record.wrapped, key))
    return Change((Splice(start, end, record.before_text),), record.touched, keys, value)


def _differ(one: Canonical, other: Canonical, key: str) -> bool:
    return bool(one.get(key) != other.get(key))
