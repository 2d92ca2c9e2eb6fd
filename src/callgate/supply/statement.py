"""What is signed: an in-toto Statement v1 about one `callgate.lock`.

| member | what |
|---|---|
| `subject[0]` | `callgate.lock` with the SHA-256 of its bytes |
| further subjects | every artefact the lock names with a digest: its purl (or name) and SHA-256 or SHA-512 |
| `predicateType` | `urn:callgate:lock:1` |
| `predicate.lock` | an id drawn when the lock was first signed; it stays when the lock changes |
| `predicate.counter` | grows with every version signed: milliseconds since 1970, or one more than the last |
| `predicate.issued` | the time of signing, RFC 3339 |
| `predicate.entries` | SHA-256 of the canonical JSON (RFC 8785) of `servers` |
| `predicate.servers` | the same of each entry, by name |
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from callgate.errors import TrustError
from callgate.supply.place import parse_object
from callgate.text import visible
from callgate.trust.canonical import canonical, digest

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:callgate:lock:1"
LOCK_NAME = "callgate.lock"
LOCK_BYTES = 16 * 1024 * 1024
MOST_SUBJECTS = 100_000
AHEAD_S = 24 * 3600
"""How far a signer's clock may be ahead."""
_SIZES = {"sha256": 64, "sha384": 96, "sha512": 128}
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class LockStatement:
    """A statement that was read."""

    lock: str
    counter: int
    issued: str
    payload: bytes

    def content(self) -> dict[str, Any]:
        """All but id, counter and time: what must be equal for two signers to sign the same."""
        return _content(parse_object(self.payload, "the statement"))


def make(lock: bytes, lock_id: str, counter: int, now: datetime) -> bytes:
    """The statement about a lock, as canonical JSON. Raises TrustError for a lock that is not one."""
    servers = _servers(lock)
    return canonical(
        {
            "_type": STATEMENT,
            "subject": [
                {"name": LOCK_NAME, "digest": {"sha256": hashlib.sha256(lock).hexdigest()}},
                *({"name": name, "digest": {kind: value}} for name, kind, value in subjects(servers)),
            ],
            "predicateType": PREDICATE,
            "predicate": {
                "lock": lock_id,
                "counter": counter,
                "issued": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "entries": digest(servers),
                "servers": {name: digest(entry) for name, entry in servers.items()},
            },
        }
    )


def read(payload: bytes) -> LockStatement:
    """A statement from a verified envelope. Raises TrustError."""
    document = parse_object(payload, "the statement")
    predicate = document.get("predicate")
    if document.get("_type") != STATEMENT or document.get("predicateType") != PREDICATE:
        raise _bad("it is not about a callgate.lock")
    if not isinstance(predicate, dict):
        raise _bad("its predicate is missing")
    lock, counter, issued = (predicate.get(name) for name in ("lock", "counter", "issued"))
    if not isinstance(lock, str) or not _ID.fullmatch(lock) or not isinstance(issued, str):
        raise _bad("its id or time is missing")
    if type(counter) is not int or not 0 < counter < 2**53:
        raise _bad("its counter is missing")
    return LockStatement(lock, counter, issued, payload)


def check(statement: LockStatement, lock: bytes, now: datetime) -> None:
    """That the statement is about these bytes, in all its members. Raises TrustError."""
    content = statement.content()
    subject = content["subject"]
    first = subject[0] if isinstance(subject, list) and subject else None
    if first != {"name": LOCK_NAME, "digest": {"sha256": hashlib.sha256(lock).hexdigest()}}:
        raise TrustError(
            "callgate.lock was changed after it was signed",
            next_step="see what changed, then sign it again: callgate trust sign",
        )
    if content != _content(parse_object(make(lock, statement.lock, statement.counter, now), "the statement")):
        raise _bad("it says something else about the lock than the lock itself")
    if statement.counter > (now.timestamp() + AHEAD_S) * 1000:
        raise _bad(f"it was signed in the future ({visible(statement.issued, 40)}): is this clock right?")


def _content(document: dict[str, Any]) -> dict[str, Any]:
    predicate = document.get("predicate")
    kept = {key: value for key, value in predicate.items() if key not in ("lock", "counter", "issued")}  # type: ignore[union-attr]
    return {**document, "predicate": kept}


def _bad(why: str) -> TrustError:
    return TrustError(f"the statement does not hold: {why}", next_step="sign the lock again: callgate trust sign")


def _servers(lock: bytes) -> dict[str, Any]:
    servers = parse_object(lock, LOCK_NAME, LOCK_BYTES).get("servers")
    if not isinstance(servers, dict):
        raise TrustError("callgate.lock has no servers", next_step="make it anew: callgate trust lock")
    return servers


def subjects(servers: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, algorithm and hexadecimal digest of everything in the lock that has a name and a digest, once each.

    A digest is `sha256:HEX`, `sha512:HEX`, `sha512-BASE64` (npm's integrity), or HEX in a member named `sha256`.
    """
    seen: set[tuple[str, str, str]] = set()
    waiting: list[tuple[str, Any]] = [(name, entry) for name, entry in sorted(servers.items())]
    while waiting:
        name, value = waiting.pop(0)
        if isinstance(value, list):
            waiting = [(name, one) for one in value] + waiting
        if not isinstance(value, dict):
            continue
        called = next((value[key] for key in ("purl", "name", "path") if isinstance(value.get(key), str)), name)
        inner = []
        for key, one in sorted(value.items()):
            found = _digest(key, one) if isinstance(one, str) else None
            if found and (called, *found) not in seen:
                seen.add((called, *found))
                if len(seen) > MOST_SUBJECTS:
                    raise TrustError(
                        f"callgate.lock names more than {MOST_SUBJECTS} artefacts", next_step="split it in several"
                    )
                yield called, *found
            if isinstance(one, (dict, list)):
                inner.append((called, one))
        waiting = inner + waiting


def _digest(key: str, text: str) -> tuple[str, str] | None:
    kind, _, rest = text.partition(":" if ":" in text else "-")
    if not rest and key in _SIZES:
        kind, rest = key, text
    if kind not in _SIZES:
        return None
    if len(rest) != _SIZES[kind]:
        try:
            rest = b64decode(rest, validate=True).hex()
        except (ValueError, binascii.Error):
            return None
    rest = rest.lower()
    return (kind, rest) if len(rest) == _SIZES[kind] and set(rest) <= set("0123456789abcdef") else None
