"""The CA certificates this machine trusts, as one PEM file."""

from __future__ import annotations

import os

from callgate.errors import SandboxError

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",  # older RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD, Alpine
)
MAX_BUNDLE = 8 * 1024 * 1024


def bundle_path() -> str:
    """SSL_CERT_FILE where callgate itself was given one, else the system's bundle, else certifi's.

    Raises SandboxError: without authorities no upstream can be verified.
    """
    own = os.environ.get("SSL_CERT_FILE", "")
    for path in (own, *BUNDLES) if own else BUNDLES:
        if os.access(path, os.R_OK):
            return os.path.realpath(path)
    try:
        import certifi
    except ImportError:
        raise SandboxError(
            "there is no file with CA certificates on this machine",
            next_step="install ca-certificates (apt install ca-certificates), or set SSL_CERT_FILE",
        ) from None
    return certifi.where()


def bundle(path: str) -> bytes:
    """The certificates in `path`. Raises SandboxError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise SandboxError(f"cannot read the CA certificates in {path!r}: {error.strerror}") from error
    if len(data) > MAX_BUNDLE or b"-----BEGIN CERTIFICATE-----" not in data:
        raise SandboxError(
            f"{path!r} is not a file of CA certificates", next_step="set SSL_CERT_FILE to a PEM bundle, or unset it"
        )
    return data if data.endswith(b"\n") else data + b"\n"
