"""Secrets on their way to a server: what `vault` resolved, in the sandbox's terms, kept fresh while it runs."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.config import SecretConfig
from callgate.errors import CallgateError
from callgate.launching.rotation import mark
from callgate.sandbox.spec import Destination, SecretFile, Sentinel
from callgate.vault import active
from callgate.vault.delivery import FILES_AT, Delivery, Fact, deliver, has_secrets

if TYPE_CHECKING:
    from callgate.launching.rotation import Rotation
    from callgate.sandbox.backend import Running
    from callgate.vault.redaction import StreamRedactor
    from callgate.vault.session import Secret, Session


GATED = frozenset(("bubblewrap", "landlock", "podman", "seatbelt"))
"""Backends with an egress gate, which is what swaps sentinels."""
SHOWS_FILES = frozenset(("bubblewrap", "landlock", "podman", "docker"))


class Handover:
    """The secrets of one launch. Values are in the environment, files and sentinels only; no repr shows them.

    Made and closed in whichever thread starts and ends the server, while leases are renewed in others.
    """

    __slots__ = (
        "_changing",
        "_delivery",
        "_exchanged",
        "_rotation",
        "_running",
        "_server",
        "_session",
        "_since",
        "_state",
    )

    def __init__(self, server: str, delivery: Delivery, session: Session | None, state: Path, since: bytes) -> None:
        self._state = state
        self._since = since
        self._rotation: Rotation | None = None
        self._server = server
        self._delivery = delivery
        self._session = session
        self._running: Running | None = None
        self._exchanged = False
        self._changing = allocate_lock()
        """Held while values and the sandbox they go to change: neither may miss the other."""
        if delivery.redactor is not None:
            active.register(server, delivery.redactor)
        if session is not None:
            session.on_change = self._changed

    @property
    def environment(self) -> Mapping[str, str]:
        """The server's whole environment: a running program's cannot be changed, so it never is."""
        return self._delivery.environment

    @property
    def facts(self) -> list[dict[str, object]]:
        """For evidence: names, stores and ways, never values."""
        return [fact.record() for fact in self._delivery.facts]

    @property
    def notices(self) -> tuple[str, ...]:
        """For the person who starts the server."""
        return (*self._delivery.notices, *(_notice(fact) for fact in self._delivery.facts if _worth_saying(fact)))

    @property
    def secret_files(self) -> tuple[SecretFile, ...]:
        """Files in memory that the sandbox shows."""
        return tuple(SecretFile(one.name, one.value) for one in self._delivery.secret_files)

    @property
    def sentinels(self) -> tuple[Sentinel, ...]:
        """What the egress gate swaps."""
        return _sentinels(self._delivery)

    @property
    def hosts(self) -> tuple[Destination, ...]:
        """Where secrets may go, so where the server must be able to connect to."""
        names = dict.fromkeys(host for one in self._delivery.sentinels for host in one.hosts)
        return tuple(Destination(name) for name in names)

    def stderr(self) -> StreamRedactor:
        """What the server's stderr goes through, before anything cuts it into lines."""
        return active.stream(self._server)

    def runs(self, running: Running | None) -> None:
        """The server is running: give its egress gate values that are exchanged from now on, or were since its plan.

        A rotation shows in the state directory's counter; only servers with a sentinel are told of one.
        """
        session = self._session
        if running is None or session is None or not self._delivery.sentinels:
            return
        with self._changing:
            self._running = running
            if self._exchanged:
                running.replace_secrets(self.sentinels)
        from callgate.launching.rotation import Rotation

        self._rotation = Rotation(self._state, self._since, self._rotated, self._server)

    def _rotated(self) -> None:
        session = self._session
        if session is not None and session.refresh():
            self._changed(())

    def _changed(self, _: tuple[Secret, ...]) -> None:
        """In a renewing thread, which must go on whatever happens: what the server has stays where nothing new is."""
        with self._changing:
            session = self._session
            if session is None:
                return
            try:
                self._delivery = self._delivery.renewed(session)
                self._exchanged = True
                if self._delivery.redactor is not None:
                    active.register(self._server, self._delivery.redactor)
                if self._running is not None:
                    self._running.replace_secrets(self.sentinels)
            except CallgateError:
                return

    def close(self) -> None:
        """Give back what was leased. What was resolved stays out of the server's texts until callgate ends."""
        if self._rotation is not None:
            self._rotation.close()
        with self._changing:
            self._running = None
            session, self._session = self._session, None
        if session is not None:
            session.close()


def hand_over(
    environment: Mapping[str, str],
    declared: Mapping[str, SecretConfig],
    state: Path,
    *,
    server: str,
    backend: str,
    only: Collection[str] | None = None,
) -> Handover | None:
    """Resolve what the server needs; None where there is nothing to resolve or to hide. Raises SecretError.

    `backend`: what confines the server, which decides how a secret can reach it. `only`: the variables whose references
    are meant for it; None: all of them.
    """
    session = None
    since = mark(state)
    if has_secrets(environment, declared):
        from callgate.vault.session import Session

        session = Session(state)
    try:
        delivery = deliver(
            environment,
            declared,
            session,
            gated=backend in GATED,
            files_at=FILES_AT if backend in SHOWS_FILES else "",
            only=only,
        )
    except BaseException:
        if session is not None:
            session.close()
        raise
    if session is None and delivery.redactor is None:
        return None
    return Handover(server, delivery, session, state, since)


def _sentinels(delivery: Delivery) -> tuple[Sentinel, ...]:
    return tuple(Sentinel(one.name, one.placeholder, one.value, one.hosts) for one in delivery.sentinels)


def _worth_saying(fact: Fact) -> bool:
    return fact.how == "environment" and fact.scheme != "literal"


def _notice(fact: Fact) -> str:
    return f"{fact.name} is in the server's environment: {fact.note}"
