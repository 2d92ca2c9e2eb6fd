"""What `uninstall` would do to one file: worked out whole before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from callgate.clients.apply import Job, apply_most, undo
from callgate.clients.diffs import Sides, value_diff
from callgate.clients.files import check_replaceable, read
from callgate.clients.formats import FormatName, Splice, parse, splice
from callgate.clients.moving import interrupted, same_apart
from callgate.clients.plan import Plan, Step, puts_back
from callgate.clients.records import Record, Records
from callgate.clients.tree import ClientFileError, EntryRefused, Node, canonical, locate
from callgate.clients.url_parts import filled
from callgate.errors import CallgateError


def plan_uninstall(
    records: Records,
    wanted: Callable[[Record], bool],
    *,
    keep_edits: bool = False,
    fetch: Callable[[str], str] | None = None,
) -> Iterator[Plan]:
    """One plan a file, from what was recorded. `fetch` gives a credential by its reference, or raises CallgateError."""
    for file in dict.fromkeys(record.file for record in records.all()):
        chosen = [record for record in records.of(file) if wanted(record)]
        if not chosen:
            continue
        plan = Plan(file, chosen[0].client, format=chosen[0].format)
        try:
            _uninstall(plan, chosen, fetch, keep_edits=keep_edits)
        except ClientFileError as error:
            plan.problem, plan.text, plan.add, plan.drop, plan.steps = error, None, [], [], []
        yield plan


def _uninstall(plan: Plan, chosen: list[Record], fetch: Callable[[str], str] | None, *, keep_edits: bool) -> None:
    from os.path import lexists

    if not lexists(plan.path):
        plan.drop = chosen
        plan.steps = [Step(r.client, r.where[-1], "gone", "the file is no longer there") for r in chosen]
        return
    plan.content = read(plan.path)
    text = plan.content.text
    root = old_root = parse(plan.format, text)
    left = _left_undone(plan.format, root, chosen, fetch)
    if left:
        text = splice(text, left)
        root = parse(plan.format, text)
    jobs: dict[tuple[str, ...], Record] = {}
    work: list[Job] = []
    for record in chosen:
        node = locate(root, record.where)
        if node is None:
            plan.drop.append(record)
            plan.steps.append(Step(record.client, record.where[-1], "gone", "the entry is no longer there"))
        elif same_apart(canonical(node), record.original, record.moved):
            plan.drop.append(record)
            plan.steps.append(Step(record.client, record.where[-1], "already", "as it was before callgate"))
        else:
            try:
                values = _fetched(record, fetch)
            except CallgateError as error:
                what = f"its credentials cannot be put back: {error.what}"
                step = Step(record.client, record.where[-1], "refused", what, error.next_step or "see callgate secrets")
                plan.steps.append(step)
                continue
            try:
                change = undo(text, record, node, keep_edits=keep_edits, values=values)
                work.append(Job(record.where, node, change))
                jobs[record.where] = record
            except EntryRefused as error:
                plan.steps.append(_drifted(record, node, error, keep_edits=keep_edits))
    result, done, refused = apply_most(text, plan.format, root, work)
    for job, refusal in refused:
        plan.steps.append(_drifted(jobs[job.where], job.node, refusal, keep_edits=keep_edits))
    for job, _ in done:
        plan.drop.append(jobs[job.where])
        plan.steps.append(Step(plan.client, job.where[-1], "unwrap", notes=puts_back(jobs[job.where])))
    if result.text != plan.content.text:
        check_replaceable(plan.content)
        spans = () if left else tuple(span for trace in result.traces for span in trace.spans)
        plan.text, plan.sides = result.text, Sides(old_root, result.root, spans)


def _left_undone(
    format_: FormatName, root: Node, chosen: list[Record], fetch: Callable[[str], str] | None
) -> list[Splice]:
    found: list[Splice] = []
    for record in chosen if fetch else ():
        node = locate(root, record.where)
        if node is not None and fetch is not None:
            found += interrupted(format_, node, record.wrapped, record.moved, fetch)
    return found


def _fetched(record: Record, fetch: Callable[[str], str] | None) -> Mapping[str, str]:
    """The credentials of an entry by reference. Raises CallgateError."""
    if not record.moved:
        return {}
    if fetch is None:
        raise CallgateError("no store was opened", next_step="see callgate secrets")
    return {one.reference: filled(one.reference, fetch) for one in record.moved}


def _drifted(record: Record, node: Node, error: EntryRefused, *, keep_edits: bool) -> Step:
    now = canonical(node)
    elsewhere = isinstance(now, dict) and all(now.get(key) == record.wrapped.get(key) for key in record.touched)
    if elsewhere and now != record.wrapped and not keep_edits:
        next_step = f"--keep-edits puts {' and '.join(record.touched)} back and keeps what you changed beside them"
    else:
        next_step = f"undo your change, or write the entry anew; as it was, it is in {record.backup}"
    lines = value_diff(".".join(record.where), record.wrapped, now)
    return Step(record.client, record.where[-1], "refused", error.what, next_step, tuple(lines))
