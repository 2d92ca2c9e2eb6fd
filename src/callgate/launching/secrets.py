"""Secrets on their way to a server: what `vault` resolved, in the sandbox's terms, kept fresh while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.config import SecretConfig
from callgate.sandbox.spec import Destination, SecretFile, Sentinel
from callgate.vault import active
from callgate.vault.delivery import Delivery, Fact, deliver, has_secrets

if TYPE_CHECKING:
    from callgate.sandbox.backend import Running
    from callgate.vault.session import Secret, Session


class Handover:
    """The secrets of one launch. Values are in the environment, files and sentinels only; no repr shows them."""

    __slots__ = ("_delivery", "_running", "_server", "_session", "environment")

    def __init__(self, server: str, delivery: Delivery, session: Session | None) -> None:
        self.environment: Mapping[str, str] = delivery.environment
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

    def redact(self, data: bytes) -> bytes | None:
        """`data` without the server's secrets; None where there were none."""
        redactor = active.of(self._server)
        return None if redactor is None else redactor.redact(data)

    def runs(self, running: Running | None) -> None:
        """The server is running: give its egress gate values that are exchanged from now on."""
        self._running = running

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
        session, self._session = self._session, None
        if session is not None:
            session.close()


def hand_over(
    environment: Mapping[str, str], declared: Mapping[str, SecretConfig], state: Path, *, server: str, confined: bool
) -> Handover | None:
    """Resolve what the server needs; None where there is nothing to resolve or to hide. Raises SecretError."""
    session = None
    if has_secrets(environment, declared):
        from callgate.vault.session import Session

        session = Session(state)
    try:
        delivery = deliver(environment, declared, session, gated=confined, files_at="/run/secrets" if confined else "")
    except BaseException:
        if session is not None:
            session.close()
        raise
    if session is None and delivery.redactor is None:
        return None
    return Handover(server, delivery, session)


def _sentinels(delivery: Delivery) -> tuple[Sentinel, ...]:
    return tuple(Sentinel(one.name, one.placeholder, one.value, one.hosts) for one in delivery.sentinels)


def _worth_saying(fact: Fact) -> bool:
    return fact.how == "environment" and fact.scheme != "literal"


def _notice(fact: Fact) -> str:
    return f"{fact.name} is in the server's environment: {fact.note}"
