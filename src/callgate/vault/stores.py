"""Places callgate can put secrets into: what `callgate secrets` and `callgate install` write to.

| name | where | reference |
|---|---|---|
| `keyring` | the desktop's keyring, service `callgate` | `keyring://callgate/NAME` |
| `age` | encrypted files under state/secrets | `age://NAME` |
| `vault` | KV, one entry a secret, under `secret/callgate` | `vault://secret/callgate/NAME#value` |
| `awssm` | one secret a name, under `callgate/` | `awssm://callgate/NAME` |

There is no store in plain text.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

from callgate.errors import SecretError
from callgate.vault.fields import MOST_BYTES, NothingStored, value_of
from callgate.vault.reference import Reference, parse, quoted_path

if TYPE_CHECKING:
    from callgate.vault.providers.base import Writing

STORES: Final = ("keyring", "age", "vault", "awssm")
MOST_NAME: Final = 120
_PLACES: Final = {
    "keyring": "callgate",
    "age": "",
    "vault": "secret/callgate",
    "awssm": "callgate",
}


class WritableStore(Protocol):
    """A store by names. A name has up to 120 characters; a slash in it is no level of the store."""

    name: str

    def reference(self, name: str) -> str:
        """The text that stands for the secret; nothing is asked."""
        ...

    def put(self, name: str, value: bytes, *, replace: bool = False) -> str:
        """Store, read back and compare; returns the reference.

        Raises SecretError: also where there is another value already and not `replace`.
        """
        ...

    def get(self, name: str) -> bytes:
        """The value. Raises SecretError where there is none."""
        ...

    def delete(self, name: str) -> bool:
        """Delete; whether there was something. Raises SecretError."""
        ...

    def close(self) -> None:
        """End the login, if there was one."""
        ...


class _Store:
    def __init__(self, name: str, state: Path, place: str) -> None:
        self.name = name
        self._state = state
        self._place = place
        self._provider: Writing | None = None

    def reference(self, name: str) -> str:
        if not 0 < len(name) <= MOST_NAME:
            raise SecretError(f"a secret's name has 1 to {MOST_NAME} characters", next_step="choose another name")
        part = quoted_path(name)
        if self.name == "keyring":
            return parse(f"keyring://{quoted_path(self._place)}/{part}").text
        if self.name == "age":
            return parse(f"age://{part}").text
        place = "/".join(quoted_path(one) for one in self._place.strip("/").split("/"))
        key = "#value" if self.name == "vault" else ""
        return parse(f"{self.name}://{place}/{part}{key}").text

    def put(self, name: str, value: bytes, *, replace: bool = False) -> str:
        text = self.reference(name)
        write(self._open(), parse(text), value, replace=replace)
        return text

    def get(self, name: str) -> bytes:
        reference = parse(self.reference(name))
        return value_of(self._open().read(reference).content, reference.key, reference.text)

    def delete(self, name: str) -> bool:
        return self._open().remove(parse(self.reference(name)))

    def close(self) -> None:
        if self._provider is not None:
            self._provider.close()

    def _open(self) -> Writing:
        if self._provider is None:
            from callgate.vault.providers import open_provider

            self._provider = cast("Writing", open_provider(self.name, self._state))
        return self._provider


def open_store(name: str, state: Path, *, place: str = "") -> WritableStore:
    """A store by its name, nothing contacted yet.

    `place`: another service (keyring), mount and path (vault) or prefix (awssm) than the default. Raises SecretError.
    """
    if name not in STORES:
        raise SecretError(f"there is no store {name!a}", next_step=f"choose one of {', '.join(STORES)}")
    if place and name == "age":
        raise SecretError("the age store has one place, under the state directory", next_step="leave the place out")
    return _Store(name, state, place or _PLACES[name])


def best_store(state: Path) -> WritableStore:
    """The keyring where one works now, else the age store."""
    from callgate.vault.providers.keyring_store import KeyringProvider

    return open_store("keyring" if KeyringProvider().works() else "age", state)


def set_secret(reference: Reference, value: bytes, state: Path, *, replace: bool = False) -> None:
    """Store a value at any reference of a writable store, read back and compared. Raises SecretError."""
    from callgate.vault.providers import open_provider

    if reference.scheme not in STORES:
        raise SecretError(
            f"{reference.text}: callgate cannot write there",
            next_step=f"use a reference of {', '.join(STORES)}, or store it with the program that keeps it",
        )
    provider = cast("Writing", open_provider(reference.scheme, state))
    try:
        write(provider, reference, value, replace=replace)
    finally:
        provider.close()


def write(provider: Writing, reference: Reference, value: bytes, *, replace: bool) -> None:
    """Write, read back, compare. Raises SecretError."""
    if not value or len(value) > MOST_BYTES:
        raise SecretError(f"a secret has 1 to {MOST_BYTES} bytes", next_step="check what was given")
    present = _present(provider, reference)
    if present is not None:
        if hmac.compare_digest(present, value):
            return
        if not replace:
            raise SecretError(
                f"{reference.text} holds another value already", next_step="choose another name, or ask to replace it"
            )
    provider.write(reference, value)
    kept = _present(provider, reference)
    if kept is None or not hmac.compare_digest(kept, value):
        raise SecretError(
            f"{reference.text}: the store gave back something else than was stored",
            effect="the value is not safe there",
            next_step="keep the value where it is, and check the store",
        )


def _present(provider: Writing, reference: Reference) -> bytes | None:
    """What is stored, or None. Anything but a clear "nothing" raises: nothing unreadable is written over."""
    try:
        return value_of(provider.read(reference).content, reference.key, reference.text)
    except NothingStored:
        return None
