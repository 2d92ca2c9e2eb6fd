"""Secrets on their way to a server: what `vault` resolved, in the sandbox's terms, kept fresh while it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.config import SecretConfig
from callgate.errors import CallgateError
from callgate.sandbox.spec import Destination, SecretFile, Sentinel
from callgate.vault import active
from callgate.vault.delivery import FILES_AT, Delivery, Fact, deliver, has_secrets

if TYPE_CHECKING:
    from threading import Event

    from callgate.sandbox.backend import Running
    from callgate.vault.redaction import StreamRedactor
    from callgate.vault.session import Secret, Session


GATED = frozenset(("bubblewrap", "landlock", "podman", "seatbelt"))
"""Backends with an egress gate, which is what swaps sentinels."""
SHOWS_FILES = frozenset(("bubblewrap", "landlock", "podman", "docker"))


_ROTATION_S = 2.0


class Handover:
    """The secrets of one launch. Values are in the environment, files and sentinels only; no repr shows them."""

    __slots__ = ("_delivery", "_ended", "_running", "_server", "_session", "_state", "environment")

    def __init__(self, server: str, delivery: Delivery, session: Session | None, state: Path) -> None:
        self.environment: Mapping[str, str] = delivery.environment
        self._state = state
        self._ended: Event | None = None
        self._server = server
        self._delivery = delivery
        self._session = session
        self._running: Running | None = None
        if session is not None:
            session.on_change = self._changed
        if delivery.redactor is not None:
            active.register(server, delivery.redactor)

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
        """The server is running: give its egress gate values that are exchanged from now on.

        A rotation (`callgate secrets rotate`) shows in the state directory's counter, which a thread looks at every
        two seconds; only servers with a sentinel have one.
        """
        self._running = running
        if running is not None and self._session is not None and self._delivery.sentinels:
            from threading import Event, Thread

            self._ended = Event()
            Thread(target=self._watch, args=(self._ended,), daemon=True, name=f"secrets of {self._server}").start()

    def _watch(self, ended: Event) -> None:
        counter = self._state / "generation"
        known = _number(counter)
        while not ended.wait(_ROTATION_S):
            now = _number(counter)
            session = self._session
            if now == known or session is None:
                continue
            known = now
            try:
                if session.refresh():
                    self._changed(())
            except CallgateError:
                continue  # the store cannot be asked just now: what the server has stays

    def _changed(self, _: tuple[Secret, ...]) -> None:
        if self._session is None:
            return
        self._delivery = self._delivery.renewed(self._session)
        if self._delivery.redactor is not None:
            active.register(self._server, self._delivery.redactor)
        if self._running is not None:
            self._running.replace_secrets(self.sentinels)

    def close(self) -> None:
        """Give back what was leased. What was resolved stays out of the server's texts until callgate ends."""
        self._running = None
        if self._ended is not None:
            self._ended.set()
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
    return Handover(server, delivery, session, state)


def _number(counter: Path) -> bytes:
    try:
        return counter.read_bytes()
    except OSError:
        return b""


def _sentinels(delivery: Delivery) -> tuple[Sentinel, ...]:
    return tuple(Sentinel(one.name, one.placeholder, one.value, one.hosts) for one in delivery.sentinels)


def _worth_saying(fact: Fact) -> bool:
    return fact.how == "environment" and fact.scheme != "literal"


def _notice(fact: Fact) -> str:
    return f"{fact.name} is in the server's environment: {fact.note}"
