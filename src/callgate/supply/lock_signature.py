"""The signature of a `callgate.lock`, in `callgate.lock.sig` beside it: signing, co-signing, verifying.

`verify_lock` is the full check. `verify_at_launch` asks for the same and remembers the answer under the digests of the
lock, the signature file and the keys: unchanged files cost three hashes, no import of cryptography.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.errors import TrustError
from callgate.text import visible

if TYPE_CHECKING:
    from datetime import datetime

    from callgate.supply.signers import Signer

SIGNATURE_BYTES = 16 * 1024 * 1024
_CACHE = "verified-locks"
_CACHE_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class LockSignatures:
    """Who signed a lock. `signers` are key ids with the files the keys came from; `sha256` is of the lock's bytes."""

    signers: tuple[tuple[str, str], ...]
    threshold: int
    lock: str
    counter: int
    issued: str
    sha256: str


def _now() -> datetime:
    # datetime costs a millisecond to import, and a remembered answer needs no time.
    from datetime import UTC, datetime

    return datetime.now(UTC)


def signature_path(lock: Path) -> Path:
    """Where the signatures of a lock lie."""
    return lock.with_name(lock.name + ".sig")


def sign_lock(lock: Path, signer: Signer, state: Path, now: datetime | None = None) -> LockSignatures:
    """Sign the lock as it is, atomically. Raises TrustError.

    When the signature file is about exactly this lock, the signature is added to it; else the lock is a new version:
    it keeps its id, its counter grows, and it has this one signature.
    """
    from callgate.supply import dsse, seen, statement
    from callgate.supply.keys import key_id
    from callgate.supply.place import read, write

    now = now or _now()
    content = read(lock, statement.LOCK_BYTES, "lock")
    beside = signature_path(lock)
    known = seen.last_seen(state, lock)
    before = None
    if beside.exists():
        try:
            before = dsse.parse(read(beside, SIGNATURE_BYTES, "signature file"))
            old = statement.read(before.payload)
        except TrustError:
            before = None  # what cannot be read is replaced by what can
    envelope = None
    lock_id = known.lock if known else os.urandom(16).hex()
    counter = max(int(now.timestamp() * 1000), known.counter + 1 if known else 0)
    if before is not None:
        lock_id = known.lock if known else old.lock
        try:
            statement.check(old, content, now)
        except TrustError:
            counter = max(counter, min(old.counter, int(now.timestamp() * 1000)) + 1)
        else:
            envelope = before
            if known and (old.lock != known.lock or old.counter < known.counter):
                raise TrustError(
                    f"{visible(str(beside), 300)} is older than the one used before, or of another lock",
                    effect="nothing was signed",
                    next_step="get the newest one, or go back on purpose: callgate trust sign --forget",
                )
    if envelope is None:
        envelope = dsse.Envelope(statement.make(content, lock_id, counter, now), dsse.IN_TOTO, {})
    made = dsse.sign(envelope, signer)
    written = statement.read(made.payload)
    statement.check(written, content, now)
    write(beside, made.to_json(), 0o644)
    seen.accept(state, lock, written)
    name = key_id(signer.public())
    sha256 = hashlib.sha256(content).hexdigest()
    return LockSignatures(((name, ""),), 1, written.lock, written.counter, written.issued, sha256)


def verify_lock(
    lock: Path, signers: Sequence[Path], threshold: int, state: Path, now: datetime | None = None
) -> LockSignatures:
    """Check that at least `threshold` different keys of `signers` (PEM files) signed the lock as it is.

    Raises TrustError: not signed, changed since, too few or other signers, older than one seen before.
    """
    return _verify(lock, signers, threshold, state, now or _now(), quick=False)


def verify_at_launch(
    lock: Path, signers: Sequence[Path], threshold: int, state: Path, now: datetime | None = None
) -> str:
    """As `verify_lock`, from memory where nothing changed since the last time. Raises TrustError.

    Returns the SHA-256 of the lock that was verified: who read it before compares, so that no other was used.
    """
    digest, sha256 = _digest(lock, signers, threshold)
    place = str(state / "trust" / _CACHE)
    if digest and _remembered(place, digest, os.path.realpath(lock)):
        return sha256
    found = _verify(lock, signers, threshold, state, now or _now(), quick=True)
    if digest and (digest, found.sha256) == _digest(lock, signers, threshold):
        _remember(place, digest, os.path.realpath(lock))
    return found.sha256


def _verify(
    lock: Path, signers: Sequence[Path], threshold: int, state: Path, now: datetime, *, quick: bool
) -> LockSignatures:
    from callgate.supply import dsse, seen, statement
    from callgate.supply.keys import load_public_keys
    from callgate.supply.place import read

    keys = load_public_keys(signers, threshold)
    content = read(lock, statement.LOCK_BYTES, "lock")
    beside = signature_path(lock)
    if not beside.exists():
        raise TrustError(
            f"{visible(str(lock), 300)} is not signed",
            next_step=f"have it signed by {threshold} of the {len(keys)} named signers: callgate trust sign",
        )
    envelope = dsse.parse(read(beside, SIGNATURE_BYTES, "signature file"))
    verify = dsse.verify_quickly if quick else dsse.verify
    held = verify(envelope, {name: key for name, (key, _) in keys.items()}, threshold)
    about = statement.read(envelope.payload)
    statement.check(about, content, now)
    seen.accept(state, lock, about)
    names = tuple((name, str(keys[name][1])) for name in held)
    sha256 = hashlib.sha256(content).hexdigest()
    return LockSignatures(names, threshold, about.lock, about.counter, about.issued, sha256)


def _digest(lock: Path, signers: Sequence[Path], threshold: int) -> tuple[str, str]:
    """One digest over everything the answer depends on ('' where a file cannot be read), and the lock's own."""
    total = hashlib.sha256(b"callgate lock verified 1\n%d\n" % threshold)
    own = ""
    try:
        for path in (lock, signature_path(lock), *signers):
            with open(path, "rb") as file:
                data = file.read(SIGNATURE_BYTES + 1)
            one = hashlib.sha256(data)
            own = own or one.hexdigest()
            total.update(one.digest())
    except OSError:
        return "", ""
    return total.hexdigest(), own


def _remembered(place: str, digest: str, lock: str) -> bool:
    """Whether the last answer for this lock was about the same files. A file others can write to is not believed."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return False
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return False
    return f"{digest} {lock!r}" in lines


def _remember(place: str, digest: str, lock: str) -> None:
    """Keep one answer a lock: an older version of it must be checked again, and is then refused."""
    from callgate.supply.place import write

    kept: list[str] = []
    try:
        with open(place, encoding="utf-8", errors="surrogateescape") as file:
            kept = [line for line in file.read(1 << 20).splitlines() if not line.endswith(f" {lock!r}")]
    except OSError:
        pass
    lines = [*kept[-_CACHE_ENTRIES:], f"{digest} {lock!r}"]
    write(Path(place), "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n")
