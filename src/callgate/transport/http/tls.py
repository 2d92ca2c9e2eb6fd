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
    _load(context, listen)
    return context


def load(context: ssl.SSLContext, listen: ListenConfig) -> None:
    """Read the certificate and key again: new handshakes use what was read last. Raises ConfigError."""
    server_context(listen)  # a context that takes a certificate and then not its key can do no handshake any more
    _load(context, listen)


def _load(context: ssl.SSLContext, listen: ListenConfig) -> None:
    try:
        context.load_cert_chain(listen.tls_certificate, listen.tls_key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or "not a PEM certificate and key"
        raise ConfigError(
            f"cannot use {listen.tls_certificate} with {listen.tls_key}: {reason}",
            next_step="check that both are readable PEM files, belong together, and the key has no passphrase",
        ) from error


def _no_password() -> str:
    """Without this, OpenSSL would ask on the terminal for the passphrase of an encrypted key."""
    return ""
