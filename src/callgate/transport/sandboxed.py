"""What a running sandbox tells: into the evidence, and what the user should know, once, onto stderr."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from callgate.errors import AuditError
from callgate.text import visible

if TYPE_CHECKING:
    from callgate.audit import Journal
    from callgate.sandbox.backend import Running

_MOST_SAID = 32
"""Different lines said about one server; evidence has them all."""


class WatchedSandbox:
    """The events of one running sandbox. `fd` is readable when `read` has something to do; -1: never."""

    __slots__ = ("_journal", "_name", "_running", "_said", "_say", "fd")

    def __init__(self, running: Running, journal: Journal, name: str, say: Callable[[str], None]) -> None:
        self._running = running
        self._journal = journal
        self._name = name
        self._say = say
        self._said: set[str] = set()
        self.fd = running.events_fd

    def read(self) -> bool:
        """Record what happened. False: nothing will happen any more."""
        events = self._running.read_events()
        for event in events:
            try:
                self._journal.note("sandbox", {**event, "server": self._name})
            except AuditError as error:
                self._say(error.what)  # what was refused stays refused; the next decision of the gate fails closed
            self._tell(event)
        return bool(events)

    def _tell(self, event: dict[str, object]) -> None:
        kind = event.get("kind")
        if kind == "egress" and event.get("outcome") == "refused":
            text = _refused(event)
        elif kind == "limit":
            text = f"stopped by its sandbox: {visible(str(event.get('reason', 'a limit was reached')), 200)}"
        elif kind == "sentinel-misdirected":
            text = f"sent the stand-in of a secret to {visible(str(event.get('host', '')), 80)}, which must not have it"
        else:
            return
        if text not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(text)
            self._say(text)

    def close(self) -> None:
        """Let go, and take the last events: those of connections that were still open come only then."""
        self.last()
        self.let_go()
        self.last()
        self.fd = -1

    def last(self) -> None:
        """What there is to read at the end, before and after `let_go`. What the kernel ended may be told only then."""
        self.read()

    def let_go(self) -> None:
        """End what watched the server; may wait for it. Any thread, while nobody reads."""
        self._running.close()


def _refused(event: dict[str, object]) -> str:
    host = visible(str(event.get("host", "")), 80)
    port = event.get("port", 443)
    where = f"{host}:{port}" if port else host
    reason = visible(str(event.get("reason", "")), 120)
    if reason.startswith("the host's address is not public"):
        return f"a connection to {where} was refused ({reason}); see private networks in docs/egress.md"
    return f"a connection to {where} was refused ({reason}); to allow it, name it under network"
