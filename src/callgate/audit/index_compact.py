"""Keeping `chains.jsonl` short: what it says of logs that retention removed is replaced by one signed statement.

The list is a hash chain, and the first record of each log names its own line in it, so lines of logs that are here
must stay as they are. Only the start of the list goes: the statement (`kind: compacted`) becomes its first line. It has
the `digest` of the last line dropped, to which the next one is chained, and the digest of the lines it carries: those
`carried` lines stood before, are about logs that are not gone, and follow it byte for byte. `lines` and `logs` count
what was dropped, this time and before, and `torn` the bytes of lines that were not written whole.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Final

from callgate.audit.chain import VerifySignature
from callgate.audit.index import INDEX_NAME, entry_of, locked, split
from callgate.audit.index_check import Listing, check
from callgate.audit.records import canonical, digest_of
from callgate.audit.statements import COMPACTED, signed

COMPACT_BYTES: Final = 1 << 20
"""A list that is shorter stays whole."""
KEPT_BYTES: Final = COMPACT_BYTES // 4
"""Of its newest lines, whatever they are about."""
_NEW_NAME: Final = f"{INDEX_NAME}.new"


def compact(state_dir: Path, verify_signature: VerifySignature) -> int:
    """Drop what the list says of logs that are gone, where that is worth it; how many lines went.

    A list that does not verify stays as it is. A kill at any moment leaves the one list or the other. Raises OSError,
    and AuditError where there is no usable key.
    """
    audit_dir = state_dir / "audit"
    path = audit_dir / INDEX_NAME
    if not path.exists() or path.stat().st_size < COMPACT_BYTES:
        return 0
    descriptor = locked(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        listed = split(os.pread(descriptor, size, 0))
        found = check(listed, verify_signature)
        before = found.compacted or {}
        kept = 1 + before["carried"] if before else 0  # what stands before the chain itself
        cut = _cut(listed, kept)
        if found.problems or not cut:
            return 0
        carried, dropped, logs = _sorted(listed[:cut], found, audit_dir)
        if sum(map(len, [*carried, *listed[cut:]])) > size * 3 // 4:
            return 0
        last = next((digest_of(one) for one in reversed(listed[kept:cut]) if entry_of(one)), before.get("digest"))
        torn = sum(one.bytes for one in found.tears if one.line <= cut)
        statement = {
            "carried": len(carried),
            "carried_digest": sha256(b"".join(carried)).hexdigest(),
            "chain": "",
            "digest": last,
            "kind": COMPACTED,
            "lines": dropped + before.get("lines", 0),
            "logs": logs + before.get("logs", 0),
            "time": time.time_ns() // 1000,
            "torn": torn + before.get("torn", 0),
        }
        _replace(audit_dir, [canonical(signed(state_dir, statement)), *carried, *listed[cut:]])
        return dropped
    finally:
        os.close(descriptor)


def _cut(listed: list[bytes], least: int) -> int:
    """How many lines are not among the newest; what comes then is an entry. 0: there is nothing to cut."""
    left = 0
    at = len(listed)
    while at > least and left + len(listed[at - 1]) <= KEPT_BYTES:
        at -= 1
        left += len(listed[at])
    while at < len(listed) and entry_of(listed[at]) is None:
        at += 1
    return at if at < len(listed) else 0


def _sorted(older: list[bytes], found: Listing, audit_dir: Path) -> tuple[list[bytes], int, int]:
    """Of the older lines: those that stay, how many go, and of how many logs."""
    gone = {name for name, entry in found.entries.items() if entry.gone and not (audit_dir / name).exists()}
    carried: list[bytes] = []
    dropped = logs = 0
    for line in older[1:] if found.compacted is not None else older:  # without the statement of before
        entry = entry_of(line)
        if entry is not None and entry["chain"] and entry["chain"] not in gone:
            carried.append(line)
        else:
            dropped += 1
            logs += entry is not None and entry.get("kind") == "opened"
    return carried, dropped, logs


def _replace(audit_dir: Path, listed: list[bytes]) -> None:
    new = audit_dir / _NEW_NAME
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(b"".join(listed))
        file.flush()
        os.fsync(descriptor)
    os.replace(new, audit_dir / INDEX_NAME)
    directory = os.open(audit_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
