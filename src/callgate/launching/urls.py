"""A server's URL with references in it: `https://host/mcp?token=<keyring://callgate/name>`.

References stand after the host only, so what is stored never says where to connect. A value is percent-encoded where
it is put in, and read once, at the start: a leased or rotated one takes effect when the gate starts again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from callgate.errors import SecretError

if TYPE_CHECKING:
    from callgate.vault.session import Session


def resolved_url(url: str, state: Path, server: str) -> tuple[str, Session | None]:
    """The URL to connect to, and what is to be closed at the end. Without references nothing is loaded.

    What was resolved is taken out of all that `server` says. Raises SecretError.
    """
    if "<" not in url:
        return url, None
    from urllib.parse import quote

    from callgate.vault import active
    from callgate.vault.redaction import Redactor
    from callgate.vault.reference import Reference, split
    from callgate.vault.session import Session

    pieces = split(url)
    named = [piece for piece in pieces if isinstance(piece, Reference)]
    if not named:
        return url, None
    first = pieces[0]
    place = first.partition("://")[2] if isinstance(first, str) else ""
    if not any(mark in place for mark in "/?"):
        raise SecretError(
            "a reference to a secret stands in the host of a server's URL",
            next_step="write host and port as they are; references stand in the path or the query",
        )
    if not all(piece.isascii() and piece.isprintable() and " " not in piece for piece in pieces if type(piece) is str):
        raise SecretError("a server's URL has characters that a URL may not have", next_step="percent-encode them")
    session = Session(state)
    try:
        values = {piece.text: session.get(piece).value for piece in named}
        text = "".join(piece if isinstance(piece, str) else quote(values[piece.text], safe="") for piece in pieces)
    except BaseException:
        session.close()
        raise
    active.register(server, Redactor([("url", value) for value in values.values()]))
    return text, session
