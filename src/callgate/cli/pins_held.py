"""Which other controls withhold a definition: approving what changed in it does not bring it back."""

from __future__ import annotations

from typing import Any, Final

from callgate.config import Config, ControlConfig
from callgate.controls import hidden_characters, terminal_escapes
from callgate.gate.conversation import Conversation
from callgate.gate.events import Event
from callgate.gate.verdicts import Remove, Rewrite
from callgate.protocol.codec import Codec
from callgate.protocol.message import Direction
from callgate.trust.definitions import LISTS

_CONTROLS: Final = (hidden_characters, terminal_escapes)
_LISTED: Final = {kind: (method, member) for method, (kind, member, _) in LISTS.items()}
"""Identity and instructions are in no list, and not withheld: what is found in them is shown escaped."""


def held_by(kind: str, body: Any, config: Config) -> list[str]:
    """The controls that take `body` out of a list of its own, while they enforce, with the options they have."""
    if kind not in _LISTED:
        return []
    method, member = _LISTED[kind]
    result = {"jsonrpc": "2.0", "id": 1, "result": {member: [body]}}
    event = Event("catalog", Direction.SERVER, Codec(config.limits).encode(result), Conversation("", ""), method)
    held = []
    for control in _CONTROLS:
        name = control.META.id
        verdict = control.build(config.controls.get(name, ControlConfig()).options).catalog(event)
        if isinstance(verdict, Rewrite) and any(isinstance(edit, Remove) for edit in verdict.edits):
            held.append(name)
    return held
