"""Pins as a hot path needs them: in memory, dropped when any process changed something.

`seen == generation.map[:]` is the whole price of being current. The database is opened when the first
answer has to be judged, in the process that judges: a connection does not survive `fork`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callgate.store.generation import Generation
from callgate.store.privacy import check_directory, check_file

if TYPE_CHECKING:
    from callgate.store.database import Store
    from callgate.store.pins import KindPins, PinStore

FILE_NAME: Final = "callgate.db"
WAIT_MS: Final = 250
"""How long a message waits for another process' transaction; then it is refused."""
_LISTED: Final = 10_000


class PinView:
    """A current view of the pins of one state directory."""

    __slots__ = ("_abandoned", "_bodies", "_kinds", "_pid", "_state_dir", "_store", "clear", "generation", "seen")

    def __init__(self, state_dir: Path) -> None:
        check_directory(state_dir)
        check_file(state_dir / FILE_NAME)
        self._state_dir = state_dir
        self.generation = Generation(state_dir)
        self.seen = b""
        """The generation all of this was read at."""
        self.clear: dict[tuple[str, str], frozenset[str]] = {}
        """(server, kind): names that are approved and that nobody saw otherwise: no more to ask."""
        self._kinds: dict[tuple[str, str], KindPins] = {}
        self._bodies: dict[tuple[str, str, str, str], Any] = {}
        self._store: Store | None = None
        self._abandoned: list[Store] = []
        self._pid = 0

    @property
    def current(self) -> bool:
        """Whether nothing changed since the view was read."""
        return self.generation.map[:] == self.seen

    def refresh(self) -> None:
        """Forget what was read; it is read again when asked for."""
        now = self.generation.map[:]
        self.clear.clear()
        self._kinds.clear()
        self._bodies.clear()
        self.seen = now  # last: a control that is interrupted before has forgotten, never remembered too much

    @property
    def pins(self) -> PinStore:
        """The database behind the view. Raises StoreError."""
        if self._store is None or self._pid != os.getpid():
            from callgate.store.database import Store

            if self._store is not None:
                self._abandoned.append(self._store)  # the parent's; closing it here could harm its WAL
            self._store = Store.open(self._state_dir, wait_ms=WAIT_MS)
            self._pid = os.getpid()
        return self._store.pins

    def kind(self, server: str, kind: str) -> KindPins:
        """The pins of one kind of one server."""
        if not self.current:
            self.refresh()
        pins = self._kinds.get((server, kind))
        if pins is None:
            if len(self._kinds) >= _LISTED:
                self.refresh()
            pins = self.pins.load(server, kind)
            self._kinds[server, kind] = pins
            self.clear[server, kind] = frozenset(pins.approved.keys() - pins.sightings.keys())
        return pins

    def body(self, server: str, kind: str, key: str, digest: str) -> Any:
        """One approved body; KeyError when it is not approved."""
        found = self._bodies.get((server, kind, key, digest))
        if found is None:
            for (name, sha), body in self.pins.bodies(server, kind, key).items():
                self._bodies[server, kind, name, sha] = body
            found = self._bodies[server, kind, key, digest]
        return found

    def close(self) -> None:
        """Close the database, if this process opened it, and the counter."""
        if self._store is not None and self._pid == os.getpid():
            self._store.close()
        self._store = None
        self.generation.close()
