"""What the gate remembers of one principal talking to one server, across channels.

Controls read it; only the engine writes it.
"""

from __future__ import annotations


class Conversation:
    """State of one (principal, server) pair in this process.

    `labels` are raised by controls through Annotate and never fall within the conversation.
    `mode` is the server's configured mode.
    """

    __slots__ = ("labels", "mode", "principal", "revision", "server", "session")

    def __init__(self, server: str, principal: str, mode: str = "enforce", session: str = "") -> None:
        self.server = server
        self.principal = principal
        self.mode = mode
        self.session = session
        self.revision = ""
        self.labels: frozenset[str] = frozenset()
