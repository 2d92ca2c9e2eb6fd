"""The secrets that servers of this process have now, by server: where the gate finds what to take out.

Controls are built from the configuration, long before a secret is resolved; whoever starts a server registers its
redactor here. A process-wide table, since secrets are those of the process; only redactors are in it.

Servers are started and leases renewed in threads, while the event loop reads: the table is never changed in place.
"""

from __future__ import annotations

from _thread import allocate_lock as Lock  # noqa: N812 - what threading calls it, without importing that at the start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from callgate.vault.redaction import Redactor, StreamRedactor

    class Memory(Protocol):
        """What can be emptied."""

        def clear(self) -> None: ...


_ACTIVE: dict[str, Redactor] = {}
_CHANGING = Lock()
"""Held from reading the table to putting the next one in its place: two changes at once would lose one."""
_CLEANED: list[Memory] = []
"""Memories of text that held no secret when it went in."""


def register(server: str, redactor: Redactor) -> None:
    """Take these secrets out of what `server` says, from now on, beside those registered before.

    Values that were exchanged meanwhile stay: a server may still know them. At most 256 a server, the newest.
    """
    global _ACTIVE
    if redactor:
        with _CHANGING:
            before = _ACTIVE.get(server)
            _ACTIVE = {**_ACTIVE, server: before | redactor if before is not None else redactor}
            for memory in _CLEANED:
                memory.clear()


def forget(server: str) -> None:
    """The server has ended and its secrets are given back."""
    global _ACTIVE
    with _CHANGING:
        _ACTIVE = {name: redactor for name, redactor in _ACTIVE.items() if name != server}


def of(server: str) -> Redactor | None:
    """The redactor for what `server` says, or None."""
    return _ACTIVE.get(server)


def stream(server: str) -> StreamRedactor:
    """A redactor for what `server` says in pieces, on stderr: to stand before anything that cuts or shows lines."""
    from callgate.vault.redaction import StreamRedactor

    return StreamRedactor(lambda: _ACTIVE.get(server))


def empties(*memories: Memory) -> None:
    """Empty these whenever a secret is added: what they remember was clean only of those before.

    Who remembers something puts it in first and cleans it then: a secret that is added at this moment is seen, or it
    empties.
    """
    _CLEANED.extend(memories)


def no_longer(*memories: Memory) -> None:
    """They are given up."""
    _CLEANED[:] = [one for one in _CLEANED if not any(one is memory for memory in memories)]


def any_secrets() -> bool:
    """Whether any server of this process has secrets."""
    return bool(_ACTIVE)


def clean(data: bytes) -> bytes:
    """Serialised JSON without any secret of this process: for evidence, notes and errors."""
    for redactor in _ACTIVE.values():
        data = redactor.redact_json(data) or data
    return data


def clean_text(text: str) -> str:
    """Text for a person or a log without any secret of this process."""
    for redactor in _ACTIVE.values():
        text = redactor.redact_text(text) or text
    return text
