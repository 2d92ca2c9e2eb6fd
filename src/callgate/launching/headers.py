"""Headers for a server that speaks HTTP: their references replaced by what they stand for, and kept fresh.

A leased value is renewed, or exchanged for a new one before it ends; one that was rotated (`callgate secrets rotate`)
is read again. What cannot be renewed stays in use until its lease ends, and then nothing is sent any more; the same
holds where something came in its place that cannot be used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from callgate.errors import CallgateError, ConfigError
from callgate.launching.rotation import Rotation, mark
from callgate.vault import active
from callgate.vault.delivery import has_secrets, resolve_headers
from callgate.vault.reference import is_reference, split

if TYPE_CHECKING:
    from callgate.vault.session import Held, Secret, Session

RETRY_S = 30.0
"""Until a credential that came and cannot be used is given back and another one asked for."""


class LiveHeaders:
    """The headers of one server. `resolve` and `close` may wait for stores: not for an event loop.

    `changed` is called when other headers are to be sent from now on, `problem` with what went wrong while that was
    tried; both from a thread. What was resolved is taken out of all that `server` says, before it is sent for the
    first time. Raises SecretError for a reference that cannot be one.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        state: Path,
        server: str,
        *,
        changed: Callable[[], None] = lambda: None,
        problem: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.fixed = not has_secrets(headers, {})
        """Whether there is nothing to resolve: what is written is what is sent."""
        self.current: Mapping[str, str] = headers if self.fixed else {}
        """What is sent now; empty before `resolve`."""
        self._headers = headers
        self._state = state
        self._server = server
        self._changed = changed
        self._problem = problem
        self._failed = ""
        self._session: Session | None = None
        self._held: Held | None = None
        self._retry_at = math.inf
        self._rotation: Rotation | None = None
        self._changing = Lock()
        if self.fixed:
            self._take(None)
        for text in filter(is_reference, headers.values()):
            split(text)

    def only_for(self, configured: str, url: str) -> None:
        """They are for the server's own URL. Raises ConfigError where another one is asked for under its name."""
        if self._headers and configured and configured != url:
            raise ConfigError(
                f"the headers of {self._server} are for another URL: the one in its settings",
                next_step=f"use another --name, or write this URL under [servers.{self._server}]",
            )

    @property
    def resolved(self) -> bool:
        """Whether `current` is there to be sent, or was and has ended."""
        return self.fixed or self._session is not None

    @property
    def ended(self) -> str:
        """Why nothing may be sent any more; empty while it may. Never waits."""
        held = self._held
        if held is None or time.monotonic() < held.good_until:
            return ""
        why = self._failed or "its store gave no new one"
        return f"the credential for {self._server} has ended, and {why}"

    def resolve(self) -> None:
        """Ask the stores for the first time. Raises SecretError; then it may be tried again."""
        if self.fixed:
            return
        from callgate.vault.session import Session

        since = mark(self._state)
        session = Session(self._state, self._exchanged, self._missed)
        try:
            with self._changing:
                self._take(session)
        except BaseException:
            session.close()
            raise
        self._session = session
        self._exchanged(())  # what was exchanged a moment ago, when there was no session to look at
        self._rotation = Rotation(self._state, since, self._rotated, self._server, self._due)

    def close(self) -> None:
        """Give back what was leased."""
        if self._rotation is not None:
            self._rotation.close()
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _take(self, session: Session | None) -> bool:
        """Make the headers of now the current ones; whether they are others."""
        if session is None:
            found = resolve_headers(self._headers, None)
        else:
            with session.steady():
                found = resolve_headers(self._headers, session)
                self._held = session.held()
        if found.redactor is not None:
            active.register(self._server, found.redactor)
        before, self.current = self.current, dict(found.headers)
        self._failed = ""
        self._retry_at = math.inf
        return before != self.current

    def _exchanged(self, _: tuple[Secret, ...]) -> None:
        """In a renewing thread, which must go on whatever happens."""
        session = self._session
        if session is None:
            return
        try:
            with self._changing:
                changed = self._take(session)
        except CallgateError as error:
            self._retry_at = time.monotonic() + RETRY_S
            self._report(error)
            return
        if changed:
            self._changed()

    def _due(self) -> bool:
        """Whether it is time to try again what could not be used."""
        return time.monotonic() >= self._retry_at

    def _rotated(self) -> None:
        session, held = self._session, self._held
        if session is None or held is None:
            return
        changed = bool(session.refresh())
        if self._retry_at < math.inf:
            session.give_back(held)
            changed = True
        if changed:
            self._exchanged(())

    def _missed(self, error: CallgateError) -> None:
        """What the session could not do. Where it took something all the same, that is of no use."""
        session, held = self._session, self._held
        if session is not None and held is not None and session.holds_more(held):
            self._retry_at = time.monotonic() + RETRY_S
        self._report(error)

    def _report(self, error: CallgateError) -> None:
        self._failed = error.what
        self._problem(error.what)
