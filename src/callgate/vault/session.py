"""A session with the stores: references resolved, leases kept alive, everything given back at the end.

Values are held in memory only, in this process: never written, logged or put into an error. `close` overwrites the
buffers that are ours. That is the best effort and no promise: Python and the client libraries make copies that stay
in memory until it is used again, and whoever may read this process's memory can read them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

from callgate.errors import SecretError
from callgate.vault.fields import value_of
from callgate.vault.reference import Reference, parse

if TYPE_CHECKING:
    from callgate.vault.providers.base import Document, Lease, Leasing, Provider

MOST_CACHED_S: Final = 300.0
"""A value without a lease is read again after this long, when it is asked for."""
_RENEW_AT: Final = 2 / 3
"""Of a lease's time: then it is renewed."""
_LEAST_WAIT_S: Final = 1.0
_LAST_S: Final = 30.0
"""A credential that cannot be renewed any more is exchanged this long before its end, or at nine tenths."""

OnChange: TypeAlias = "Callable[[tuple[Secret, ...]], None]"
OnProblem: TypeAlias = Callable[[SecretError], None]


@dataclass(frozen=True, slots=True)
class Secret:
    """A resolved reference. The value shows in no repr; do not keep it longer than it is used."""

    reference: str
    scheme: str
    value: bytes = field(repr=False)
    lease_s: float = 0.0
    """Seconds the credential is good for, as it was issued; 0 where it has no end that the store knows."""
    renewable: bool = False


class _Entry:
    """One document that was read: what of it is in use, and until when it is good."""

    __slots__ = ("content", "expires_at", "lease", "reference", "renew_at", "values")

    def __init__(self, reference: Reference, document: Document, now: float) -> None:
        self.reference = reference
        self.content: bytearray | Mapping[str, Any] = (
            bytearray(document.content) if isinstance(document.content, bytes) else document.content
        )
        self.values: dict[tuple[str, ...], bytearray] = {}
        self.leased(document.lease, now)

    def leased(self, lease: Lease | None, now: float) -> None:
        self.lease = lease
        self.expires_at = now + ((lease.seconds or math.inf) if lease is not None else MOST_CACHED_S)
        self.renew_at = 0.0
        if lease is not None and lease.seconds:  # a lease of 0 seconds has no end of its own
            share = _RENEW_AT if lease.renewable else max(0.5, min(0.9, 1 - _LAST_S / max(lease.seconds, 1.0)))
            self.renew_at = now + max(lease.seconds * share, min(_LEAST_WAIT_S, lease.seconds / 2))

    def value(self, reference: Reference) -> bytes:
        content = bytes(self.content) if isinstance(self.content, bytearray) else self.content
        value = value_of(content, reference.key, reference.text)
        self.values[reference.key] = bytearray(value)
        return value

    def wipe(self) -> None:
        for buffer in self.values.values():
            buffer[:] = bytes(len(buffer))
        if isinstance(self.content, bytearray):
            self.content[:] = bytes(len(self.content))
        self.content = bytearray()


class Held:
    """Leases in use. A renewal moves their end, an exchange does not: whoever goes on using them knows when to stop."""

    __slots__ = ("entries",)

    def __init__(self, entries: tuple[_Entry, ...] = ()) -> None:
        self.entries = entries

    @property
    def good_until(self) -> float:
        """When the first of them ends, by `time.monotonic`; infinity where none does. Never waits for a store."""
        return min((one.expires_at for one in self.entries), default=math.inf)


