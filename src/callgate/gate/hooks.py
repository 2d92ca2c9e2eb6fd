"""Which hook a message meets, by method. Methods not named here are ordinary calls and content."""

from __future__ import annotations

from callgate.gate.events import Hook
from callgate.protocol.methods import LIST_METHODS

CONNECT_METHODS = frozenset({"initialize", "server/discover"})
CATALOG_METHODS = CONNECT_METHODS | (LIST_METHODS.keys() - {"tasks/list", "roots/list"})
"""Requests whose answers say what a server is and offers."""


def answer_hook(method: str, input_required: bool) -> Hook:
    """The hook a server's answer to a request of `method` meets.

    What answers a catalogue request is a catalogue, whatever it calls itself: only calls, prompts and resources may
    ask for input, and a client that does not know `resultType` reads the list all the same.
    """
    if method in CATALOG_METHODS:
        return "catalog"
    return "server_request" if input_required else "content"
