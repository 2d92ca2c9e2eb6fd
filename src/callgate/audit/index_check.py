"""What the list of all logs says of each, and whether the list itself can be believed."""

from __future__ import annotations

from dataclasses import dataclass

from callgate.audit.chain import Problem, VerifySignature
from callgate.audit.records import GENESIS, Record, digest_of, parse
from callgate.audit.statements import PRUNED, SEALED, is_signed


@dataclass(slots=True)
class Entry:
    """What the list says of one log. `opened` is the digest of its first line there.

    `end` is (number, digest) of the last record, where the log was closed or sealed. `seal` and `removed` are the
    statements, believed only with a valid signature.
    """

    opened: str
    end: tuple[int, str] | None = None
    seal: Record | None = None
    removed: Record | None = None

    @property
    def through(self) -> int:
        """The last record that retention removed; 0: none."""
        return int(self.removed["through"]) if self.removed else 0

    @property
    def gone(self) -> bool:
        """Whether retention removed the log as a whole."""
        return self.removed is not None and self.removed["first_kept"] == 0


def check(listed: list[bytes], verify_signature: VerifySignature) -> tuple[dict[str, Entry], list[Problem]]:
    """The entries by log, and what is wrong with the list: its own chain, and statements that cannot be believed."""
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    prev = GENESIS
    for number, line in enumerate(listed, 1):
        entry = parse(line) if line.endswith(b"\n") else None
        if entry is None or type(entry.get("chain")) is not str:
            problems.append(Problem("index-malformed", number, f"line {number} of chains.jsonl is no entry"))
            continue
        if entry.get("prev") != prev:
            what = f"line {number} of chains.jsonl does not follow the line before: one was changed or removed"
            problems.append(Problem("index-changed", number, what))
        prev = digest_of(line)
        chain, kind = entry["chain"], entry.get("kind")
        if kind == "opened":
            entries[chain] = Entry(prev)
        elif chain in entries:
            problem = _told(entries[chain], kind, entry, verify_signature)
            if problem:
                problems.append(Problem("statement", number, f"line {number} of chains.jsonl {problem}"))
    return entries, problems


def _told(known: Entry, kind: object, line: Record, verify_signature: VerifySignature) -> str:
    """Take a later line about a log into its entry; what is wrong with it."""
    if kind == "closed":
        if type(line.get("seq")) is int:
            known.end = (line["seq"], str(line.get("digest")))
    elif kind in (SEALED, PRUNED):
        if not is_signed(line, verify_signature):
            return f"states that a log was {kind}, without a valid signature of a known key"
        if kind == SEALED:
            end = line["covers"], line["digest"]
            if known.end not in (None, end):
                return "seals a log that had another end"
            known.seal, known.end = line, end
        elif line["through"] < known.through:
            return "removes records that were removed before"
        else:
            known.removed = line
    return ""
