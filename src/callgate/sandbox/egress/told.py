"""An event as callgate takes it from the gate's process, which reads hostile bytes: not everything is believed."""

from __future__ import annotations

import jiter

from callgate.text import visible

EVENT_BYTES = 16 * 1024
"""One event, as a line."""
_MEMBERS, _ITEMS = 24, 32
_TEXT, _ITEM, _NAME = 300, 100, 40


def event_of(line: bytes) -> dict[str, object]:
    """A small, flat, printable event; what is none is told as that."""
    try:
        found = jiter.from_json(line) if len(line) <= EVENT_BYTES else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        return {"kind": "egress-gate", "outcome": "failed", "reason": "an event could not be read"}
    event: dict[str, object] = {}
    for key, value in list(found.items())[:_MEMBERS]:
        if isinstance(value, str):
            event[visible(key, _NAME)] = visible(value, _TEXT)
        elif isinstance(value, int):
            event[visible(key, _NAME)] = value
        elif isinstance(value, list):
            event[visible(key, _NAME)] = [visible(str(one), _ITEM) for one in value[:_ITEMS]]
    return event
