"""TLS on the listening side."""

from __future__ import annotations

import ssl

from callgate.config import ListenConfig
from callgate.errors import ConfigError


def server_context(listen: ListenConfig) -> ssl.SSLContext | None:
    """The context for `tls_certificate` and `tls_key`, TLS 1.2 or newer; None where neither is set.

    Raises ConfigError.
    """
    if not listen.tls_certificate and not listen.tls_key:
        return None
    if not listen.tls_certificate or not listen.tls_key:
        raise ConfigError(
            "listen.tls_certificate and listen.tls_key go together", next_step="set both, in PEM, or neither"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(listen.tls_certificate, listen.tls_key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or "not a PEM certificate and key"
        raise ConfigError(
            f"cannot use {listen.tls_certificate} with {listen.tls_key}: {reason}",
            next_step="check that both are readable PEM files, belong together, and the key has no passphrase",
        ) from error
    return context


def renew(context: ssl.SSLContext, fresh: ssl.SSLContext) -> None:
    """Let what listens with `context` do new handshakes with `fresh`.

    A certificate and key are never read into a context that is in use: one that takes a certificate and then not its
    key can do no handshake any more.
    """

    def hand_over(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = fresh  # whether the client names a server or not

    context.sni_callback = hand_over


def _no_password() -> str:
    """Without this, OpenSSL would ask on the terminal for the passphrase of an encrypted key."""
    return ""
