"""`callgate audit prune`: remove old evidence by hand, and leave evidence of that."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from callgate.audit.retention import Removal, Result, Wanted, configured, prune
from callgate.cli.audit_text import utc
from callgate.config import AuditConfig
from callgate.text import visible


def prune_evidence(state: Path, config: AuditConfig, *, before: int | None, dry_run: bool) -> int:
    """Remove what is older than `before` (microseconds since 1970), or with None what `config` wants.

    0 when all of that is gone, 1 when something had to stay. Raises AuditError.
    """
    now = time.time_ns() // 1000
    by_hand = f"by hand by user {os.getuid()}"
    if before is not None:
        wanted = Wanted(before, reason=f"{by_hand}, before {utc(before)}")
    elif (wanted := configured(config, now)).reason:
        wanted = Wanted(wanted.before, wanted.keep_bytes, wanted.spare, f"{by_hand}, {wanted.reason}")
    result = prune(state, wanted, dry_run=True)
    if result.removals and not dry_run:
        result = _recorded(state, config, wanted)
    sys.stdout.write("\n".join(_lines(result, dry_run=dry_run)) + "\n")
    return 1 if result.kept else 0


def _recorded(state: Path, config: AuditConfig, wanted: Wanted) -> Result:
    """The removal, each part noted in a log of this process before it goes."""
    from callgate.audit import open_journal

    journal = open_journal(state, config, process="audit prune")
    try:
        return prune(state, wanted, note=lambda one: journal.note("evidence-removed", _fields(one, wanted.reason)))
    finally:
        journal.close()


def _fields(removal: Removal, reason: str) -> dict[str, object]:
    return {
        "log": removal.chain,
        "first": removal.first,
        "through": removal.through,
        "digest": removal.digest,
        "bytes": removal.bytes,
        "whole": removal.whole,
        "reason": reason,
    }


def _lines(result: Result, *, dry_run: bool) -> list[str]:
    lines = []
    for one in result.removals:
        what = "the whole log" if one.whole else "and the log goes on"
        records = f"records {one.first} to {one.through}" if one.through else "no record"
        newest = f", the newest of {utc(one.newest)}" if one.newest else ""
        lines.append(f"{visible(one.chain, 100)}  {records}, {what}")
        lines.append(f"  {one.bytes} bytes{newest}")
    lines += [f"{visible(chain, 100)}  STAYS: {why}" for chain, why in result.kept]
    done = "would be removed" if dry_run else "removed"
    lines.append(f"{result.records} records, {result.bytes} bytes {done}; {result.left_bytes} bytes stay")
    if result.list_lines:
        lines.append(f"{result.list_lines} lines of chains.jsonl about removed logs dropped, with a signed statement")
    if result.removals and not dry_run:
        lines.append("callgate audit verify shows the signed statements")
    return lines
