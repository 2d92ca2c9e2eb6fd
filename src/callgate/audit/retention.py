"""Removing old evidence: whole segments, oldest first, and never without a trace.

What goes must be beyond doubt: a segment is removed only when its log verifies up to a signed checkpoint that covers
all of the segment. The log of a process that was killed has no such end; if all of it verifies, it is sealed
first (`audit/statements.py`). A log that does not verify, the segment in use and what is not signed yet stay, and the
result says so.

Order, so that a kill at any moment leaves a log that verifies: seal, signed statement of the removal in `chains.jsonl`
(on disk), then the files, oldest first. The next time finishes what was cut short. At the end the list itself is
shortened, where it has become long (`audit/index_compact.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from callgate.audit import index
from callgate.audit.chain import VerifySignature
from callgate.audit.index_check import check
from callgate.audit.index_compact import compact
from callgate.audit.reader import in_use, segment_paths
from callgate.audit.retention_lock import removing
from callgate.audit.segments import Segment, segments_of, total_bytes
from callgate.audit.spool import TAIL_NAME
from callgate.audit.statements import PRUNED, SEALED, signed
from callgate.audit.verify import Walk, check_log, signature_verifier
from callgate.config import AuditConfig
from callgate.errors import AuditError

DAY_US: Final = 86_400_000_000
_BEGUN_S: Final = 3600
"""A log without a record that is older than this is of a process that was killed, not of one that begins."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What may go, in microseconds since 1970 and bytes; 0 means no such limit.

    `before`: what is older goes. `keep_bytes`: the oldest goes until no more is left, but nothing that is not older
    than `spare`. `reason` is put on record.
    """

    before: int = 0
    keep_bytes: int = 0
    spare: int = 0
    reason: str = ""

    def takes(self, segment: Segment, left: int) -> bool:
        """Whether `segment` goes while `left` bytes are there."""
        if self.before and segment.newest < self.before:
            return True
        return bool(self.keep_bytes and left > self.keep_bytes and segment.newest < self.spare)


def configured(config: AuditConfig, now_us: int) -> Wanted:
    """What the configuration wants removed at `now_us`."""
    rules = [f"{name}={getattr(config, name)}" for name in ("keep_days", "keep_bytes") if getattr(config, name)]
    return Wanted(
        before=now_us - config.keep_days * DAY_US if config.keep_days else 0,
        keep_bytes=config.keep_bytes,
        spare=now_us - config.keep_at_least_days * DAY_US,
        reason=", ".join(rules),
    )


@dataclass(frozen=True, slots=True)
class Removal:
    """Segments of one log that go: those up to `segment`, that is, the records `first` to `through`.

    `digest` is of the line of record `through`, `newest` its time. `whole`: nothing of the log stays. `seal` is
    (last record, its digest, torn bytes) where the log must be sealed first.
    """

    chain: str
    segment: int
    first: int
    through: int
    digest: str
    newest: int
    bytes: int
    whole: bool
    seal: tuple[int, str, int] | None = None


@dataclass(slots=True)
class Result:
    """What was removed, or would be, and what had to stay although it should go: (log, why)."""

    removals: list[Removal] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)
    left_bytes: int = 0
    list_lines: int = 0
    """Lines about removed logs that the list of logs lost, with a signed statement."""

    @property
    def records(self) -> int:
        """How many records were removed."""
        return sum(one.through - one.first + 1 for one in self.removals)

    @property
    def bytes(self) -> int:
        """How many bytes were removed."""
        return sum(one.bytes for one in self.removals)


def prune(
    state_dir: Path, wanted: Wanted, *, dry_run: bool = False, note: Callable[[Removal], object] | None = None
) -> Result:
    """Remove what `wanted` says, or with `dry_run` only say what would go. `note` is told of each before it goes.

    Raises AuditError when the list of logs does not verify, another process is at it, or there is no usable key.
    """
    audit_dir = state_dir / "audit"
    if not audit_dir.is_dir():
        return Result()
    try:
        with removing(audit_dir):
            return _Pruning(state_dir, wanted, dry_run, note).run()
    except OSError as error:
        raise AuditError(
            f"old evidence cannot be removed: {error.strerror}", next_step="see the rights of the state directory"
        ) from error


class _Pruning:
    """One run, under the lock."""

    def __init__(
        self, state_dir: Path, wanted: Wanted, dry_run: bool, note: Callable[[Removal], object] | None
    ) -> None:
        self._state_dir = state_dir
        self._audit_dir = state_dir / "audit"
        self._wanted = wanted
        self._dry_run = dry_run
        self._note = note
        self._verify: VerifySignature = signature_verifier(state_dir)
        listing = check(index.lines(self._audit_dir), self._verify)
        self._entries = listing.entries
        if listing.problems:
            raise AuditError(
                f"the list of logs does not verify ({listing.problems[0].what}), so nothing is removed",
                next_step="see callgate audit verify",
            )

    def run(self) -> Result:
        result = Result()
        if not self._dry_run:
            self._finish(result)
        planned = self._plan(result)
        for removal in planned:
            if not self._dry_run:
                self._remove(removal)
            result.removals.append(removal)
        if not self._dry_run:
            result.list_lines = compact(self._state_dir, self._verify)
        result.left_bytes = total_bytes(self._audit_dir) - (result.bytes if self._dry_run else 0)
        return result

    # -- what goes -------------------------------------------------------------------------------

    def _plan(self, result: Result) -> list[Removal]:
        """What can go, asked again while logs turn out to hold something back."""
        barred: dict[str, int] = {}  # log → first segment that has to stay
        checked: dict[tuple[str, int], tuple[Removal | None, str]] = {}
        segments = [one for name in self._entries for one in segments_of(self._audit_dir / name)]
        segments.sort()
        while True:
            chosen = self._choose(segments, barred)
            removals: list[Removal] = []
            again = False
            for chain, last in chosen.items():
                if (chain, last.number) not in checked:
                    own = [one for one in segments if one.chain == chain and one.number <= last.number]
                    checked[chain, last.number] = self._check(own)
                removal, why = checked[chain, last.number]
                if why:
                    result.kept.append((chain, why))
                    barred[chain] = removal.segment + 1 if removal else 0
                    again = True
                if removal:
                    removals.append(removal)
            if not again:
                return removals

    def _choose(self, segments: list[Segment], barred: dict[str, int]) -> dict[str, Segment]:
        """For each log the last segment that goes: oldest first, and of each log none before those ahead of it."""
        left = total_bytes(self._audit_dir)
        chosen: dict[str, Segment] = {}
        stopped = set()
        for segment in segments:
            chain = segment.chain
            if chain in stopped:
                continue
            if segment.held or segment.number >= barred.get(chain, segment.number + 1):
                stopped.add(chain)
            elif self._wanted.takes(segment, left):
                chosen[chain] = segment
                left -= segment.bytes
            else:
                stopped.add(chain)
        return chosen

    def _check(self, segments: list[Segment]) -> tuple[Removal | None, str]:
        """What of these segments of one log can go, and why the rest has to stay ('' when there is none)."""
        last = segments[-1]
        directory = self._audit_dir / last.chain
        entry = self._entries[last.chain]
        walk = Walk(directory, entry, self._verify)
        found = walk.checker.found
        first = 0
        ends: dict[int, tuple[int, str, int]] = {}  # segment → its last record's number, digest and time
        complete = True
        for number, _ in walk:
            found = walk.checker.found
            first = first or found.last_seq
            if number > last.number and found.signed_through >= ends.get(last.number, (0,))[0]:
                complete = False
                break
            ends[number] = (found.last_seq, walk.checker.digest, found.last_time)
        if complete:
            found = walk.finish()
        if found.problems:
            return None, "it does not verify: see callgate audit verify"
        live = in_use(directory)
        if complete and not found.last_seq and not entry.through:
            return (None if live else self._empty(directory, last, walk.checker.digest)), ""
        seal = None
        signed_through = found.signed_through
        if complete and not live:
            if entry.end is None or signed_through < found.last_seq - 1:
                seal = (found.last_seq, walk.checker.digest, walk.torn)
            signed_through = found.last_seq
        covered = [one for one in segments if ends.get(one.number, (0, "", 0))[0] <= signed_through]
        why = "" if covered == segments else "what is newer is not signed yet"
        if not covered:
            return None, why
        end = covered[-1]
        through, digest, newest = next(
            (ends[number] for number in range(end.number, 0, -1) if number in ends), (entry.through, "", 0)
        )
        if through <= entry.through:
            return None, "it holds no whole record"
        whole = complete and not live and end.final
        size = sum(one.bytes for one in covered)
        return Removal(last.chain, end.number, first, through, digest, newest, size, whole, seal), why

    @staticmethod
    def _empty(directory: Path, last: Segment, digest: str) -> Removal | None:
        """The log of a process that was killed before its first record: it holds nothing but its place on the disk."""
        if time.time() - directory.stat().st_mtime < _BEGUN_S:
            return None
        return Removal(last.chain, last.number, 1, 0, digest, 0, last.bytes, whole=True)

    # -- removing --------------------------------------------------------------------------------

    def _remove(self, removal: Removal) -> None:
        now = time.time_ns() // 1000
        if removal.seal:
            seq, digest, torn = removal.seal
            sealed = {"chain": removal.chain, "covers": seq, "digest": digest, "kind": SEALED, "time": now}
            index.append(self._audit_dir, signed(self._state_dir, {**sealed, "torn": torn}))
        statement = {
            "bytes": removal.bytes,
            "chain": removal.chain,
            "digest": removal.digest,
            "first_kept": 0 if removal.whole else removal.through + 1,
            "kind": PRUNED,
            "reason": self._wanted.reason,
            "removed": removal.through - removal.first + 1,
            "segment": removal.segment,
            "through": removal.through,
            "time": now,
        }
        statement = signed(self._state_dir, statement)
        if self._note is not None:
            self._note(removal)
        index.append(self._audit_dir, statement)
        _unlink(self._audit_dir / removal.chain, removal.segment, whole=removal.whole)

    def _finish(self, result: Result) -> None:
        """What an earlier run was killed in the middle of."""
        for name, entry in self._entries.items():
            directory = self._audit_dir / name
            if entry.removed is None or not directory.is_dir():
                continue
            segment = entry.removed["segment"]
            if not entry.gone and not any(int(path.stem) <= segment for path in segment_paths(directory)):
                continue
            if check_log(directory, entry, self._verify).verified:
                _unlink(directory, segment, whole=entry.gone)
            else:
                result.kept.append((name, "it does not verify: see callgate audit verify"))


def _unlink(directory: Path, segment: int, *, whole: bool) -> None:
    """Remove the segments up to `segment`, oldest first; with `whole` all that callgate put there."""
    for path in segment_paths(directory):
        if int(path.stem) <= segment:
            path.unlink(missing_ok=True)
    if whole:
        (directory / TAIL_NAME).unlink(missing_ok=True)
        try:
            directory.rmdir()
        except OSError:
            pass  # something of somebody else's lies there, and stays
