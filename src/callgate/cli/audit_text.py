"""What `callgate audit show` and `verify` print. Texts of peers go through `visible`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from callgate.audit.index_check import Tear
from callgate.audit.live import duration_text, size_text
from callgate.audit.records import Record, canonical_value, digest_of, message_digest
from callgate.audit.verify import ChainReport, Report
from callgate.text import visible

_LISTED = 10
"""Sequence numbers and problems printed one by one; the rest is counted."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(microseconds: object) -> str:
    """ISO 8601 in UTC with microseconds; the number itself when it is no time."""
    try:
        moment = _EPOCH + timedelta(microseconds=int(str(microseconds)))
    except (ValueError, OverflowError):
        return _text(microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _day(microseconds: object) -> str:
    """The day of a time, in UTC."""
    return utc(microseconds)[:10]


def record_lines(line: bytes, record: Record) -> list[str]:
    """One record, a member a line."""
    rows = [("time", utc(record.get("time")))]
    kind = record.get("kind")
    if kind == "decision":
        rows += _decision_rows(record)
    elif kind == "note":
        rows += [("note", _text(record.get("what"))), ("fields", _json(record.get("fields")))]
    else:
        others = (item for item in record.items() if item[0] not in ("chain", "prev", "seq", "time"))
        rows += [(visible(name, 40), _text(value)) for name, value in others]
    rows += [("chained to", _text(record.get("prev"))), ("this record", digest_of(line))]
    head = f"record {_text(record.get('seq'))} of log {_text(record.get('chain'))}"
    return [head, *(f"  {name:<12}{value}" for name, value in rows)]


def _decision_rows(record: Record) -> list[tuple[str, str]]:
    scope = record.get("scope")
    scope = scope if isinstance(scope, dict) else {}
    arrow = "client → server" if record.get("direction") == "client" else "server → client"
    rpc_id = record.get("rpc_id")
    rows = [
        ("outcome", f"{_text(record.get('outcome'))} (hook {_text(record.get('hook'))})"),
        ("message", f"{arrow}  {_text(record.get('method'))} {_text(record.get('name'))}".rstrip()),
        ("id", "none" if rpc_id is None else _text(rpc_id)),
        ("server", f"{_text(scope.get('server'))} over {_text(scope.get('transport'))}"),
        ("principal", _text(scope.get("principal"))),
        ("session", _text(scope.get("session"))),
        ("revision", _text(scope.get("revision"))),
        ("bytes", f"{size_text(record.get('size'))}, {_text(message_digest(record))}"),
        ("failed", _text(record.get("failed"))),
        ("took", duration_text(record.get("took_us")) if record.get("took_us") else ""),
        ("content", _json(record["content"]) if "content" in record else "not kept (detail: digest)"),
    ]
    findings = record.get("findings")
    for finding in findings if isinstance(findings, list) else []:
        rows += _finding_rows(finding if isinstance(finding, dict) else {})
    return [row for row in rows if row[1]]


def _finding_rows(finding: dict[str, Any]) -> list[tuple[str, str]]:
    place = f" at {_text(finding['pointer'])}" if finding.get("pointer") else ""
    return [
        ("finding", f"{_text(finding.get('rule'))} ({_text(finding.get('severity'))}){place}"),
        ("", f"risk {_text(finding.get('risk'))}"),
        ("", _once(finding.get("message"))),
        ("", f"evidence: {_once(finding['evidence'])}" if finding.get("evidence") else ""),
    ]


def report_lines(report: Report) -> list[str]:
    """The result of a verification."""
    lines: list[str] = []
    for log in report.logs:
        lines += _log_lines(log)
    lines += [f"{_text(name)}  MISSING: it was opened here, and its directory is gone" for name in report.missing]
    lines += [f"chains.jsonl  NOT VERIFIED: {problem.what}" for problem in report.index_problems[:_LISTED]]
    for tear in report.tears[-_LISTED:]:
        lines += _tear_lines(tear)
    lines += _removed_lines(report.removed, report.compacted)
    good = sum(log.verified for log in report.logs)
    total = len(report.logs) + len(report.missing)
    if not total and report.verified and not report.removed and not report.tears and not report.compacted:
        return ["there is no evidence yet"]
    lines.append(f"{good} of {total} {'log' if total == 1 else 'logs'} verified")
    return lines


def _tear_lines(tear: Tear) -> list[str]:
    about = f", about log {_text(tear.about)}" if tear.about else ""
    noted = f"; noted on {_day(tear.stated)}" if tear.stated else ""
    return [
        f"chains.jsonl  torn: {tear.bytes} bytes at line {tear.line}, of one that was not written whole",
        f"  what it said is missing{about}{noted}",
    ]


def _removed_lines(statements: list[Record], compacted: Record | None) -> list[str]:
    """Logs that retention removed as a whole: the last ones, and how many before."""
    lines = []
    if compacted is not None:
        what = f"{_text(compacted.get('lines'))} lines about {_text(compacted.get('logs'))} removed logs"
        torn = f" and {_text(compacted['torn'])} torn bytes" if compacted.get("torn") else ""
        lines.append(
            f"chains.jsonl  {what}{torn} were dropped by {_day(compacted.get('time'))}, as a signed statement says"
        )
    for statement in statements[-_LISTED:]:
        through, on, why = statement["through"], _day(statement["time"]), _text(statement["reason"])
        lines += [f"{_text(statement['chain'])}  removed on {on}", f"  all {_records(through)}, by retention ({why})"]
    hidden = len(statements) - _LISTED
    return [f"{hidden} more logs removed by retention, with signed statements", *lines] if hidden > 0 else lines


def _log_lines(log: ChainReport) -> list[str]:
    found = log.found
    state = "verified" if log.verified else "NOT VERIFIED"
    killed = "sealed after its process was killed" if log.sealed else "not closed: its process was killed"
    end = "closed" if found.closed else "in use" if log.in_use else killed
    lines = [f"{_text(log.chain)}  {state}: {_records(found.last_seq)}, {end}"]
    if log.removed is not None:
        gone, on, why = log.removed["through"], _day(log.removed["time"]), _text(log.removed["reason"])
        what = "record 1" if gone == 1 else f"records 1 to {gone}"
        lines.append(f"  {what} removed by retention on {on} ({why})")
        if log.verified:
            lines.append("  chain intact from there")
    if log.unfinished:
        lines.append(f"  {log.unfinished} of its files are still here: callgate audit prune goes on with it")
    lines += [f"  {problem.what}" for problem in found.problems[:_LISTED]]
    hidden = len(found.problems) - _LISTED + found.more_problems
    if hidden > 0:
        lines.append(f"  and {hidden} more")
    if found.signed_through:
        lines.append(f"  signed through record {found.signed_through} by {', '.join(sorted(found.keys))}")
    unsigned = found.last_seq - found.signed_through - (1 if found.closed and found.signed_through else 0)
    if unsigned > 0:
        what = f"{_records(unsigned)} after that: chained, not signed" if found.signed_through else "nothing is signed"
        lines.append(f"  {what}")
    if log.torn_bytes:
        lines.append(f"  torn: {log.torn_bytes} bytes after record {found.last_seq}, of one that was not written whole")
    if found.lost:
        lines.append(f"  lost: {found.lost} decisions could not be written, as the log itself notes")
    if found.unanswered:
        lines.append(f"  without an answer: {_numbers(sorted(found.unanswered))}")
    return lines


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_LISTED]))
    rest = len(numbers) - _LISTED
    calls = "1 request, record" if len(numbers) == 1 else f"{len(numbers)} requests, records"
    return f"{calls} {shown}" + (f" and {rest} more" if rest > 0 else "")


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def _text(value: object) -> str:
    return visible("" if value is None else str(value), 300)


def _once(value: object) -> str:
    """Text that a control made visible already; only what is not printable is escaped again."""
    text = str(value)
    return text if text.isprintable() and len(text) <= 1000 else visible(text)


def _json(value: object) -> str:
    return visible(canonical_value(value).decode(), 2000)
