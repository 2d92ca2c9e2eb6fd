"""What a lock says of an artefact's provenance: who published it, that nobody says so, or that it was not looked at.

    {"state": "verified", "npm-provenance": {...}, "npm-registry-signature": {...}}
    {"state": "none served"}
    {"state": "not checked: callgate[sign] is not installed"}

Each member beside `state` is a verified statement (`Provenance.as_record`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from callgate.errors import TrustError
from callgate.supply.provenance import CAUTION, Provenance, repository_name
from callgate.text import visible

VERIFIED: Final = "verified"
NONE: Final = "none served"
NOT_CHECKED: Final = "not checked"
_STATEMENTS: Final = ("npm-provenance", "pep740", "mcpb")
"""Kinds that say who made it; a registry's own signature says that it took it in."""

_SHOWN: Final = (("workflow", "workflow"), ("commit", "commit"), ("builder", "builder"), ("log_index", "log entry"))


def not_checked(why: str) -> dict[str, Any]:
    """`why` is one line, safe to print."""
    return {"state": f"{NOT_CHECKED}: {why}"}


def verified(found: Iterable[Provenance]) -> dict[str, Any]:
    """The record of verified statements about one artefact. Raises TrustError where they name several makers."""
    record: dict[str, Any] = {"state": VERIFIED}
    for one in found:
        before = record.get(one.kind)
        now = one.as_record()
        if before is not None and _who(before) != _who(now):
            raise TrustError(
                f"two statements name different makers: {_named(before)}, {_named(now)}",
                next_step="do not take it; ask the publisher",
            )
        record.setdefault(one.kind, now)
    return record


def statement_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The statement that says who made it; {} where none was verified."""
    for kind in _STATEMENTS:
        found = record.get(kind)
        if isinstance(found, Mapping):
            return found
    return {}


def state_of(record: Mapping[str, Any]) -> str:
    """`verified`, `none served` or `not checked: why`, safe to print; '' where there is nothing to serve any."""
    state = record.get("state")
    if isinstance(state, str):
        return visible(state, 300)
    return VERIFIED if statement_of(record) else ""


def describe(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines for a person, safe to print."""
    found = statement_of(record)
    if not found:
        state = state_of(record)
        if state:
            yield f"provenance: {state}"
    else:
        parts = [f"provenance: made by {_named(found)}"]
        for label, key in (
            ("workflow", "workflow"),
            ("commit", "commit"),
            ("builder", "builder"),
            ("log entry", "log_index"),
        ):
            if found.get(key):
                parts.append(f"{label} {visible(str(found[key]), 120)}")
        if found.get("trusted") is False:
            parts.append("a key nobody named")
        yield f"{', '.join(parts)} ({CAUTION})"
    if isinstance(record.get("npm-registry-signature"), Mapping):
        yield "signed by the registry that serves it"


def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What became of a maker who was known: one line, safe to print; '' while it is the same, or none was known."""
    known, now = statement_of(before), statement_of(after)
    if not known or (now and _who(known) == _who(now)):
        return ""
    became = f"made by {_named(now)}" if now else state_of(after) or NONE
    return f"the provenance was made by {_named(known)}, and is now {became}"


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Another workflow of the same maker, which is no finding; '' where it is the same."""
    old, new = (str(statement_of(one).get("workflow", "")) for one in (before, after))
    return f"its workflow was {visible(old, 120)}, and is now {visible(new, 120)}" if old and new and old != new else ""


def _who(statement: Mapping[str, Any]) -> tuple[str, str, str]:
    """Who vouches, for whom, and the certificate of one whom nobody vouches for."""
    repository = str(statement.get("repository", ""))
    name = repository_name(repository) if repository else str(statement.get("subject", ""))
    return str(statement.get("issuer", "")), name, str(statement.get("key", ""))


def _named(statement: Mapping[str, Any]) -> str:
    issuer, _, key = _who(statement)
    who = statement.get("repository") or statement.get("subject") or "an unnamed key"
    vouched = [f"vouched for by {visible(issuer, 100)}"] if issuer else []
    vouched += [f"certificate {visible(key[:23], 23)}..."] if key else []
    return visible(str(who), 200) + (f" ({', '.join(vouched)})" if vouched else "")
