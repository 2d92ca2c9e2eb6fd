"""DSSE envelopes (Dead Simple Signing Envelope 1.0) with Ed25519 keys, one payload and many signatures.

`sign` and `verify` use securesystemslib; importing it takes half a second, so `verify_quickly`, for the way of every
launch, checks the same bytes with `cryptography` alone (15 ms to import). Tests hold both to the same answers.
An envelope is read strictly: canonical base64, no unknown shape, each key id once.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from callgate.errors import TrustError
from callgate.supply.keys import key_id
from callgate.supply.place import parse_object
from callgate.supply.signers import Signer
from callgate.text import visible

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

IN_TOTO = "application/vnd.in-toto+json"
ENVELOPE_BYTES = 16 * 1024 * 1024
MOST_SIGNATURES = 64
_GET_AGAIN = "sign it again: callgate trust sign"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with signatures by key id."""

    payload: bytes
    payload_type: str
    signatures: Mapping[str, bytes]

    def pae(self) -> bytes:
        """The bytes that are signed: the pre-authentication encoding."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)

    def to_json(self) -> bytes:
        """The envelope as its file holds it."""
        document = {
            "payload": b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [{"keyid": key, "sig": b64encode(sig).decode()} for key, sig in self.signatures.items()],
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def parse(data: bytes, payload_type: str = IN_TOTO) -> Envelope:
    """An envelope from its JSON, not yet verified. Raises TrustError."""
    document = parse_object(data, "the signature file", ENVELOPE_BYTES)
    signatures: dict[str, bytes] = {}
    listed = document.get("signatures")
    if document.get("payloadType") != payload_type:
        raise _bad(f"its payload is not {payload_type}")
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_SIGNATURES:
        raise _bad(f"it has no list of 1 to {MOST_SIGNATURES} signatures")
    for one in listed:
        name = one.get("keyid") if isinstance(one, dict) else None
        if not isinstance(name, str) or name in signatures:
            raise _bad("a key id is missing or there twice")
        signatures[name] = _base64(one.get("sig"))
    return Envelope(_base64(document.get("payload")), payload_type, signatures)


def _base64(text: Any) -> bytes:
    try:
        data = b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _bad("it holds something that is no base64") from error
    if b64encode(data).decode() != text:
        raise _bad("its base64 is not in the one canonical form")
    return data


def _bad(why: str) -> TrustError:
    return TrustError(f"the signature file is not a DSSE envelope: {why}", next_step=_GET_AGAIN)


def sign(envelope: Envelope, signer: Signer) -> Envelope:
    """The envelope with one signature more (or made anew, for a key that signed before)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib import dsse
    from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # exported, not declared

    public = signer.public()
    name = key_id(public)
    signature = signer.sign(_library(dsse, envelope, Signature).pae())
    made = Envelope(envelope.payload, envelope.payload_type, {**envelope.signatures, name: signature})
    verify(made, {name: Ed25519PublicKey.from_public_bytes(public)}, 1)  # a faulty signer is found here, not later
    return made


def _library(dsse: Any, envelope: Envelope, signature: Any) -> Any:
    signatures = {name: signature(name, value.hex()) for name, value in envelope.signatures.items()}
    return dsse.Envelope(envelope.payload, envelope.payload_type, signatures)


def verify(envelope: Envelope, keys: Mapping[str, Ed25519PublicKey], threshold: int) -> tuple[str, ...]:
    """Ids of the keys whose signatures hold, at least `threshold` of them. Raises TrustError."""
    from securesystemslib import dsse
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]  # exported, not declared

    library = _library(dsse, envelope, Signature)
    pae = library.pae()
    held = []
    for name, signature in library.signatures.items():
        if name not in keys:
            continue
        key = SSlibKey(name, "ed25519", "ed25519", {"public": keys[name].public_bytes_raw().hex()})
        try:
            key.verify_signature(signature, pae)
        except UnverifiedSignatureError:
            continue
        held.append(name)
    return _enough(envelope, held, threshold)


def verify_quickly(envelope: Envelope, keys: Mapping[str, Ed25519PublicKey], threshold: int) -> tuple[str, ...]:
    """As `verify`, without securesystemslib."""
    from cryptography.exceptions import InvalidSignature

    pae = envelope.pae()
    held = []
    for name, signature in envelope.signatures.items():
        if name not in keys:
            continue
        try:
            keys[name].verify(signature, pae)
        except InvalidSignature:
            continue
        held.append(name)
    return _enough(envelope, held, threshold)


def _enough(envelope: Envelope, held: list[str], threshold: int) -> tuple[str, ...]:
    if threshold < 1 or len(held) < threshold:
        by = ", ".join(visible(name, 50) for name in list(envelope.signatures)[:5])
        raise TrustError(
            f"{len(held)} of the {threshold} signatures that are asked for hold; it was signed as {by}",
            next_step="have it signed by those named in launch.signers, and by no one else's word",
        )
    return tuple(held)
