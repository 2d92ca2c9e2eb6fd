"""Decisions about pins, which count when they are on record: evidence first, signed and on disk, then the store.

Both happen within one transaction of the store, so that nobody is let through by a decision that nobody can read of.
Where the store fails after the evidence was written, the evidence says that, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from callgate.config import AuditConfig
from callgate.errors import AuditError, CallgateError
from callgate.text import visible

if TYPE_CHECKING:
    from callgate.store.pins import Definition, PinStore

Note: TypeAlias = tuple[str, dict[str, object]]


class Recorded:
    """See the module. `state` is where the evidence is."""

    def __init__(self, pins: PinStore, state: Path, config: AuditConfig) -> None:
        self._pins = pins
        self._state = state
        self._config = config

    def decide(self, chosen: Sequence[tuple[Definition, str]], *, approve: bool) -> list[bool]:
        """Approve or reject changes, each with what it means; for each whether it did wait (still).

        Raises AuditError, StoreError: none was decided.
        """
        what, by = "pin-approved" if approve else "pin-rejected", _user()

        def notes(done: list[bool]) -> Iterator[Note]:
            for (found, change), waited in zip(chosen, done, strict=True):
                if waited:
                    yield (
                        what,
                        {
                            "server": found.server,
                            "kind": found.kind,
                            "name": visible(found.key, 200),
                            "digest": found.digest,
                            "change": change,
                            "by": by,
                        },
                    )

        places = [found.place for found, _ in chosen]
        with self._on_record("approved" if approve else "rejected") as write:
            return self._pins.decide(places, approve=approve, by=by, record=lambda done: write(notes(done)))

    def reset(self, server: str) -> int:
        """Forget a server; the number of definitions. Raises AuditError, StoreError: nothing was forgotten."""

        def notes(count: int) -> Iterator[Note]:
            yield "pins-reset", {"server": server, "definitions": count, "by": _user()}

        with self._on_record("forgotten") as write:
            return self._pins.reset(server, record=lambda count: write(notes(count)))

    @contextmanager
    def _on_record(self, done: str) -> Iterator[Callable[[Iterable[Note]], None]]:
        """What puts on record what is done within; where that fails, or what is done, nothing was `done`."""
        from callgate.audit import open_journal

        told: list[str] = []
        try:
            journal = open_journal(self._state, self._config, process="pins")

            def write(notes: Iterable[Note]) -> None:
                for what, fields in notes:
                    told.append(what)
                    journal.note(what, fields)
                journal.close()

            try:
                yield write
            finally:
                with suppress(AuditError):  # it could not be written, which is said already
                    journal.close()
        except CallgateError as error:
            error.effect = f"nothing was {done}: a decision counts when it is on record"
            if told:
                self._take_back(told)
            raise

    def _take_back(self, told: list[str]) -> None:
        """Say in the evidence that what was told there did not happen."""
        from callgate.audit import open_journal

        with suppress(AuditError):  # it cannot be written, and then it may not have been told either
            journal = open_journal(self._state, self._config, process="pins")
            journal.note("pins-unchanged", {"told": sorted(set(told)), "decisions": len(told), "by": _user()})
            journal.close()


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
