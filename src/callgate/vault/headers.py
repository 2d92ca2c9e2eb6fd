"""Headers of a server behind a URL: the gate adds them itself, with their references resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callgate.errors import SecretError
from callgate.vault.delivered import Fact, as_bytes, literal_notice, shown
from callgate.vault.known_tokens import prefix_of
from callgate.vault.reference import is_reference, split

if TYPE_CHECKING:
    from callgate.vault.redaction import Redactor
    from callgate.vault.session import Session


@dataclass(frozen=True, slots=True)
class ResolvedHeaders:
    """Headers the gate adds towards a server behind a URL."""

    headers: Mapping[str, str] = field(repr=False)
    redactor: Redactor | None = None
    facts: tuple[Fact, ...] = ()
    notices: tuple[str, ...] = ()


def resolve_headers(headers: Mapping[str, str], session: Session | None) -> ResolvedHeaders:
    """`headers` with their references resolved. `session` may be None where there are none. Raises SecretError."""
    found: dict[str, str] = {}
    values: list[tuple[str, bytes]] = []
    facts: list[Fact] = []
    notices: list[str] = []
    for name, text in headers.items():
        if not is_reference(text):
            found[name] = text
            words = [word for word in text.split() if prefix_of(word)]
            if words:
                values += [(name, as_bytes(word)) for word in words]
                facts.append(Fact(name, "literal", "header"))
                notices.append(literal_notice(name))
            continue
        if session is None:
            raise SecretError("there are references in headers, but no session", next_step="open a Session")
        out: list[str] = []
        for part in split(text):
            if isinstance(part, str):
                out.append(part)
                continue
            value = session.get(part).value
            if not value.isascii() or not value.decode("ascii").isprintable():
                raise SecretError(
                    f"{part.text} is not one line of ASCII, so it cannot stand in the header {shown(name)}",
                    next_step="check what is stored, and whether a key (#name) is missing",
                )
            values.append((name, value))
            facts.append(Fact(name, part.scheme, "header", note="added by the gate"))
            out.append(value.decode("ascii"))
        found[name] = "".join(out)
    if not values:
        return ResolvedHeaders(headers)
    from callgate.vault.redaction import Redactor

    return ResolvedHeaders(found, Redactor(values), tuple(facts), tuple(notices))