class Session:
    """See the module. `state` is callgate's state directory.

    `on_change` gets the new values when a leased credential was exchanged for a new one, `on_problem` what went wrong
    in the background; both are called from the renewing thread, which is started when there is a lease to renew and
    not before. All methods may be called from any thread.
    """

    def __init__(self, state: Path, on_change: OnChange | None = None, on_problem: OnProblem | None = None) -> None:
        self._state = state
        self.on_change = on_change
        self.on_problem = on_problem
        self._providers: dict[str, Provider] = {}
        self._entries: dict[object, _Entry] = {}
        self._superseded: list[_Entry] = []
        self._changed = Condition()
        self._thread: Thread | None = None
        self._login_at = 0.0
        self._closed = False

    def resolve(self, text: str) -> Secret:
        """The secret a reference stands for: from memory while it is good, else from its store. Raises SecretError."""
        return self.get(parse(text))

    def get(self, reference: Reference) -> Secret:
        """As `resolve`, for a reference that is parsed already."""
        with self._changed:
            if self._closed:
                raise SecretError("this session with the secret stores is closed", next_step="open another one")
            entry = self._entries.get(reference.place)
            if entry is None or time.monotonic() >= entry.expires_at:
                entry = self._read(reference)
            return _secret(reference, entry)

    def steady(self) -> Condition:
        """To be entered with `with`: nothing is exchanged before it is left."""
        return self._changed

    def held(self) -> Held:
        """The leases of now; those that come in their place are not among them."""
        with self._changed:
            return Held(tuple(one for one in self._entries.values() if one.lease is not None))

    def holds_more(self, held: Held) -> bool:
        """Whether there is a lease that is not among `held`. Never waits for a store."""
        entries = tuple(self._entries.values())  # no lock, which is held while a store is asked: read whole, at once
        return any(one.lease is not None and one not in held.entries for one in entries)

    def give_back(self, held: Held) -> None:
        """Revoke the leases that are not among `held`, since they are of no use; they are taken anew when asked for."""
        with self._changed:
            for place, entry in tuple(self._entries.items()):
                if entry.lease is None or entry in held.entries:
                    continue
                del self._entries[place]
                try:
                    self._leasing(entry).revoke(entry.lease)
                except SecretError as error:
                    self._report(error)  # it ends by itself
                entry.wipe()

    def refresh(self) -> tuple[Secret, ...]:
        """Read everything without a lease again now; the secrets whose values changed. `on_change` is not called.

        A value that cannot be read stays as it is, and the problem goes to `on_problem`.
        """
        with self._changed:
            stale = [entry for entry in self._entries.values() if entry.lease is None]
            return tuple(secret for entry in stale for secret in self._exchange(entry))

    def close(self) -> tuple[SecretError, ...]:
        """Revoke what was leased, end the logins, overwrite the values. Safe to call twice; never raises.

        Returns what could not be given back: it ends by itself, when its lease does.
        """
        with self._changed:
            if self._closed:
                return ()
            self._closed = True
            self._changed.notify_all()
            problems: list[tuple[str, SecretError]] = []
            for entry in (*self._superseded, *self._entries.values()):
                if entry.lease is not None and time.monotonic() < entry.expires_at:
                    try:
                        self._leasing(entry).revoke(entry.lease)
                    except SecretError as error:
                        problems.append((entry.reference.scheme, error))
                entry.wipe()
            self._entries.clear()
            self._superseded.clear()
            for scheme, provider in self._providers.items():
                own_login = bool(getattr(provider, "login_s", 0.0))
                try:
                    provider.close()
                except SecretError as error:
                    problems.append((scheme, error))
                else:
                    if own_login:  # the end of a login is the end of all it leased
                        problems = [one for one in problems if one[0] != scheme]
            self._providers.clear()
        return tuple(error for _, error in problems)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- all of these run with the lock held

    def _read(self, reference: Reference) -> _Entry:
        provider = self._providers.get(reference.scheme)
        if provider is None:
            from callgate.vault.providers import open_provider

            provider = self._providers[reference.scheme] = open_provider(reference.scheme, self._state)
        document = provider.read(reference)
        entry = _Entry(reference, document, time.monotonic())
        old = self._entries.get(reference.place)
        self._entries[reference.place] = entry
        if old is not None:
            if old.lease is not None:  # still in use until `on_change` has done its work; it ends soon by itself
                self._superseded = [one for one in self._superseded if one.expires_at > time.monotonic()]
                self._superseded.append(old)
            else:
                old.wipe()
        login_s = getattr(provider, "login_s", 0.0)
        if login_s and not self._login_at:
            self._login_at = time.monotonic() + login_s * _RENEW_AT
        if entry.lease is not None or self._login_at:
            self._start()
        return entry

    def _leasing(self, entry: _Entry) -> Leasing:
        return cast("Leasing", self._providers[entry.reference.scheme])

    def _report(self, error: SecretError) -> None:
        if self.on_problem is not None:
            self.on_problem(error)

    def _exchange(self, entry: _Entry) -> list[Secret]:
        """Read an entry again; what of it changed, by the keys in use."""
        before = {key: bytes(value) for key, value in entry.values.items()}
        try:
            fresh = self._read(entry.reference)
            secrets = [_secret(_with_key(entry.reference, key), fresh) for key in before]
        except SecretError as error:
            self._report(error)
            return []
        return [secret for secret, old in zip(secrets, before.values(), strict=True) if secret.value != old]

    # -- the renewing thread

    def _start(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._renew_all, name="callgate-leases", daemon=True)
            self._thread.start()
        else:
            self._changed.notify_all()

    def _renew_all(self) -> None:
        while True:
            changed: list[Secret] = []
            with self._changed:
                due = [entry.renew_at for entry in self._entries.values() if entry.renew_at]
                if self._login_at:
                    due.append(self._login_at)
                if not self._closed:
                    self._changed.wait(max(0.0, min(due) - time.monotonic()) if due else None)
                if self._closed:
                    return
                now = time.monotonic()
                if self._login_at and now >= self._login_at:
                    self._renew_login(now)
                for entry in list(self._entries.values()):
                    if entry.renew_at and now >= entry.renew_at:
                        changed += self._renew(entry, now)
            if changed and self.on_change is not None:
                self.on_change(tuple(changed))

    def _renew_login(self, now: float) -> None:
        self._login_at = 0.0
        for scheme, provider in self._providers.items():
            if not getattr(provider, "login_s", 0.0):
                continue
            leasing = cast("Leasing", provider)
            before = leasing.logins
            try:
                lasts = leasing.renew_login()
                self._login_at = now + max(lasts * _RENEW_AT, _LEAST_WAIT_S)
            except SecretError as error:
                self._login_at = now + 10 * _LEAST_WAIT_S
                self._report(error)
            if leasing.logins != before:  # what the old login leased ends with it: exchange it now
                for entry in self._entries.values():
                    if entry.lease is not None and entry.reference.scheme == scheme:
                        entry.lease = replace(entry.lease, renewable=False)
                        entry.renew_at = now

    def _renew(self, entry: _Entry, now: float) -> list[Secret]:
        lease = entry.lease
        assert lease is not None  # noqa: S101 - only what has a lease has a time to renew it
        if lease.renewable:
            try:
                renewed = self._leasing(entry).renew(lease)
            except SecretError:
                pass  # past the longest time of its role, for example; where the store is down, the next step says so
            else:
                if renewed.seconds >= lease.seconds / 2:
                    entry.leased(renewed, time.monotonic())
                    return []
        # It will not go on: take a new credential while the old one still works.
        secrets = self._exchange(entry)
        if self._entries.get(entry.reference.place) is entry:  # the store could not be asked: try again soon
            left = entry.expires_at - now
            entry.renew_at = now + max(_LEAST_WAIT_S, left / 4) if left > 0 else now + 10 * _LEAST_WAIT_S
        return secrets


def _secret(reference: Reference, entry: _Entry) -> Secret:
    lease = entry.lease
    return Secret(
        reference=reference.text,
        scheme=reference.scheme,
        value=entry.value(reference),
        lease_s=lease.seconds if lease is not None else 0.0,
        renewable=lease.renewable if lease is not None else False,
    )


def _with_key(reference: Reference, key: tuple[str, ...]) -> Reference:
    """The reference to another member of the same document."""
    from callgate.vault.reference import quoted

    address, _, options = reference.text.partition("?")
    address = address.partition("#")[0]
    text = address + ("#" + ".".join(map(quoted, key)) if key else "") + (f"?{options}" if options else "")
    return Reference(reference.scheme, reference.parts, key, reference.options, text)
