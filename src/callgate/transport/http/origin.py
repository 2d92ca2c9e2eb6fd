"""Where an upstream is: the parts of its URL, checked, and how its certificate is verified."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from callgate.errors import ConfigError


class Origin:
    """Where requests go: scheme, host and port of a URL, or a unix socket; and the request target."""

    __slots__ = ("host", "host_header", "port", "target", "tls", "unix")

    def __init__(self, url: str, *, unix: str = "") -> None:
        shown = ""
        try:
            parts = urlsplit(url)
            shown = f"{parts.scheme}://{parts.hostname or ''}"
            port = parts.port
            name = (parts.hostname or "").encode("idna").decode()
        except ValueError:  # brackets without an address, no such port, a name that could be nobody's
            port = 0
        if port == 0 or parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigError(
                f"{shown}… is not a usable server URL",  # the rest may hold a secret
                next_step='write "https://HOST[:PORT]/PATH"; credentials go into the headers table, not into the URL',
            )
        self.unix = unix
        self.tls = tls_context() if parts.scheme == "https" else None
        self.host = parts.hostname
        self.port = port or (443 if self.tls else 80)
        name = f"[{self.host}]" if ":" in self.host else name
        default = 443 if self.tls else 80
        self.host_header = (name if self.port == default else f"{name}:{self.port}").encode()
        target = parts.path or "/"
        if parts.query:
            target += "?" + parts.query
        if not target.isascii() or any(c <= " " or c == "\x7f" for c in target):
            raise ConfigError(f"{url!r} has characters that a URL may not have", next_step="percent-encode them")
        self.target = target.encode()


def tls_context() -> ssl.SSLContext:
    """Certificates verified against the system's authorities, names checked, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
