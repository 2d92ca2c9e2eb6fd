"""Finding records: across logs, by time, by number; and following logs that are being written."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from callgate.audit.live import is_refusal
from callgate.audit.reader import chains, in_use, read_lines, segment_paths
from callgate.audit.records import Record, parse
from callgate.audit.spool import TAIL_NAME
from callgate.errors import AuditError
from callgate.text import visible

Line: TypeAlias = bytes
_DIGITS: Final = 20
_SLACK_US: Final = 60_000_000
"""A mapped file's time of change may be older than what was assigned to it, until the next sync."""
Entry: TypeAlias = tuple[Line, Record]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted. Empty members want all.

    Requests refused at the HTTP door count as decisions: `deny` for the server of their route. Times are microseconds
    since 1970 in UTC.
    """

    chain: str = ""
    server: str = ""
    outcome: str = ""
    since: int = 0
    until: int = 1 << 62
    decisions_only: bool = False

    def wants(self, record: Record) -> bool:
        """Whether `record` passes."""
        refusal = is_refusal(record)
        if self.decisions_only and record.get("kind") != "decision" and not refusal:
            return False
        scope = record.get("scope")
        server = record["fields"].get("route") if refusal else scope.get("server") if isinstance(scope, dict) else None
        if self.server and server != self.server:
            return False
        if self.outcome and ("deny" if refusal else record.get("outcome")) != self.outcome:
            return False
        return bool(self.since <= record["time"] < self.until)


def records_of(directory: Path) -> Iterator[Entry]:
    """The whole records of one log; lines that are none are left to verification."""
    for line, _ in read_lines(directory):
        record = _whole(line)
        if record is not None:
            yield line, record


def all_records(audit_dir: Path, wanted: Filter) -> Iterator[Entry]:
    """Wanted records of all logs, oldest first."""
    streams = (_wanted(audit_dir / name, wanted) for name in _named(audit_dir, wanted.chain))
    return heapq.merge(*streams, key=lambda entry: int(entry[1]["time"]))


def newest_records(audit_dir: Path, wanted: Filter, count: int) -> list[Entry]:
    """The last `count` wanted records of all logs, oldest first. Logs that ended before are not read."""
    found: list[Entry] = []
    names = _named(audit_dir, wanted.chain)
    for changed, name in sorted(((_changed(audit_dir / name), name) for name in names), reverse=True):
        if len(found) >= count and changed + _SLACK_US < found[0][1]["time"]:
            break
        found += deque(_wanted(audit_dir / name, wanted), maxlen=count)
        found.sort(key=lambda entry: int(entry[1]["time"]))
        found = found[-count:]
    return found


def find(audit_dir: Path, reference: str) -> tuple[Entry, Entry | None]:
    """The record `SEQ` (of the log written last) or `CHAIN:SEQ`, and its partner: its request or first answer.

    Raises AuditError when there is no such record.
    """
    chain, _, number = reference.rpartition(":")
    names = _named(audit_dir, chain)
    if not (number.isascii() and number.isdigit() and len(number) < _DIGITS) or not names:
        raise AuditError(
            f"there is no record {visible(reference, 100)!r}", next_step="see callgate audit tail for what there is"
        )
    seq = int(number)
    newest = max(names, key=lambda name: (_changed(audit_dir / name), name))
    record: Entry | None = None
    partner: Entry | None = None
    about = 0
    for entry in records_of(audit_dir / newest):
        if entry[1]["seq"] == seq:
            record = entry
            about = _about(entry[1])
        elif record is not None and _about(entry[1]) == seq:
            partner = entry
            break
    if record is None:
        raise AuditError(
            f"log {newest} has no record {seq}",
            next_step="name the log too (CHAIN:SEQ); callgate audit verify says what retention removed",
        )
    if about > 0:
        partner = next((entry for entry in records_of(audit_dir / newest) if entry[1]["seq"] == about), None)
    return record, partner


def _about(record: Record) -> int:
    """The record that this one is about; 0: none."""
    about = record.get("about")
    return about if type(about) is int else 0


class Follower:
    """New records of all logs, also of those that are opened later. Each `poll` gives what came since the last."""

    def __init__(self, audit_dir: Path, wanted: Filter) -> None:
        self._audit_dir = audit_dir
        self._wanted = wanted
        self._places: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        for name in _named(audit_dir, wanted.chain):
            begun = _begun(audit_dir / name)
            if in_use(audit_dir / name):
                self._read(name, lambda _: None)
            elif begun:
                self._done.add(name)

    def poll(self) -> list[Entry]:
        """Records since the last poll, by time."""
        found: list[Entry] = []
        for name in _named(self._audit_dir, self._wanted.chain, must=False):
            if name not in self._done:
                live = in_use(self._audit_dir / name)
                self._read(name, found.append)
                if not live and name in self._places:
                    self._done.add(name)
        found.sort(key=lambda entry: int(entry[1]["time"]))
        return found

    def _read(self, name: str, take: Callable[[Entry], None]) -> None:
        for line, place in read_lines(self._audit_dir / name, self._places.get(name, (1, 0))):
            record = _whole(line)
            if record is None:
                continue  # half written, then it is the last, and the next poll reads it whole; or damaged
            self._places[name] = place
            if self._wanted.wants(record):
                take((line, record))


def _begun(directory: Path) -> bool:
    """Whether the log is open by now: its files are made before `tail` has its name."""
    return bool(segment_paths(directory)) and not (directory / f"{TAIL_NAME}.new").exists()


def _wanted(directory: Path, wanted: Filter) -> Iterator[Entry]:
    return (entry for entry in records_of(directory) if wanted.wants(entry[1]))


def _whole(line: bytes) -> Record | None:
    if not line.endswith(b"\n") or b"\0" in line:
        return None
    record = parse(line)
    return record if record is not None and type(record.get("time")) is int and type(record.get("seq")) is int else None


def _named(audit_dir: Path, chain: str, *, must: bool = True) -> list[str]:
    """Logs whose id is `chain` or contains it; all without one. Raises AuditError when `must` and there is none."""
    names = chains(audit_dir)
    found = [name for name in names if name == chain] or [name for name in names if chain in name]
    if chain and must and not found:
        raise AuditError(
            f"there is no log {visible(chain, 100)!r}", next_step="callgate audit verify lists the logs that are here"
        )
    return found


def _changed(directory: Path) -> int:
    """When the log was last written, in microseconds. One in use counts as written now."""
    if in_use(directory):
        return 1 << 62
    return max(map(_modified, (*segment_paths(directory), directory / TAIL_NAME)), default=0)


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // 1000
    except FileNotFoundError:  # there is none, or retention removed it
        return 0
