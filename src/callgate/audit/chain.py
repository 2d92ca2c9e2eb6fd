"""The rules of a hash-chained log, without any I/O. In the order in which they are checked:

1. A line ends in a newline, holds no NUL, is one JSON object, and is canonical (sorted keys, compact, UTF-8).
2. `chain` is the log's id: a record of another log does not belong here.
3. `seq` is 1 in the first record and one more in each that follows, across segments.
4. `prev` is the SHA-256 of the line before; in the first record, of the `opened` line of the index.
5. The first record is `open`, no other is; nothing follows `close`.
6. `about` is 0 or the `seq` of an earlier record.
7. A checkpoint covers an earlier record, carries that line's digest, and its signature verifies.
8. Where the index says that the log was closed, its last record is the one the index names.

A log whose oldest segments retention removed starts later: where a signed statement says so, and so that the
record after the last removed one is chained to it (`audit/statements.py`).

What no rule can see: records after the last signed checkpoint of a log that is not closed, rewritten with new
digests by someone who can write the files, and all records from one of it on, cut off. See docs/evidence.md.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from callgate.audit.records import COVER_WINDOW, Record, canonical, checkpoint_message, digest_of, parse

PROBLEMS: Final = 50
"""Problems kept for one log; the rest is counted."""

VerifySignature: TypeAlias = Callable[[str, bytes, bytes], bool | None]
"""(key id, message, signature) -> whether it verifies; None when the key is not known."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule. `code` is stable; `seq` is the record concerned, 0 for the log as a whole."""

    code: str
    seq: int
    what: str


@dataclass(slots=True)
class Findings:
    """What the lines of one log say of themselves."""

    records: int = 0
    last_seq: int = 0
    first_time: int = 0
    last_time: int = 0
    closed: bool = False
    lost: int = 0
    """Decisions that were made but could not be recorded, as the log itself notes."""
    signed_through: int = 0
    """The last record that a valid signature covers."""
    keys: set[str] = field(default_factory=set)
    checkpoints: int = 0
    unsigned_checkpoints: int = 0
    unanswered: set[int] = field(default_factory=set)
    """Requests that went on and have no answer in the log."""
    problems: list[Problem] = field(default_factory=list)
    more_problems: int = 0


