"""Certificates for the hosts whose TLS is terminated: signed by the session's CA, one a host, kept for a day."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import tempfile
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RENEW_S = 86400.0
_VALID = dt.timedelta(days=7)
_BEFORE = dt.timedelta(hours=1)
MAX_LEAVES = 256


class Leaves:
    """Server-side TLS contexts by host. ALPN is http/1.1 only: HTTP/2 is not read here."""

    def __init__(self, authority: str, key: str) -> None:
        self._authority = x509.load_pem_x509_certificate(authority.encode())
        signer = load_pem_private_key(key.encode(), None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise TypeError("the session CA has an elliptic curve key")
        self._signer = signer
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: dict[str, tuple[float, ssl.SSLContext]] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """For a connection meant for `host`: about 1 ms the first time."""
        made, context = self._contexts.get(host, (0.0, None))
        if context is not None and time.monotonic() - made < RENEW_S:
            return context
        if len(self._contexts) >= MAX_LEAVES:
            self._contexts.clear()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self._load(context, self._certificate(host))
        self._contexts[host] = (time.monotonic(), context)
        return context

    def _certificate(self, host: str) -> bytes:
        now = dt.datetime.now(dt.UTC)
        short = host if len(host) <= 64 else "long name"  # the field's limit; clients read the alternative name
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, short)]))
            .issuer_name(self._authority.subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BEFORE)
            .not_valid_after(min(now + _VALID, self._authority.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    self._authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                critical=False,
            )
            .sign(self._signer, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)

    def _load(self, context: ssl.SSLContext, certificate: bytes) -> None:
        """Python's ssl takes a chain from a file only: one in memory where the system has such."""
        pem = certificate + self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
            try:
                os.write(descriptor, pem)
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)
            return
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # mode 0600
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
