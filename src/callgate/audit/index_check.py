"""What the list of all logs says of each, and whether the list itself can be believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from callgate.audit.chain import Problem, VerifySignature
from callgate.audit.index import TORN, entry_digest, entry_of
from callgate.audit.records import GENESIS, Record, digest_of, parse
from callgate.audit.statements import COMPACTED, PRUNED, SEALED, is_signed


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


@dataclass(frozen=True, slots=True)
class Tear:
    """Bytes of a line that was not written whole, from `line` on. `about` is the log that it named, as far as it came.

    `stated` is the time of the line that says so, 0 where it is the end of the list, or was left by an older callgate.
    """

    line: int
    bytes: int
    about: str = ""
    stated: int = 0


@dataclass(slots=True)
class Listing:
    """The entries by log, what is wrong with the list, its tears, and the statement that stands for its start."""

    entries: dict[str, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    tears: list[Tear] = field(default_factory=list)
    compacted: Record | None = None


def check(listed: list[bytes], verify_signature: VerifySignature) -> Listing:
    """Check the list: its own chain, and statements that cannot be believed.

    Damage is told from a tear by the chain: the line after a tear was written later, and is chained to the line before
    it. The line after one that was changed is chained to what that one was.
    """
    checker = _Checker(listed, verify_signature)
    checker.run()
    return checker.found


class _Checker:
    def __init__(self, listed: list[bytes], verify_signature: VerifySignature) -> None:
        self.found = Listing()
        self._listed = listed
        self._verify = verify_signature
        self._prev = GENESIS
        self._broken: list[int] = []
        """Indices of the lines just before that hold no entry."""

    def run(self) -> None:
        for at in range(self._start(), len(self._listed)):
            line = self._listed[at]
            entry = entry_of(line)
            if entry is None:
                if parse(line) is None:
                    self._broken.append(at)
                else:  # written whole, by somebody else
                    self._problem("index-malformed", at, "is no entry")
                continue
            follows = entry.get("prev") == self._prev
            self._settle(entry, at, follows=follows)
            if not follows:
                self._problem("index-changed", at, "does not follow the line before: one was changed or removed")
            self._prev = entry_digest(line)
            self._entry(entry, at)
        if self._broken:
            self._tear({})

    def _problem(self, code: str, at: int, what: str) -> None:
        self.found.problems.append(Problem(code, at + 1, f"line {at + 1} of chains.jsonl {what}"))

    def _start(self) -> int:
        """Take the statement that stands for older lines, and those it carries; where the chain goes on."""
        first = entry_of(self._listed[0]) if self._listed else None
        if first is None or first.get("kind") != COMPACTED:
            return 0
        carried = self._listed[1 : 1 + first["carried"]] if type(first.get("carried")) is int else []
        digest = sha256(b"".join(carried)).hexdigest()
        if not is_signed(first, self._verify):
            self._problem(
                "statement", 0, "states that older lines were dropped, without a valid signature of a known key"
            )
        elif len(carried) != first["carried"] or digest != first.get("carried_digest"):
            self._problem("index-changed", 0, "carries lines that are not those it was signed for")
        self.found.compacted = first
        self._prev = str(first.get("digest"))
        for at, line in enumerate(carried, 1):
            entry = entry_of(line)
            if entry is not None:
                self._entry(entry, at, digest_of(line))
        return 1 + len(carried)

    def _settle(self, entry: Record, at: int, *, follows: bool) -> None:
        """What the lines without an entry before this one are."""
        stated = entry.get("kind") == TORN
        if not self._broken:
            if stated:
                self._problem("index-changed", at, "states torn bytes before it that are not there")
        elif not follows:
            for broken in self._broken:
                self._problem("index-malformed", broken, "is no entry")
        else:
            bytes_ = b"".join(self._listed[one] for one in self._broken)
            if stated and entry.get("sha256") not in (sha256(bytes_).hexdigest(), sha256(bytes_[:-1]).hexdigest()):
                self._problem("index-changed", at, "states other torn bytes than those before it")
            self._tear(entry if stated else {})
        self._broken.clear()

    def _tear(self, stated: Record) -> None:
        bytes_ = b"".join(self._listed[one] for one in self._broken)
        count, when = stated.get("bytes"), stated.get("time")
        size = count if type(count) is int else len(bytes_)  # without the newline that was put behind it
        tear = Tear(self._broken[0] + 1, size, _about(bytes_), when if type(when) is int else 0)
        self.found.tears.append(tear)

    def _entry(self, entry: Record, at: int, digest: str = "") -> None:
        chain, kind = entry["chain"], entry.get("kind")
        known = self.found.entries
        if kind == "opened":
            if chain in known:
                self._problem("index-changed", at, "opens a log that was opened before")
            known.setdefault(chain, Entry(digest or self._prev))
        elif kind == COMPACTED and not digest and at:
            self._problem("index-changed", at, "states that older lines were dropped, and is not the first")
        if kind == PRUNED and chain not in known and self.found.compacted is not None and entry.get("first_kept") == 0:
            known[chain] = Entry("")  # its other lines were dropped
        if chain in known:
            problem = _told(known[chain], kind, entry, self._verify)
            if problem:
                self._problem("statement", at, problem)


def _about(torn: bytes) -> str:
    """The log that a torn line names, or ''. It came from a file that may be damaged: to be shown with care."""
    _, found, rest = torn.partition(b'"chain":"')
    name, ended, _ = rest.partition(b'"')
    return name.decode("ascii", "replace")[:100] if found and ended else ""


def _told(known: Entry, kind: object, line: Record, verify_signature: VerifySignature) -> str:
    """Take a later line about a log into its entry; what is wrong with it."""
    if kind == "closed":
        end = line.get("seq"), line.get("digest")
        if type(end[0]) is not int or end[0] < 1 or known.end not in (None, end):
            return "closes a log that had another end, or at no record"
        known.end = end[0], str(end[1])
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
