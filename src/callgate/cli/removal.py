"""What a running gate says when retention removed old evidence, or could not."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from callgate.text import visible


def say(fields: Mapping[str, object]) -> None:
    """Lines on stderr for the fields of an `evidence-removed` note."""
    lines = []
    if fields.get("records"):
        what = f"{fields['records']} records, {fields['bytes']} bytes of {fields['logs']} logs"
        lines.append(f"old evidence removed ({fields['reason']}): {what}; see callgate audit verify")
    kept = fields.get("kept")
    for chain, why in kept.items() if isinstance(kept, Mapping) else ():
        lines.append(f"old evidence was not removed: log {chain}: {why}")
    if fields.get("failed"):
        lines.append(f"old evidence was not removed: {fields['failed']}")
    sys.stderr.write("".join(f"callgate: {visible(line, 300)}\n" for line in lines))
