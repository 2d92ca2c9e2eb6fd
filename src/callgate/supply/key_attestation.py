"""In-toto statements about an artefact, signed with bare keys in a DSSE envelope: no certificate, no log.

As `cosign attest --key`, in-toto and SLSA verification summaries make them. Keys are PEM files the user names: Ed25519,
or ECDSA on P-256, P-384 with the hash of its size. A key id in an envelope is only a hint (DSSE 1.0): every key is
tried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callgate.errors import TrustError
from callgate.supply.dsse import IN_TOTO, Envelope, parse
from callgate.supply.keys import KEY_BYTES
from callgate.supply.place import read
from callgate.supply.provenance import Provenance
from callgate.supply.sigstore_bundle import ARTEFACT_BYTES, BUNDLE_BYTES, statement, subject_digest
from callgate.text import visible

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

MOST_KEYS: Final = 64


def verify_attestation(
    envelope: Path | bytes, artefact: Path, keys: Sequence[Path], threshold: int = 1, predicate_type: str = ""
) -> Provenance:
    """Verify that `threshold` different keys signed a statement about the artefact. Raises TrustError.

    `predicate_type`, where given, must be the statement's.
    """
    data = envelope if isinstance(envelope, bytes) else read(envelope, BUNDLE_BYTES, "attestation")
    parsed = parse(data)
    known = _keys(keys, threshold)
    held = [name for name, key in known.items() if any(_holds(key, parsed, one) for one in parsed.signatures.values())]
    if len(held) < threshold:
        raise TrustError(
            f"{len(held)} of the {threshold} signatures that are asked for hold",
            next_step="ask the publisher which key signs; do not take a key from where the artefact came from",
        )
    document = statement(IN_TOTO, parsed.payload)
    kind = document.get("predicateType")
    if predicate_type and kind != predicate_type:
        raise TrustError(
            f"the statement is of type {visible(str(kind), 100)}, not {visible(predicate_type, 100)}",
            next_step="name the attestation of that type",
        )
    content = read(artefact, ARTEFACT_BYTES, "artefact")
    sha256 = hashlib.sha256(content).hexdigest()
    subject_digest(document, {"sha256": sha256, "sha512": hashlib.sha512(content).hexdigest()})
    return Provenance(
        kind="dsse",
        digest=f"sha256:{sha256}",
        how=f"in-toto statement ({visible(str(kind), 100)}) signed with {len(held)} named keys; no log, no time",
        subject=", ".join(held),
    )


def _keys(paths: Sequence[Path], threshold: int) -> dict[str, PublicKeyTypes]:
    """Keys by the SHA-256 of their encoding: one key in two files is one key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    keys: dict[str, PublicKeyTypes] = {}
    for path in paths[:MOST_KEYS]:
        try:
            key = load_pem_public_key(read(path, KEY_BYTES, "public key"))
        except (ValueError, UnsupportedAlgorithm) as error:
            shown = visible(str(path), 300)
            raise TrustError(f"{shown} is not a public key", next_step="name a PEM file with a public key") from error
        encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        keys.setdefault(f"sha256:{hashlib.sha256(encoded).hexdigest()}", key)
    if not 1 <= threshold <= len(keys):
        raise TrustError(
            f"{threshold} signatures are asked for, and there are {len(keys)} different keys",
            next_step="name as many keys as there must be signatures",
        )
    return keys


def _holds(key: Any, envelope: Envelope, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, envelope.pae())
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
            digest = hashes.SHA256() if key.curve.name == "secp256r1" else hashes.SHA384()
            key.verify(signature, envelope.pae(), ec.ECDSA(digest))
        else:
            return False
    except InvalidSignature:
        return False
    return True
