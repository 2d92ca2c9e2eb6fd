"""The signature of an MCPB bundle: ZIP ‖ `MCPB_SIG_V1` ‖ u32 little-endian length ‖ PKCS#7 (DER) ‖ `MCPB_SIG_END`.

The PKCS#7 SignedData (RFC 5652) is detached and covers the ZIP. Newer signing tools write the signature block's length
into the ZIP's end record as its comment length, after signing; those two bytes are then also tried as zero.
The reference tool's own `verify` cannot succeed, so a signature is worth what the pinned certificate is worth.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callgate.errors import TrustError
from callgate.supply.place import read
from callgate.supply.provenance import Provenance, needs_extra
from callgate.text import visible

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MAGIC, END = b"MCPB_SIG_V1", b"MCPB_SIG_END"
BUNDLE_BYTES = 512 * 1024 * 1024
SIGNATURE_BYTES = 1024 * 1024
_EOCD = b"PK\x05\x06"
_HASHES = {"sha256", "sha384", "sha512"}
_GET_AGAIN = "do not use this bundle; get it again from its publisher"


@dataclass(frozen=True, slots=True)
class Parts:
    """A bundle taken apart. `zip` is what is unpacked; `signed` the byte strings one of which the signature covers."""

    zip: bytes
    signature: bytes
    signed: tuple[bytes, ...]


def split(data: bytes) -> Parts:
    """The ZIP and the signature block; an unsigned bundle has an empty signature. Raises TrustError."""
    if not data.endswith(END):
        if MAGIC in data[-(SIGNATURE_BYTES + 64) :] and not _is_inside_zip(data):
            raise TrustError("the bundle's signature block does not end as it must", next_step=_GET_AGAIN)
        return Parts(data, b"", ())
    at = data.rfind(MAGIC)
    while at >= 0:
        (length,) = struct.unpack_from("<I", data, at + len(MAGIC))
        if at + len(MAGIC) + 4 + length + len(END) == len(data):
            break
        at = data.rfind(MAGIC, 0, at)
    if at < 0 or length > SIGNATURE_BYTES:
        raise TrustError("the bundle's signature block is malformed", next_step=_GET_AGAIN)
    content, block = data[:at], len(data) - at
    signature = data[at + len(MAGIC) + 4 : -len(END)]
    plain = _without_comment(content, block)
    return Parts(plain or content, signature, (content, plain) if plain else (content,))


def _without_comment(content: bytes, block: int) -> bytes:
    """The ZIP with a comment length of zero, where it says that the signature block is its comment."""
    at = len(content) - 22
    if at >= 0 and content[at : at + 4] == _EOCD and struct.unpack_from("<H", content, at + 20)[0] == block & 0xFFFF:
        return content[:-2] + b"\0\0"
    return b""


def _is_inside_zip(data: bytes) -> bool:
    """Whether the ZIP's end record closes the file, so that the magic is only some member's content."""
    at = data.rfind(_EOCD)
    return at >= 0 and len(data) >= at + 22 and at + 22 + struct.unpack_from("<H", data, at + 20)[0] == len(data)


def verify(bundle: Path | bytes, pinned: Collection[str] = (), now: datetime | None = None) -> Provenance:
    """Verify a bundle's signature. Raises TrustError for an unsigned, changed or wrongly signed one.

    `pinned`: SHA-256 fingerprints (hexadecimal) of certificates the user trusts: the signer's own, or one of the chain
    in the bundle that leads from it. Without a pinned one the result is not `trusted`. The certificate must be valid
    `now`: a bundle carries no proof of when it was signed.
    """
    data = bundle if isinstance(bundle, bytes) else read(bundle, BUNDLE_BYTES, "bundle")
    parts = split(data)
    if not parts.signature:
        raise TrustError("the bundle is not signed", next_step="pin it by its digest: callgate trust lock")
    try:
        from asn1crypto import cms  # type: ignore[import-untyped]
    except ImportError as error:
        raise needs_extra(error) from error
    try:
        document = cms.ContentInfo.load(parts.signature, strict=True)
        if document["content_type"].native != "signed_data":
            raise _bad("it is not signed data")
        chain, info = _signer(document["content"])
        digest = _content_digest(info, parts.signed)
        _check(chain[0], info)
        return _result(chain, digest, {one.lower().replace(":", "") for one in pinned}, now or datetime.now(UTC))
    except TrustError:
        raise
    except Exception as error:  # asn1crypto raises what it likes on hostile bytes
        raise _bad(f"it cannot be read ({type(error).__name__})") from error


def _bad(why: str) -> TrustError:
    return TrustError(f"the bundle's signature does not hold: {why}", next_step=_GET_AGAIN)


def _signer(signed: Any) -> tuple[list[Certificate], Any]:
    """The signer's certificate with those that issued it, and the one SignerInfo."""
    from cryptography import x509

    if len(signed["signer_infos"]) != 1:
        raise _bad(f"it has {len(signed['signer_infos'])} signers, not one")
    if signed["encap_content_info"]["content"].native is not None:
        raise _bad("it carries a content of its own")
    info = signed["signer_infos"][0]
    certificates = [x509.load_der_x509_certificate(one.chosen.dump()) for one in list(signed["certificates"])[:16]]
    name = info["sid"].name
    leaf = None
    for certificate in certificates:
        if name == "issuer_and_serial_number":
            wanted = info["sid"].chosen
            same = certificate.serial_number == wanted["serial_number"].native
            if same and certificate.issuer.public_bytes() == wanted["issuer"].dump():
                leaf = certificate
        else:
            keys = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            if keys.value.digest == info["sid"].chosen.native:
                leaf = certificate
    if leaf is None:
        raise _bad("the signer's certificate is not in it")
    chain = [leaf]
    while len(chain) < len(certificates):
        issuer = next((one for one in certificates if one not in chain and _issued(chain[-1], one)), None)
        if issuer is None:
            break
        chain.append(issuer)
    return chain, info


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return constraints.value.ca


