"""Verification of the evidence log: of one log or of all, offline, with the public key only.

`verify` answers two questions apart: is what is here what was written (`problems`), and what is not here
and why (`torn_bytes`, no closing record, calls without an answer, records not yet signed, records removed by
retention).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from callgate.audit import index
from callgate.audit.chain import ChainChecker, Findings, Problem, VerifySignature
from callgate.audit.files import read
from callgate.audit.index_check import Entry, Listing, Tear, check
from callgate.audit.keys import public_keys
from callgate.audit.reader import Place, chains, in_use, read_lines, segment_paths, size_of
from callgate.audit.records import GENESIS, Record, parse
from callgate.audit.retention_lock import reading
from callgate.audit.spool import TAIL_BYTES, TAIL_NAME, place_of, segment_name
from callgate.errors import AuditError
from callgate.text import visible


@dataclass(frozen=True, slots=True)
class ChainReport:
    """One log. `torn_bytes` follow the last whole record; `in_use`: its process is running.

    `removed` is the signed statement about the records that retention removed, `unfinished` the number of files that
    it covers and that are still here.
    """

    chain: str
    found: Findings
    segments: int
    torn_bytes: int
    in_use: bool
    sealed: bool = False
    removed: Record | None = None
    unfinished: int = 0

    @property
    def verified(self) -> bool:
        return not self.found.problems


@dataclass(frozen=True, slots=True)
class Report:
    """All logs and the index.

    `missing` are logs that the index announces and that are not here; `removed` the statements about those that
    retention removed as a whole; `compacted` the one that stands for the oldest of these. `tears` are lines of the
    index that a loss of power left: no damage, but what they said is not known.
    """

    logs: list[ChainReport]
    missing: list[str] = field(default_factory=list)
    index_problems: list[Problem] = field(default_factory=list)
    removed: list[Record] = field(default_factory=list)
    tears: list[Tear] = field(default_factory=list)
    compacted: Record | None = None

    @property
    def verified(self) -> bool:
        return not self.missing and not self.index_problems and all(log.verified for log in self.logs)


def verify(state_dir: Path, *, chain: str = "", public_key: Path | None = None) -> Report:
    """Check the log `chain`, or all of them. Raises AuditError when a key or file cannot be read."""
    audit_dir = state_dir / "audit"
    verify_signature = signature_verifier(state_dir, public_key)
    with reading(audit_dir) as undisturbed:
        report = _report(audit_dir, chain, verify_signature)
    if undisturbed or report.verified:
        return report
    with reading(audit_dir) as undisturbed:  # what is missing may have been removed in good order meanwhile
        return _report(audit_dir, chain, verify_signature) if undisturbed else report


def _report(audit_dir: Path, chain: str, verify_signature: VerifySignature) -> Report:
    here = chains(audit_dir)  # before the index, where a log is announced before its first record
    listing = check(index.lines(audit_dir), verify_signature)
    wanted = [chain] if chain else here
    logs: list[ChainReport] = []
    for name in wanted:
        if name not in here:
            continue
        log = check_log(audit_dir / name, listing.entries.get(name), verify_signature)
        if name not in listing.entries:
            # Its process was just starting. It is announced before its first record: whoever saw one looks again.
            listing = check(index.lines(audit_dir), verify_signature)
            log = check_log(audit_dir / name, listing.entries.get(name), verify_signature)
        logs.append(log)
    if chain and chain not in here and chain not in listing.entries:
        raise AuditError(
            f"there is no log {visible(chain, 100)!r}", next_step="callgate audit verify lists the logs that are here"
        )
    listed = wanted if chain else listing.entries
    away = [name for name in listed if name not in here and not (audit_dir / name).is_dir()]
    gone = _gone(listing, away)
    missing = [name for name in away if name not in gone]
    return Report(logs, missing, listing.problems, list(gone.values()), listing.tears, listing.compacted)


def _gone(listing: Listing, away: list[str]) -> dict[str, Record]:
    """Of the logs that are not here those that retention removed, with the statement."""
    known = ((name, listing.entries.get(name)) for name in away)
    return {name: entry.removed for name, entry in known if entry and entry.gone and entry.removed}


def check_log(directory: Path, entry: Entry | None, verify_signature: VerifySignature) -> ChainReport:
    """Check one log against its entry in the index (None: it has none)."""
    live = in_use(directory)
    walk = Walk(directory, entry, verify_signature)
    for _ in walk:
        pass
    found = walk.finish()
    numbers = [int(path.stem) for path in segment_paths(directory)]
    removed = entry.removed if entry else None
    left = sum(number <= removed["segment"] for number in numbers) if removed else 0
    sealed = entry is not None and entry.seal is not None
    return ChainReport(directory.name, found, len(numbers), 0 if live else walk.torn, live, sealed, removed, left)


class Walk:
    """One log, checked record by record: iterating gives the place (segment, position) after each.

    `torn` are the bytes after the last whole record. Where records were removed, what is left of them (a removal that
    was cut short) must lead to the digest in the statement, and what follows must start from it.
    """

    def __init__(self, directory: Path, entry: Entry | None, verify_signature: VerifySignature) -> None:
        self.torn = 0
        self._directory = directory
        self._live = in_use(directory)  # before it is read: one that is closed meanwhile is found closed
        self._chain = directory.name
        self._entry = entry
        self._verify_signature = verify_signature
        self._unreadable = ""
        self.checker = ChainChecker(directory.name, entry.opened if entry else GENESIS, verify_signature)

    def __iter__(self) -> Iterator[Place]:
        held: tuple[bytes, Place] | None = None
        first = True
        for line, place in self._lines():
            if first:
                self._start(line)
                first = False
            if held is not None:
                yield self._feed(*held)
            held = line, place
        if first:
            self._start(b"")
        if held is not None:
            if held[0].endswith(b"\n") and b"\0" not in held[0]:
                yield self._feed(*held)
            else:
                self.torn = len(held[0])

    def _lines(self) -> Iterator[tuple[bytes, Place]]:
        try:
            yield from read_lines(self._directory)
        except OSError as error:
            self._unreadable = f"{visible(Path(str(error.filename)).name, 100)} cannot be read: {error.strerror}"

    def _start(self, line: bytes) -> None:
        """Begin after what was removed, or within it where files are left that should be gone."""
        removed = self._entry.removed if self._entry else None
        if removed is None:
            return
        start, prev = removed["through"] + 1, removed["digest"]
        record = parse(line) or {}
        seq = record.get("seq")
        if type(seq) is int and 1 < seq < start:
            start, prev = seq, str(record.get("prev"))
        elif seq == 1 and self._entry is not None:
            start, prev = 1, self._entry.opened
        self.checker = ChainChecker(self._chain, prev, self._verify_signature, start=start)

    def _feed(self, line: bytes, place: Place) -> Place:
        checker = self.checker
        checker.feed(line)
        removed = self._entry.removed if self._entry else None
        if removed and checker.found.last_seq == removed["through"] and checker.digest != removed["digest"]:
            what = f"record {removed['through']} is not the one that the statement about its removal names"
            checker.problem("removed-changed", removed["through"], what)
        return place

    def finish(self) -> Findings:
        """After the last line: compare with what the index says of the end."""
        entry = self._entry
        found = self.checker.finish(*(entry.end if entry and entry.end else (0, "")))
        if self._unreadable:
            self.checker.problem("unreadable", found.last_seq, self._unreadable)
        if entry is None:
            return found
        if not (self._live or found.closed or entry.gone or found.problems):
            self._end()
        if entry.removed and not entry.gone and found.last_seq <= entry.through:
            what = f"the records after {entry.through}, which retention kept, are missing"
            self.checker.problem("truncated", entry.through + 1, what)
        if entry.seal and not found.problems:
            found.signed_through = max(found.signed_through, entry.seal["covers"])
            found.keys.add(entry.seal["key"])
        return found

    def _end(self) -> None:
        """A log that nobody closed has its `tail`, which says how far the segments go."""
        seq = self.checker.found.last_seq
        try:
            tail = read(self._directory / TAIL_NAME, TAIL_BYTES + 1)
        except OSError:
            tail = b""
        segment, position = place_of(tail)
        if not segment:
            what = f"the records after {seq} are missing: the log was not closed, and its file tail is gone or damaged"
            self.checker.problem("truncated", seq + 1, what)
        elif size_of(self._directory / segment_name(segment)) < position:
            what = f"the records after {seq} are missing: {segment_name(segment)} is shorter than its file tail says"
            self.checker.problem("truncated", seq + 1, what)


def signature_verifier(state_dir: Path, public_key: Path | None = None) -> VerifySignature:
    """Verification by key id with the keys of this installation, or with `public_key` alone. Raises AuditError."""
    from cryptography.exceptions import InvalidSignature

    keys = public_keys(state_dir, public_key)

    def verify_signature(key_id: str, message: bytes, signature: bytes) -> bool | None:
        if key_id not in keys and public_key is None:
            keys.update(public_keys(state_dir))  # the first one may have been made just now
        key = keys.get(key_id)
        if key is None:
            return None
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify_signature
