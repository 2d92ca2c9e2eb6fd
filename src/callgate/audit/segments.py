"""The segments of all logs, as retention sees them: how large, how old, and which must stay because they are in use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callgate.audit.files import read
from callgate.audit.reader import in_use, segment_paths, size_of
from callgate.audit.records import RECORD_BYTES, parse
from callgate.audit.spool import HEADER_BYTES, TAIL_BYTES, TAIL_NAME

_END: Final = 2 * RECORD_BYTES


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One segment. Sorted by `newest`, the time of its last record in microseconds (never less than that of those
    before it in its log).

    `final`: the last of its log, with the records in `tail`. `held`: a running process writes into it.
    """

    newest: int
    chain: str
    number: int
    bytes: int
    final: bool
    held: bool


def segments_of(directory: Path) -> list[Segment]:
    """The segments of one log in order."""
    live = in_use(directory)
    paths = segment_paths(directory)
    newest = 0
    found: list[Segment] = []
    for at, path in enumerate(paths):
        final = at == len(paths) - 1
        tail = _read(directory / TAIL_NAME, TAIL_BYTES) if final else b""
        records = tail[HEADER_BYTES:].rstrip(b"\0")
        newest = max(newest, _last_time(records) or _last_time(_read(path, _END)))
        held = live and final
        size = size_of(path) + (len(records) if held else len(tail))
        found.append(Segment(newest, directory.name, int(path.stem), size, final, held))
    return found


def total_bytes(audit_dir: Path) -> int:
    """All evidence here, but for the space that running processes reserve in `tail`; what killed ones left counts."""
    left = (path for path in audit_dir.glob(f"*/{TAIL_NAME}") if not in_use(path.parent))
    return sum(size_of(path) for path in (*audit_dir.rglob("*.jsonl"), *left))


def _last_time(data: bytes) -> int:
    """The time of the last whole record in `data`; 0 when there is none."""
    for line in reversed(data.split(b"\n")[:-1]):
        record = parse(line)
        if record is not None and type(record.get("time")) is int:
            return int(record["time"])
    return 0


def _read(path: Path, count: int) -> bytes:
    """The last `count` bytes of a file; nothing where it is gone, or none that can be read: verification says so."""
    try:
        return read(path, count, max(0, path.stat().st_size - count))
    except OSError:
        return b""
