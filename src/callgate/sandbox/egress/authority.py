"""The session's own certificate authority, for the sandbox alone: made before each start, gone with it.

It may only vouch for the hosts of the server's sentinels (critical name constraints, RFC 5280 §4.2.1.10), its key
lives in memory only, and nothing outside of the sandbox ever trusts it.

`issue` is on the path of a launch, so it writes the certificate's few DER fields itself: `cryptography.x509` costs
25 ms to import, while key and signature alone take 12. Leaves are made with `cryptography.x509`, in the gate's process.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "callgate session CA"
DAYS = 365
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_BEFORE_S = 3600
"""Clocks differ a little."""


def issue(hosts: Iterable[str]) -> tuple[bytes, bytes]:
    """A self-signed ECDSA P-256 authority for `hosts` (names and `*.NAME`): certificate and key, both PEM."""
    from binascii import b2a_base64
    from hashlib import sha1  # an identifier of the key, as RFC 5280 §4.2.1.2 writes it: not a signature

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:  # where `ec` itself has them from; the public package also imports SSH keys, for 5 ms
        from cryptography.hazmat.primitives._serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    except ImportError:
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    name = _der(0x30, _der(0x31, _der(0x30, bytes.fromhex("0603550403"), _der(0x0C, NAME.encode()))))
    now = int(time.time())
    permitted = [_der(0x30, _der(0x82, host.removeprefix("*.").encode("ascii"))) for host in sorted(set(hosts))]
    extensions = _der(
        0x30,
        _extension("551d13", _der(0x30, b"\x01\x01\xff", b"\x02\x01\x00"), critical=True),  # CA, no CA below it
        _extension("551d0f", b"\x03\x02\x01\x06", critical=True),  # signs certificates and CRLs
        _extension("551d0e", _der(0x04, sha1(point, usedforsecurity=False).digest())),
        _extension("551d1e", _der(0x30, _der(0xA0, *permitted)), critical=True),
    )
    body = _der(
        0x30,
        b"\xa0\x03\x02\x01\x02",  # version 3
        _der(0x02, b"\x01" + os.urandom(15)),
        _ECDSA_SHA256,
        name,
        _der(0x30, _time(now - _BEFORE_S), _time(now + DAYS * 86400)),
        name,
        spki,
        _der(0xA3, extensions),
    )
    signature = key.sign(body, ec.ECDSA(hashes.SHA256()))
    certificate = _der(0x30, body, _ECDSA_SHA256, _der(0x03, b"\x00", signature))
    text = b2a_base64(certificate, newline=False)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    pem = b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"
    return pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    width = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | width)) + size.to_bytes(width, "big") + content


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    return _der(0x30, _der(0x06, bytes.fromhex(oid)), b"\x01\x01\xff" if critical else b"", _der(0x04, value))


def _time(seconds: int) -> bytes:
    """UTCTime until 2049, GeneralizedTime from then on (RFC 5280 §4.1.2.5)."""
    moment = time.gmtime(seconds)
    if moment.tm_year < 2050:
        return _der(0x17, time.strftime("%y%m%d%H%M%SZ", moment).encode())
    return _der(0x18, time.strftime("%Y%m%d%H%M%SZ", moment).encode())
