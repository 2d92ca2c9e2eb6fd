"""What is known of secrets on their way to a server: values that no repr shows, and facts without values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from callgate.vault.reference import Reference

if TYPE_CHECKING:
    from callgate.vault.redaction import Redactor
    from callgate.vault.session import Session

How: TypeAlias = Literal["sentinel", "file", "environment", "header"]

FILES_AT: Final = "/run/secrets"
ENVIRONMENT_NOTE: Final = "the server can read it, and so can programs of the same user that look at its process"


@dataclass(frozen=True, slots=True)
class FileSecret:
    """A secret that the sandbox shows as the file `name` in `FILES_AT`."""

    name: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A stand-in and what the egress gate puts in its place, towards `hosts` only."""

    name: str
    placeholder: str = field(repr=False)
    value: bytes = field(repr=False)
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """What evidence and people may know of one secret: never its value.

    `scheme` is the store's, or `literal` for a credential that stands in the configuration in plain text.
    """

    name: str
    scheme: str
    how: How
    hosts: tuple[str, ...] = ()
    readable_by_server: bool = True
    note: str = ""

    def record(self) -> dict[str, object]:
        """The members of an evidence record."""
        return {
            "delivered": self.how,
            "hosts": list(self.hosts),
            "name": self.name,
            "note": self.note,
            "readable_by_server": self.readable_by_server,
            "store": self.scheme,
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """One reference inside a variable, with the stand-in it keeps for as long as the server runs."""

    reference: Reference
    how: How
    placeholder: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """Everything a launch needs to know of a server's secrets. No repr shows a value."""

    environment: Mapping[str, str] = field(repr=False)
    """The whole environment by value, with stand-ins and file names in it."""
    secret_files: tuple[FileSecret, ...] = ()
    sentinels: tuple[Placeholder, ...] = ()
    redactor: Redactor | None = None
    """What to take out of all the server says; None where there is nothing. Register it in `vault.active`."""
    facts: tuple[Fact, ...] = ()
    notices: tuple[str, ...] = ()
    """One line each for the person who starts the server."""
    _pieces: tuple[tuple[str, Piece], ...] = field(default=(), repr=False)

    def renewed(self, session: Session) -> Delivery:
        """The same with the values of now: for `Session.on_change`. Stand-ins stay, a server's environment cannot."""
        from callgate.vault.redaction import Redactor

        values = [(name, session.get(piece.reference).value) for name, piece in self._pieces]
        sentinels = tuple(
            Placeholder(name, piece.placeholder, value, piece.hosts)
            for (name, piece), (_, value) in zip(self._pieces, values, strict=True)
            if piece.how == "sentinel"
        )
        redactor = Redactor(values) if self.redactor is None else self.redactor | Redactor(values)
        return Delivery(
            self.environment, self.secret_files, sentinels, redactor, self.facts, self.notices, self._pieces
        )


def literal_fact(name: str) -> Fact:
    """A credential in plain text."""
    return Fact(name, "literal", "environment", note=ENVIRONMENT_NOTE)


def literal_notice(name: str) -> str:
    """What a person is told of it."""
    return f"{shown(name)} holds a credential in plain text; callgate secrets move puts it where it is not lying about"


def shown(name: str) -> str:
    """A name as it may be printed."""
    from callgate.text import visible

    return visible(name, 80)


def as_text(value: bytes) -> str:
    """A value as a variable holds it."""
    return value.decode("utf-8", "surrogateescape")


def as_bytes(text: str) -> bytes:
    """The bytes of a variable."""
    return text.encode("utf-8", "surrogateescape")
