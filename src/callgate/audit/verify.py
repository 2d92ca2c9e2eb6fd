"""Verification of the evidence log: of one log or of all, offline, with the public key only.

`verify` answers two questions apart: is what is here what was written (`problems`), and what is not here
and why (`torn_bytes`, no closing record, calls without an answer, records not yet signed).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callgate.audit import index
from callgate.audit.chain import ChainChecker, Findings, Problem, VerifySignature, check_index
from callgate.audit.keys import public_keys
from callgate.audit.reader import chains, in_use, read_lines, segment_paths
from callgate.audit.records import GENESIS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class ChainReport:
    """One log. `torn_bytes` follow the last whole record; `in_use`: its process is running."""

    chain: str
    found: Findings
    segments: int
    torn_bytes: int
    in_use: bool

    @property
    def verified(self) -> bool:
        return not self.found.problems


@dataclass(frozen=True, slots=True)
class Report:
    """All logs and the index. `missing` are logs that the index announces and that are not here."""

    logs: list[ChainReport]
    missing: list[str] = field(default_factory=list)
    index_problems: list[Problem] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        return not self.missing and not self.index_problems and all(log.verified for log in self.logs)


def verify(state_dir: Path, *, chain: str = "", public_key: Path | None = None) -> Report:
    """Check the log `chain`, or all of them. Raises AuditError when a key or file cannot be read."""
    audit_dir = state_dir / "audit"
    verify_signature = signature_verifier(public_keys(state_dir, public_key))
    entries, problems = check_index(index.lines(audit_dir))
    here = chains(audit_dir)
    wanted = [chain] if chain else here
    logs = [check_log(audit_dir / name, entries.get(name), verify_signature) for name in wanted if name in here]
    missing = [name for name in (wanted if chain else entries) if name not in here]
    return Report(logs, missing, problems)


def check_log(directory: Path, entry: dict[str, Any] | None, verify_signature: VerifySignature) -> ChainReport:
    """Check one log against its entry in the index (None: it has none)."""
    live = in_use(directory)
    checker = ChainChecker(directory.name, entry["opened"] if entry else GENESIS, verify_signature)
    torn = 0
    held = b""
    for line, _ in read_lines(directory):
        if held:
            checker.feed(held)
        held = line
    if held.endswith(b"\n") and b"\0" not in held:
        checker.feed(held)
    else:
        torn = len(held)
    closed_seq, closed_digest = (entry and entry["closed"]) or (0, "")
    found = checker.finish(closed_seq, closed_digest)
    return ChainReport(directory.name, found, len(segment_paths(directory)), 0 if live else torn, live)


def signature_verifier(keys: dict[str, Ed25519PublicKey]) -> VerifySignature:
    """Verification by key id with a fixed set of keys."""
    from cryptography.exceptions import InvalidSignature

    def verify_signature(key_id: str, message: bytes, signature: bytes) -> bool | None:
        key = keys.get(key_id)
        if key is None:
            return None
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify_signature
