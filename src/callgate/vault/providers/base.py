"""What a provider of secrets is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from callgate.errors import SecretError
from callgate.vault.reference import Reference


@dataclass(frozen=True, slots=True)
class Lease:
    """Permission to use a credential for a while. `seconds` from when it was given."""

    id: str = field(repr=False)
    seconds: float
    renewable: bool


@dataclass(frozen=True, slots=True)
class Document:
    """What a store gave: bytes, or members by name; with a lease where it issued a credential for a while."""

    content: bytes | Mapping[str, Any] = field(repr=False)
    lease: Lease | None = None


class Provider(Protocol):
    """One kind of store. Every method raises SecretError and nothing else, within the limits of `deadline`.

    An error says what to do; it holds neither the secret nor what the store answered.
    """

    def read(self, reference: Reference) -> Document:
        """What stands at `reference.place`, whatever key is asked for."""
        ...

    def close(self) -> None:
        """Give back what the provider itself was given, for example a login."""
        ...


class Leasing(Provider, Protocol):
    """A provider whose credentials are leased."""

    def renew(self, lease: Lease) -> Lease: ...

    def revoke(self, lease: Lease) -> None: ...

    def renew_login(self) -> float:
        """Keep the provider's own login alive; seconds it lasts now, 0 where there is none."""
        ...

    @property
    def login_s(self) -> float:
        """Seconds that the provider's own login lasts; 0 where it made none."""
        ...

    @property
    def logins(self) -> int:
        """How often it signed in: what an earlier login leased ends with that login."""
        ...


class Writing(Provider, Protocol):
    """A provider that also stores."""

    def write(self, reference: Reference, value: bytes) -> None:
        """Create or replace."""
        ...

    def remove(self, reference: Reference) -> bool:
        """Delete; whether there was something."""
        ...


def load(module: str, extra: str) -> Any:
    """A client library, imported when it is needed. Raises SecretError naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        missing = module.partition(".")[0]
    raise SecretError(
        f"{missing} is not installed, and references to this store need it",
        next_step=f'install it beside callgate: pip install "callgate[{extra}]"',
    )
