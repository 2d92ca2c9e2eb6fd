"""Headers for a server that speaks HTTP, with references replaced by what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def resolved_headers(headers: Mapping[str, str], state: Path, server: str) -> dict[str, str]:
    """The headers to send. Raises SecretError. Where there is no reference and no credential, nothing is loaded.

    What was resolved is taken out of all that `server` says. A lease is kept alive as long as callgate runs.
    """
    if not headers:
        return {}
    from callgate.vault import active
    from callgate.vault.delivery import has_secrets, resolve_headers

    session = None
    if has_secrets(headers, {}):
        import atexit

        from callgate.vault.session import Session

        session = Session(state)
        atexit.register(session.close)
    resolved = resolve_headers(headers, session)
    if resolved.redactor is not None:
        active.register(server, resolved.redactor)
    return dict(resolved.headers)
