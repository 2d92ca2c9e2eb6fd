"""Credentials on their way from a file into a store, and back: what `install`, `uninstall` and `secrets move` hand on.

The order that no interruption breaks is the caller's: store, read back, record, file; and on the way back file, store,
record. A value that was stored by an interrupted run is found there again, under the same name.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Final

from callgate.detect.credentials import judge
from callgate.errors import SecretError
from callgate.vault.fields import NothingStored
from callgate.vault.reference import Reference, is_reference, parse
from callgate.vault.session import Session
from callgate.vault.stores import MOST_NAME, WritableStore, best_store, open_store, set_secret

PREVIOUS: Final = ".previous"
KEEPS_BESIDE: Final = ("keyring", "age")
"""Stores without versions: an old value is kept as an entry beside the new one."""
MOST_SAME: Final = 99
"""Different values that may want one name."""


class StoreKeeper:
    """Keeps credentials in one store, and fetches them from any. It is a `callgate.clients.moving.Keeper`."""

    def __init__(self, store: WritableStore, state: Path, *, look: bool = True) -> None:
        self.store = store
        self._state = state
        self._look = look
        self._offered: dict[str, str] = {}
        """Values by the name they were offered under, in this run."""

    def offer(self, server: str, key: str, value: str) -> str | None:
        """The reference that would stand for this value of that server; None: it is no credential.

        Stores nothing. Where the name holds another value already, the next free one is taken; `look` (default) asks
        the store about that. Raises SecretError.
        """
        if judge(value, key) is None or is_reference(value):
            return None
        for number in range(1, MOST_SAME + 1):
            name = name_of(server, key, number)
            known = self._offered.get(name)
            if known is None and self._look:
                known = self._stored(name)
            if known is None or same(known, value):
                self._offered[name] = value
                return self.store.reference(name)
        raise SecretError(
            f"{MOST_SAME} different values want to be {name_of(server, key, 1)!a}",
            next_step="remove old ones from the store",
        )

    def keep(self, reference: str, value: str) -> None:
        """Store the value, and read it back. Storing the same again changes nothing. Raises SecretError."""
        set_secret(parse(reference), encoded(value), self._state)

    def fetch(self, reference: str) -> str:
        """The value, from the store it is in now. Raises SecretError."""
        with Session(self._state) as session:
            return session.resolve(reference).value.decode("utf-8", "surrogatepass")

    def forget(self, reference: str) -> None:
        """Delete what `keep` stored, and what `exchange` kept of it; nothing there is no error. Raises SecretError."""
        remove(reference, self._state)
        if parse(reference).scheme in KEEPS_BESIDE:
            remove(reference + PREVIOUS, self._state)

    def _stored(self, name: str) -> str | None:
        try:
            return self.store.get(name).decode("utf-8", "surrogatepass")
        except NothingStored:
            return None


def keeper(state: Path, to: str = "", *, look: bool = True) -> StoreKeeper:
    """The keeper of a store: `keyring`, `age`, `vault`, `awssm`, each with `:PLACE` where it has places.

    Empty: the keyring where one works now, else the age store. Raises SecretError.
    """
    name, _, place = to.partition(":")
    return StoreKeeper(open_store(name, state, place=place) if name else best_store(state), state, look=look)


def remove(reference: str, state: Path) -> bool:
    """Delete a secret that callgate may write; whether there was one. Raises SecretError."""
    from typing import cast

    from callgate.vault.providers import open_provider
    from callgate.vault.providers.base import Writing

    parsed = parse(reference)
    provider = cast("Writing", open_provider(parsed.scheme, state))
    try:
        return provider.remove(parsed)
    finally:
        provider.close()


def exchange(reference: Reference, value: bytes, state: Path) -> str:
    """Put a new value in the place of the one that is there, and keep that; where it is kept, as a reference.

    Vault's KV 2 and AWS keep earlier versions themselves; beside an entry of the keyring or the age store, one with
    `.previous` at its end is made. Empty: nothing was there. Raises SecretError, with the old value in place.
    """
    with Session(state) as session:
        try:
            old = session.resolve(reference.text).value
        except NothingStored:
            old = b""
    kept = ""
    if old and old != value:
        kept = {"vault": "among the versions, of a KV 2 engine", "awssm": f"{reference.text}?stage=AWSPREVIOUS"}.get(
            reference.scheme, f"{reference.text}{PREVIOUS}"
        )
        if reference.scheme in KEEPS_BESIDE:
            set_secret(parse(kept), old, state, replace=True)
    set_secret(reference, value, state, replace=True)
    return kept


def name_of(server: str, key: str, number: int = 1) -> str:
    """The name of a server's credential in a store: `github.GITHUB_TOKEN`; `…-2` of a second value."""
    tail = f"-{number}" if number > 1 else ""
    joined = "".join(c if c.isalnum() or c in "._-@" else "-" for c in f"{server}.{key}")
    if not joined.isascii():
        joined = "".join(c if c.isascii() else f"-{ord(c):x}" for c in joined)
    return (joined[: MOST_NAME - len(tail)].strip(".") or "secret") + tail


def encoded(value: str) -> bytes:
    """A value as stores keep it. Raises SecretError for what is no text."""
    if any("\ud800" <= char <= "\udfff" for char in value):  # the codec's own error would hold the value
        raise SecretError("a value with half a character in it cannot be stored", next_step="mend the file")
    return value.encode()


def same(one: str, other: str) -> bool:
    """Whether two values are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
