"""Known-bad and vulnerable versions: an index over OSV exports that the user downloads.

An export is `all.zip` of an ecosystem (one `ID.json` a record) or a directory of such files. It is read into SQLite in
the state directory, `osv/index.sqlite`: built beside and renamed, so that a crash leaves the old index. Records of
malicious packages have ids that start with `MAL-`. Nothing is fetched; the answer is as old as the export.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from callgate.errors import TrustError
from callgate.supply.osv_export import RECORD_BYTES, records
from callgate.supply.place import parse_object
from callgate.supply.version_order import ORDERS
from callgate.text import visible

FORMAT: Final = 1
_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE advisory (id TEXT PRIMARY KEY, summary TEXT NOT NULL, modified TEXT NOT NULL, aliases TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE affected (ecosystem TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, what BLOB NOT NULL);
"""
_PURL_TYPES: Final = {"npm": "npm", "pypi": "PyPI"}


@dataclass(frozen=True, slots=True)
class Advisory:
    """A record that concerns a version. `summary` is its author's text.

    `certain` is False where the version cannot be ordered: then the record may or may not concern it.
    """

    id: str
    malicious: bool
    summary: str
    modified: str
    aliases: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    certain: bool = True

    def describe(self) -> str:
        """One line, safe to print."""
        kind = "malicious package" if self.malicious else "known vulnerability"
        fixed = f"; fixed in {', '.join(visible(one, 40) for one in self.fixed[:3])}" if self.fixed else ""
        doubt = "" if self.certain else " (this version cannot be compared: it may not be concerned)"
        return f"{visible(self.id, 60)}: {kind}: {visible(self.summary, 120) or 'no summary'}{fixed}{doubt}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did."""

    records: int
    packages: int
    malicious: int
    withdrawn: int
    unreadable: int
    seconds: float


def index_path(state: Path) -> Path:
    """Where the index lies."""
    return state / "osv" / "index.sqlite"


def load(export: Path, state: Path, now: Callable[[], float] = time.time) -> Loaded:
    """Build the index anew from exports: a ZIP, a `.json` record, or a directory of either. Raises TrustError.

    Withdrawn records, and those of other ecosystems than npm and PyPI, are left out; unreadable ones are counted.
    """
    started = time.monotonic()
    target = index_path(state)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in target.parent.glob(".new-*"):
        old.unlink(missing_ok=True)
    beside = target.with_name(f".new-{os.urandom(6).hex()}.sqlite")
    counts = dict.fromkeys(("records", "packages", "malicious", "withdrawn", "unreadable"), 0)
    try:
        with closing(sqlite3.connect(beside)) as database:
            os.chmod(beside, 0o600)
            database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
            for name, data in records(export):
                _add(database, name, data, counts)
            if not counts["records"]:
                raise TrustError(
                    f"{visible(str(export), 300)} holds no record of an npm or PyPI package",
                    effect="the index stays as it was",
                    next_step="download all.zip of the ecosystem from the database's export",
                )
            database.execute("CREATE INDEX by_name ON affected (ecosystem, name)")
            about = {"format": str(FORMAT), "loaded": str(int(now())), "records": str(counts["records"])}
            database.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            database.commit()
        descriptor = os.open(beside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, target)
    except (sqlite3.Error, OSError) as error:
        raise TrustError(f"the index cannot be built: {error}", next_step="check the disk") from error
    finally:
        beside.unlink(missing_ok=True)
    return Loaded(**counts, seconds=time.monotonic() - started)


def check(state: Path, purl: str, version: str = "") -> tuple[Advisory, ...]:
    """Records that concern a version of a package (`pkg:npm/%40scope/name@1.2.3`), malicious ones first.

    Raises TrustError where there is no index, and for a purl of another kind.
    """
    ecosystem, name, at = parse_purl(purl)
    version = version or at
    path = index_path(state)
    if not path.exists():
        raise TrustError("there is no OSV index", next_step="load an export: callgate trust osv load all.zip")
    try:
        with closing(sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)) as database:
            _check_format(database)
            rows = database.execute(
                "SELECT a.id, a.summary, a.modified, a.aliases, f.what FROM affected f JOIN advisory a ON a.id = f.id "
                "WHERE f.ecosystem = ? AND f.name = ?",
                (ecosystem, name),
            ).fetchall()
    except sqlite3.Error as error:
        raise TrustError(f"the OSV index cannot be read: {error}", next_step="load the export again") from error
    found: dict[str, Advisory] = {}
    for number, summary, modified, aliases, what in rows:
        verdict, fixed = concerned(ecosystem, parse_object(what, "the index"), version)
        if verdict is None or verdict:
            one = Advisory(
                number, number.startswith("MAL-"), summary, modified, tuple(aliases.split()), fixed, verdict is not None
            )
            if number not in found or one.certain:
                found[number] = one
    return tuple(sorted(found.values(), key=lambda one: (not one.malicious, not one.certain, one.id)))


