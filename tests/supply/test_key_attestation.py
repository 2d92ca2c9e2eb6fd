from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope as LibraryEnvelope
from securesystemslib.signer import CryptoSigner

from callgate.errors import TrustError
from callgate.supply.dsse import IN_TOTO, Envelope
from callgate.supply.key_attestation import verify_attestation

KEYS: dict[str, Any] = {
    "ed": ed25519.Ed25519PrivateKey.generate(),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}
SLSA = "https://slsa.dev/verification_summary/v1"


class Place:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.artefact = path / "server.tgz"
        self.artefact.write_bytes(b"the server")
        for name, key in KEYS.items():
            pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            (path / f"{name}.pem").write_bytes(pem)

    def keys(self, *names: str) -> list[Path]:
        return [self.path / f"{name}.pem" for name in names]

    def statement(self, **changes: Any) -> dict[str, Any]:
        digest = hashlib.sha256(self.artefact.read_bytes()).hexdigest()
        subject = [{"name": "server.tgz", "digest": {"sha256": digest}}]
        return {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": SLSA, **changes}

    def refused(self, because: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(TrustError, match=because) as caught:
            verify_attestation(*arguments, **options)
        assert caught.value.next_step


def signed(document: Any, *names: str, keyid: str = "") -> bytes:
    envelope = Envelope(orjson.dumps(document), IN_TOTO, {})
    signatures = {}
    for number, name in enumerate(names):
        key = KEYS[name]
        if name == "ed":
            signature = key.sign(envelope.pae())
        else:
            signature = key.sign(envelope.pae(), ec.ECDSA(hashes.SHA256() if name == "p256" else hashes.SHA384()))
        signatures[keyid or f"hint {number}"] = signature
    return Envelope(envelope.payload, IN_TOTO, signatures).to_json()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("name", ["ed", "p256", "p384"])
def test_kinds_of_keys(name: str, place: Place) -> None:
    found = verify_attestation(signed(place.statement(), name), place.artefact, place.keys(name), predicate_type=SLSA)
    assert found.kind == "dsse" and found.subject.startswith("sha256:") and "no log" in found.how


def test_envelopes_of_the_library_of_in_toto(place: Place) -> None:
    signer = CryptoSigner.generate_ecdsa()
    envelope = LibraryEnvelope(orjson.dumps(place.statement()), IN_TOTO, {})
    envelope.sign(signer)
    (place.path / "lib.pem").write_text(signer.public_key.keyval["public"])
    assert verify_attestation(orjson.dumps(envelope.to_dict()), place.artefact, [place.path / "lib.pem"])


def test_thresholds(place: Place) -> None:
    both = signed(place.statement(), "ed", "p256")
    assert verify_attestation(both, place.artefact, place.keys("ed", "p256", "p384"), 2)
    place.refused("2 of the 3", both, place.artefact, place.keys("ed", "p256", "p384"), 3)
    place.refused("1 of the 2", signed(place.statement(), "ed"), place.artefact, place.keys("ed", "p256"), 2)
    place.refused("1 different keys", both, place.artefact, place.keys("ed", "ed"), 2)
    place.refused("0 signatures", both, place.artefact, place.keys("ed"), 0)


def test_one_signature_listed_twice_counts_once(place: Place) -> None:
    document = orjson.loads(signed(place.statement(), "ed"))
    document["signatures"].append({**document["signatures"][0], "keyid": "other"})
    place.refused("1 of the 2", orjson.dumps(document), place.artefact, place.keys("ed", "p256"), 2)


def test_what_does_not_hold(place: Place) -> None:
    good = signed(place.statement(), "ed")
    place.refused("0 of the 1", good, place.artefact, place.keys("p256"))
    place.refused("0 of the 1", good, place.artefact, place.keys("rsa"))  # a kind that is not read
    place.refused("is of type", good, place.artefact, place.keys("ed"), predicate_type="https://slsa.dev/provenance/v1")
    changed = orjson.loads(good)
    changed["payload"] = orjson.loads(signed(place.statement(predicateType="x"), "ed"))["payload"]
    place.refused("0 of the 1", orjson.dumps(changed), place.artefact, place.keys("ed"))
    place.refused("not about this file", signed(place.statement(subject=[]), "ed"), place.artefact, place.keys("ed"))
    place.refused("no in-toto", signed({"a": 1}, "ed"), place.artefact, place.keys("ed"))
    place.artefact.write_bytes(b"another")
    place.refused("not about this file", good, place.artefact, place.keys("ed"))
    place.refused("not a public key", good, place.artefact, [place.artefact])
    place.refused("there is no artefact", good, place.path / "gone", place.keys("ed"))
