"""Which other controls withhold a definition: approving what changed in it does not bring it back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from callgate.detect import escapes, hidden

_FINDERS: Final = (("hidden-characters", hidden.find), ("terminal-escapes", escapes.find))
_WITHHELD: Final = frozenset({"tool", "prompt", "resource", "template"})
"""Identity and instructions are not withheld: what is found in them is shown escaped."""


def held_by(kind: str, body: Any) -> list[str]:
    """The controls that find something in `body` that they take out of a list, while they enforce."""
    if kind not in _WITHHELD:
        return []
    texts = list(_texts(body))
    return [control for control, find in _FINDERS if any(find(text, True, 1) for text in texts)]


def _texts(body: Any) -> Iterator[str]:
    """Every string of a definition, member names too, that is not plain ASCII without controls."""
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and not (value.isascii() and value.isprintable()):
            yield value