def age_days(state: Path, now: float | None = None) -> float | None:
    """How old the index is; None where there is none."""
    path = index_path(state)
    if not path.exists():
        return None
    with closing(sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT value FROM about WHERE key = 'loaded'").fetchone()
    return ((now if now is not None else time.time()) - int(row[0])) / 86400 if row else None


def parse_purl(purl: str) -> tuple[str, str, str]:
    """Ecosystem, name as the index has it, and version of a package URL. Raises TrustError."""
    from urllib.parse import unquote

    scheme, _, rest = purl.partition(":")
    kind, _, path = rest.partition("?")[0].partition("#")[0].partition("/")
    ecosystem = _PURL_TYPES.get(kind.lower())
    if scheme != "pkg" or ecosystem is None or not path:
        raise TrustError(
            f"'{visible(purl, 100)}' is no npm or PyPI package", next_step="write it as pkg:npm/NAME@1.2.3"
        )
    name, at, version = path.rpartition("@")
    if not at or not name:
        name, version = path, ""
    return ecosystem, normal(ecosystem, unquote(name)), unquote(version)


def normal(ecosystem: str, name: str) -> str:
    """A name as the ecosystem compares it (PEP 503 for PyPI)."""
    if ecosystem != "PyPI":
        return name
    out = name.lower()
    for mark in "_.":
        out = out.replace(mark, "-")
    while "--" in out:
        out = out.replace("--", "-")
    return out


def concerned(ecosystem: str, affected: Mapping[str, Any], version: str) -> tuple[bool | None, tuple[str, ...]]:
    """Whether a version is affected (OSV schema 1.6, evaluation), and where it is fixed. None: it cannot be told.

    Listed versions count as they are; of ranges, those of kind SEMVER and ECOSYSTEM. Without a version, everything
    about the package concerns it.
    """
    ranges = [one for one in affected.get("ranges", ()) if one.get("type") in ("SEMVER", "ECOSYSTEM")]
    events = [event for one in ranges for event in one.get("events", ())]
    fixed = tuple(dict.fromkeys(str(event["fixed"]) for event in events if "fixed" in event))
    if not version or version in affected.get("versions", ()):
        return True, fixed
    key = ORDERS[ecosystem]
    if any(
        event.get("introduced") == "0" and len(one.get("events", ())) == 1 for one in ranges for event in one["events"]
    ):
        return True, fixed  # all versions, whatever they look like
    if not ranges:
        return _listed(key, affected.get("versions", ()), version), fixed
    try:
        wanted = key(version)
        hit = any(_in_range(key, one.get("events", ()), wanted) for one in ranges)
    except (ValueError, TypeError, KeyError):
        return None, fixed
    return hit or bool(_listed(key, affected.get("versions", ()), version)), fixed


def _listed(key: Callable[[str], Any], versions: Any, version: str) -> bool:
    """Whether a version is in the list in another spelling (1.0 and 1.0.0 for Python)."""
    try:
        wanted = key(version)
    except ValueError:
        return False
    for one in versions:
        try:
            if key(str(one)) == wanted:
                return True
        except ValueError:
            continue
    return False


def _in_range(key: Callable[[str], Any], events: Any, wanted: Any) -> bool:
    """The schema's algorithm: events in the order of their versions, each turning the answer."""
    marks: list[tuple[int, Any, int, str]] = []
    for event in events:
        for kind, value in event.items():
            if kind == "introduced" and value == "0":
                marks.append((0, 0, 0, kind))
            elif kind in ("introduced", "fixed", "last_affected"):
                marks.append((1, key(str(value)), 0 if kind == "introduced" else 1, kind))
            elif kind == "limit" and value != "*" and wanted >= key(str(value)):
                return False
    zero = [mark for mark in marks if mark[0] == 0]
    rest = sorted((mark for mark in marks if mark[0] == 1), key=lambda mark: (mark[1], mark[2]))
    hit = bool(zero)
    for _, at, _, kind in rest:
        if kind == "introduced" and wanted >= at:
            hit = True
        elif (kind == "fixed" and wanted >= at) or (kind == "last_affected" and wanted > at):
            hit = False
    return hit


def _add(database: sqlite3.Connection, name: str, data: bytes, counts: dict[str, int]) -> None:
    try:
        record = parse_object(data, name, RECORD_BYTES)
        number = record["id"]
        rows = list(_rows(record))
        if not isinstance(number, str) or not 0 < len(number) <= 200:
            raise TypeError(number)
    except (TrustError, KeyError, TypeError, AttributeError):
        counts["unreadable"] += 1
        return
    if record.get("withdrawn"):
        counts["withdrawn"] += 1
        return
    if not rows:
        return
    aliases = " ".join(str(one) for one in record.get("aliases") or () if isinstance(one, str) and " " not in one)
    summary = str(record.get("summary") or str(record.get("details") or "").partition("\n")[0])[:500]
    database.execute(
        "INSERT OR REPLACE INTO advisory VALUES (?, ?, ?, ?)",
        (number, _clean(summary), _clean(str(record.get("modified", ""))[:40]), _clean(aliases[:2000])),
    )
    database.executemany("INSERT INTO affected VALUES (?, ?, ?, ?)", [(*row[:2], number, row[2]) for row in rows])
    counts["records"] += 1
    counts["packages"] += len(rows)
    counts["malicious"] += number.startswith("MAL-")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    for one in record.get("affected") or ():
        package = one.get("package") or {}
        ecosystem, name = package.get("ecosystem"), package.get("name")
        if ecosystem not in ORDERS or not isinstance(name, str):
            continue
        ranges = [
            {"type": part["type"], "events": [{k: str(v) for k, v in event.items()} for event in part["events"]]}
            for part in one.get("ranges") or ()
            if part.get("type") in ("SEMVER", "ECOSYSTEM")
        ]
        versions = [str(version) for version in one.get("versions") or ()]
        if not ranges and not versions:
            # A record that names no version is about all of them.
            ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
        yield ecosystem, normal(ecosystem, _clean(name)), orjson.dumps({"ranges": ranges, "versions": versions})


def _check_format(database: sqlite3.Connection) -> None:
    row = database.execute("SELECT value FROM about WHERE key = 'format'").fetchone()
    if row is None or row[0] != str(FORMAT):
        raise TrustError("the OSV index is of another version", next_step="load the export again")


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))