def _content_digest(info: Any, candidates: tuple[bytes, ...]) -> str:
    """SHA-256 of the bytes the signature covers."""
    name = info["digest_algorithm"]["algorithm"].native
    if name not in _HASHES:
        raise _bad(f"its digest is {visible(str(name), 40)}")
    values: dict[str, list[Any]] = {}
    for attribute in info["signed_attrs"]:
        kind = attribute["type"].native
        if kind in values:
            raise _bad("it has an attribute twice")
        values[kind] = attribute["values"].native
    if values.get("content_type") != ["data"] or len(values.get("message_digest", [])) != 1:
        raise _bad("it lacks the attributes that bind it to the content")
    for candidate in candidates:
        if hashlib.new(name, candidate).digest() == values["message_digest"][0]:
            return hashlib.sha256(candidate).hexdigest()
    raise _bad("the bundle was changed after it was signed")


def _check(certificate: Certificate, info: Any) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    # What is signed is the SET OF as it was encoded, under its own tag (RFC 5652, section 5.4).
    data = b"\x31" + info["signed_attrs"].dump()[1:]
    signature = info["signature"].native
    digest = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[
        info["digest_algorithm"]["algorithm"].native
    ]
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < 2048:
                raise _bad(f"its RSA key has only {key.key_size} bits")
            if info["signature_algorithm"].signature_algo != "rsassa_pkcs1v15":
                raise _bad("its kind of RSA signature is not read")
            key.verify(signature, data, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(digest))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            raise _bad("its kind of key is not read")
    except InvalidSignature as error:
        raise _bad("it was not made with the certificate's key") from error


def _result(chain: list[Certificate], digest: str, pinned: set[str], now: datetime) -> Provenance:
    from cryptography.hazmat.primitives import hashes

    leaf = chain[0]
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise _bad(
            f"its certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
        )
    prints = [one.fingerprint(hashes.SHA256()).hex() for one in chain]
    hit = next((one for one in prints if one in pinned), "")
    self_signed = leaf.issuer == leaf.subject
    return Provenance(
        kind="mcpb",
        digest=f"sha256:{digest}",
        how=f"PKCS#7 signature over the ZIP by certificate sha256:{prints[0]}, "
        + (f"pinned as sha256:{hit}" if hit else "which nobody pinned"),
        issuer="self" if self_signed else leaf.issuer.rfc4514_string(),
        subject=leaf.subject.rfc4514_string(),
        trusted=bool(hit),
        key="" if hit else f"sha256:{prints[0]}",
    )