class ChainChecker:
    """Takes the lines of one log in order and keeps `found`.

    `start` is the number of the first record, which must be chained to `first_prev`. Where it is not 1, those before
    were removed, and checkpoints for them alone are passed over.
    """

    def __init__(self, chain: str, first_prev: str, verify_signature: VerifySignature, *, start: int = 1) -> None:
        self.found = Findings(last_seq=start - 1)
        self._chain = chain
        self._prev = first_prev
        self._verify_signature = verify_signature
        self._start = start
        self._expected = start
        self._digests: dict[int, str] = {start - 1: first_prev} if start > 1 else {}
        self._bad_line = -1

    @property
    def digest(self) -> str:
        """Of the last line."""
        return self._prev

    def feed(self, line: bytes) -> None:
        """Check the next line, newline included."""
        record = self._parse(line)
        if record is None:
            self._bad_line = self._expected
            self._step(self._expected, line)
            return
        seq = record["seq"]
        if record.get("chain") != self._chain:
            self.problem("foreign-record", seq, f"record {seq} belongs to log {str(record.get('chain'))[:64]!r}")
        self._order(seq, record)
        self._place(seq, record)
        self._meaning(seq, record)
        self._step(seq, line)
        self.found.records += 1
        self.found.last_time = record["time"]
        self.found.first_time = self.found.first_time or record["time"]

    def finish(self, closed_seq: int = 0, closed_digest: str = "") -> Findings:
        """After the last line: compare with what the index says of the end, if it says anything."""
        if closed_seq and (self.found.last_seq, self._prev) != (closed_seq, closed_digest):
            if self.found.last_seq < closed_seq:
                what = f"the log was closed at record {closed_seq}, but ends at {self.found.last_seq}"
                self.problem("truncated", closed_seq, what)
            else:
                self.problem("end-changed", self.found.last_seq, "the last record is not the one the index names")
        return self.found

    def _parse(self, line: bytes) -> Record | None:
        expected = self._expected
        record = parse(line) if line.endswith(b"\n") and b"\0" not in line else None
        if record is None or type(record.get("seq")) is not int or type(record.get("time")) is not int:
            self.problem("malformed", expected, f"the line where record {expected} should be is no record")
            return None
        if canonical(record) != line:
            self.problem("not-canonical", record["seq"], f"record {record['seq']} is not in canonical form")
        return record

    def _order(self, seq: int, record: Record) -> None:
        expected = self._expected
        if seq > expected:
            gap = f"record {expected} is" if seq == expected + 1 else f"records {expected} to {seq - 1} are"
            self.problem("missing", expected, f"{gap} missing")
        elif seq < expected:
            self.problem("out-of-order", seq, f"record {seq} stands where record {expected} should be")
        elif record.get("prev") != self._prev and self._bad_line != seq - 1:
            if seq == 1:
                what = "the first record is not the one that the index announces"
                self.problem("not-announced", 1, what)
            else:
                what = f"record {seq - 1} is not what record {seq} was chained to: it was changed or replaced"
                self.problem("changed", seq - 1, what)

    def _place(self, seq: int, record: Record) -> None:
        if self.found.closed:
            self.problem("after-close", seq, f"record {seq} follows the closing record")
        if (record.get("kind") == "open") != (seq == 1):
            self.problem("bad-start", seq, "the log does not start with its opening record, or has a second one")
        about = record.get("about", 0)
        if type(about) is not int or not 0 <= about < seq:
            self.problem("bad-reference", seq, f"record {seq} refers to a record that is not before it")

    def _meaning(self, seq: int, record: Record) -> None:
        kind = record.get("kind")
        if kind == "decision":
            if record.get("rpc_id") is None:
                return
            if record.get("about"):
                self.found.unanswered.discard(record["about"])
            elif record.get("direction") == "client" and record.get("outcome") in ("allow", "annotate", "rewrite"):
                self.found.unanswered.add(seq)
        elif kind in ("checkpoint", "close"):
            self.found.closed = self.found.closed or kind == "close"
            if kind == "close" and type(record.get("lost")) is int:
                self.found.lost += record["lost"]
            self._checkpoint(seq, record)
        elif kind == "note" and record.get("what") == "records-lost":
            fields = record.get("fields")
            count = fields.get("count") if type(fields) is dict else None
            self.found.lost += count if type(count) is int else 0

    def _checkpoint(self, seq: int, record: Record) -> None:
        self.found.checkpoints += 1
        if not record.get("signature"):
            self.found.unsigned_checkpoints += 1
            return
        covers = record.get("covers")
        if type(covers) is int and 0 < covers < self._start - 1:
            return  # what it covers was removed, and the statement about that stands in for it
        if type(covers) is not int or self._digests.get(covers) != record.get("digest"):
            self.problem("checkpoint-mismatch", seq, f"checkpoint {seq} was signed for other records than these")
            return
        verdict = self._signature(record)
        if verdict is None:
            what = f"checkpoint {seq} is signed by key {str(record['key'])[:80]!r}, which is not known here"
            self.problem("unknown-key", seq, what)
        elif not verdict:
            self.problem("bad-signature", seq, f"the signature of checkpoint {seq} is not valid")
        else:
            self.found.keys.add(record["key"])
            if not self.found.problems:
                self.found.signed_through = covers

    def _signature(self, record: Record) -> bool | None:
        try:
            message, signature = checkpoint_message(record), b64decode(str(record["signature"]), validate=True)
        except (KeyError, ValueError):
            return False
        return self._verify_signature(str(record["key"]), message, signature)

    def _step(self, seq: int, line: bytes) -> None:
        self._prev = digest_of(line)
        self._digests[seq] = self._prev
        self._digests.pop(seq - COVER_WINDOW, None)
        self._expected = seq + 1
        self.found.last_seq = seq

    def problem(self, code: str, seq: int, what: str) -> None:
        if len(self.found.problems) < PROBLEMS:
            self.found.problems.append(Problem(code, seq, what))
        else:
            self.found.more_problems += 1
