"""A record as one line for a person: what `callgate audit tail` and `callgate serve` print.

    10:15:02.123  allow     files      → tools/call read_file {path}
    10:15:02.125  allow     files      ← tools/call read_file  2.1 kB  1.4 ms
    10:15:02.130  deny      files      ← tools/list  definition-pins/instruction-added (high)
    10:15:02.131  deny      files      → http-host (421) POST from 127.0.0.1

Every text that came from a peer goes through `visible`; a line is cut at the width of the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final
from unicodedata import east_asian_width

from callgate.audit.records import Record, parse
from callgate.text import visible

WIDTH: Final = 100
"""Columns of a line unless told otherwise."""
_SERVER: Final = 10
_NAME: Final = 40
_COLOURS: Final = {"deny": "31", "error": "31", "ask": "33", "rewrite": "33", "annotate": "36", "allow": "32"}
_DIM: Final = "2"


def live_line(line: bytes | Record, *, width: int = WIDTH, colour: bool = False) -> str:
    """The line for one record, without newline; empty for what is no record."""
    record = parse(line) if isinstance(line, bytes) else line
    if record is None:
        return ""
    kind = str(record.get("kind", ""))
    outcome = str(record.get("outcome", "sign" if kind == "checkpoint" else kind))
    if is_refusal(record):
        outcome, rest = "deny", _refusal(record["fields"])
    else:
        rest = _decision(record) if kind == "decision" else _event(record)
    text = fit(f"{clock(record.get('time'))}  {visible(outcome, 13):<8}  {rest}", width)
    if not colour:
        return text
    code = _COLOURS.get(outcome, _DIM)
    at = text.find(outcome)
    return f"{text[:at]}\x1b[{code}m{outcome}\x1b[0m{text[at + len(outcome) :]}" if at > 0 else text


def is_refusal(record: Record) -> bool:
    """Whether a request was refused at the HTTP door, before there was a message."""
    fields = record.get("fields")
    return record.get("kind") == "note" and record.get("what") == "http-refused" and isinstance(fields, Mapping)


def clock(microseconds: object) -> str:
    """Local time of day with milliseconds."""
    if not isinstance(microseconds, int) or not 0 <= microseconds < 1 << 53:
        return "--:--:--.---"
    seconds, rest = divmod(microseconds, 1_000_000)
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest // 1000:03d}"


def fit(text: str, width: int) -> str:
    """Cut to `width` columns, wide characters counting two; a cut text ends in `…`."""
    if len(text) <= width and text.isascii():
        return text
    used = room = 0
    for index, char in enumerate(text):
        used += 2 if east_asian_width(char) in "WF" else 1
        if used < width:
            room = index + 1
        elif used > width:
            return text[:room] + "…"
    return text


def size_text(size: object) -> str:
    """`812 B`, `2.1 kB`, `3.4 MB`."""
    value = float(size) if isinstance(size, int) else 0.0
    for unit in ("B", "kB", "MB"):
        if value < 1000 or unit == "MB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration_text(microseconds: object) -> str:
    """`340 µs`, `1.4 ms`, `2.3 s`."""
    value = microseconds if isinstance(microseconds, int) else 0
    if value < 1000:
        return f"{value} µs"
    return f"{value / 1000:.1f} ms" if value < 1_000_000 else f"{value / 1_000_000:.1f} s"


def _decision(record: Record) -> str:
    scope = record.get("scope")
    server = visible(str(scope.get("server", "")) if isinstance(scope, Mapping) else "", 64)
    client = record.get("direction") == "client"
    what = visible(str(record.get("method", "")), _NAME)
    if record.get("name"):
        what += " " + visible(str(record["name"]), _NAME)
    findings = record.get("findings")
    if isinstance(findings, list) and findings:
        detail = " " + _findings(findings)
    elif client:
        detail = _members(record.get("content"))
    else:
        detail = f" {size_text(record.get('size'))}"
        if record.get("took_us"):
            detail += f"  {duration_text(record['took_us'])}"
    return f"{fit(server, _SERVER):<{_SERVER}} {'→' if client else '←'} {what} {detail}".rstrip()


def _refusal(fields: Mapping[str, Any]) -> str:
    """`files      → http-host (421) POST from 127.0.0.1`, or how many there were."""
    text = {name: visible(str(fields.get(name, "")), 60) for name in ("route", "rule", "status", "method", "peer")}
    count = fields.get("count")
    times = f"{count} times " if isinstance(count, int) and count > 1 else ""
    path = " " + visible(str(fields["path"]), _NAME) if fields.get("path") else ""
    peers = fields.get("peers")
    peer = text["peer"] or (visible(", ".join(map(str, peers)), 60) if isinstance(peers, list) else "")
    what = f"{text['rule']} ({text['status']}) {times}{text['method']}{path}".rstrip()
    return f"{fit(text['route'], _SERVER):<{_SERVER}} → {what}{' from ' + peer if peer else ''}"


def _findings(findings: list[Any]) -> str:
    first = findings[0] if isinstance(findings[0], Mapping) else {}
    text = f"{visible(str(first.get('rule', '')), 60)} ({visible(str(first.get('severity', '')), 10)})"
    return f"{text} +{len(findings) - 1}" if len(findings) > 1 else text


def _members(content: object) -> str:
    """Member names of the arguments, never their values."""
    if not isinstance(content, Mapping) or not content:
        return ""
    names = [visible(str(name), 20) for name in list(content)[:5]]
    return "{" + ", ".join(names) + (", …" if len(content) > 5 else "") + "}"


def _event(record: Record) -> str:
    kind = record.get("kind")
    if kind == "note":
        fields = record.get("fields")
        pairs = fields.items() if isinstance(fields, Mapping) else ()
        shown = " ".join(f"{visible(str(name), 20)}={visible(str(value), 40)}" for name, value in pairs)
        return f"{visible(str(record.get('what', '')), 24)} {shown}".rstrip()
    if kind == "open":
        return f"log {visible(str(record.get('chain', '')), 64)} of {visible(str(record.get('process', '')), 20)}"
    signed = "signed" if record.get("signature") else "not signed"
    return f"records 1 to {visible(str(record.get('covers', 0)), 20)} {signed}"
