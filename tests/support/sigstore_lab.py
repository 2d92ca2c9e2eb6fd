"""A Sigstore instance of our own, in memory: certificate authority, certificate log, transparency log, trusted root.

Its bundles have the form of those the public instance makes, so that every step of verification can be made to fail.
"""

from __future__ import annotations

import hashlib
import json
import struct
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://token.actions.githubusercontent.com"
REPOSITORY = "https://github.com/acme/clock"
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yml@refs/tags/v1.0.0"
Change = Callable[[Any], None]


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(spki(key)).digest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Lab:
    """The instance. Times are of signing; a signing certificate is valid for ten minutes."""

    authority_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificate_log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab authority")])
        self.authority = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.authority_key.public_key())
            .serial_number(1)
            .not_valid_before(self.now - timedelta(days=30))
            .not_valid_after(self.now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(usage(certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.authority_key.public_key()), critical=False)
            .sign(self.authority_key, hashes.SHA256())
        )

    def trusted_root(self, path: Path) -> Path:
        """Write the `trusted_root.json` of this instance."""
        since = {"start": (self.now - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": b64(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since}
            return {
                "baseUrl": "https://log.test",
                "hashAlgorithm": "SHA2_256",
                "publicKey": public,
                "logId": {"keyId": b64(key_id(key))},
            }

        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "lab", "commonName": "lab authority"},
                    "uri": "https://authority.test",
                    "certChain": {"certificates": [{"rawBytes": b64(self.authority.public_bytes(Encoding.DER))}]},
                    "validFor": since,
                }
            ],
            "ctlogs": [log(self.certificate_log)],
            "timestampAuthorities": [],
        }
        path.write_text(json.dumps(root))
        return path

    def certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        repository: str = REPOSITORY,
        workflow: str = WORKFLOW,
        sct: bool = True,
    ) -> x509.Certificate:
        """A signing certificate with the claims of a workflow, and the log's promise (SCT) in it."""
        claims = {"8": ISSUER, "12": repository, "14": "refs/tags/v1.0.0", "18": workflow}
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(minutes=5))
            .not_valid_after(self.now + timedelta(minutes=10))
            .add_extension(usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(workflow)]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key()), critical=False
            )
        )
        for number, text in claims.items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
            value = text.encode()
            length = bytes([len(value)]) if len(value) < 128 else bytes([0x81, len(value)])
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x0c" + length + value), critical=False)
        if not sct:
            return builder.sign(self.authority_key, hashes.SHA256())
        bare = builder.sign(self.authority_key, hashes.SHA256()).tbs_certificate_bytes
        return builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), self._promise(bare)),
            critical=False,
        ).sign(self.authority_key, hashes.SHA256())

    def _promise(self, bare: bytes) -> bytes:
        """An SCT list (RFC 6962, section 3.3) over a certificate without it."""
        at = struct.pack("!Q", int(self.now.timestamp()) * 1000)
        entry = key_id(self.authority_key) + struct.pack("!I", len(bare))[1:] + bare
        signed = b"\0\0" + at + b"\0\1" + entry + b"\0\0"
        signature = self.certificate_log.sign(signed, ec.ECDSA(hashes.SHA256()))
        sct = (
            b"\0"
            + key_id(self.certificate_log)
            + at
            + b"\0\0"
            + b"\4\3"
            + struct.pack("!H", len(signature))
            + signature
        )
        inner = struct.pack("!H", len(sct)) + sct
        value = struct.pack("!H", len(inner)) + inner
        length = bytes([len(value)]) if len(value) < 128 else bytes([0x81, len(value)])
        return b"\x04" + length + value

    def log_entry(
        self, body: dict[str, Any], *, at: datetime | None = None, origin: str = "log.test - 1"
    ) -> dict[str, Any]:
        """A log of one entry: inclusion proof, checkpoint, signed entry timestamp."""
        data = canonical(body)
        root = hashlib.sha256(b"\0" + data).digest()
        note = f"{origin}\n1\n{b64(root)}\n"
        name = origin.split(" ", maxsplit=1)[0]
        signature = key_id(self.log)[:4] + self.log.sign(note.encode(), ec.ECDSA(hashes.SHA256()))
        seconds = int((at or self.now + timedelta(minutes=1)).timestamp())
        promise = {"body": b64(data), "integratedTime": seconds, "logID": key_id(self.log).hex(), "logIndex": 0}
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(key_id(self.log))},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "integratedTime": str(seconds),
            "inclusionPromise": {
                "signedEntryTimestamp": b64(self.log.sign(canonical(promise), ec.ECDSA(hashes.SHA256())))
            },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\u2014 {name} {b64(signature)}\n"},
            },
            "canonicalizedBody": b64(data),
        }

    def npm_bundle(
        self,
        statement: dict[str, Any],
        *,
        certificate: x509.Certificate | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        at: datetime | None = None,
        change_body: Change | None = None,
    ) -> dict[str, Any]:
        """A provenance bundle as npm's client makes it, logged as `intoto` 0.0.2."""
        key = key or new_key()
        certificate = certificate or self.certificate(key)
        payload, kind = canonical(statement), "application/vnd.in-toto+json"
        pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
        signature = key.sign(pae, ec.ECDSA(hashes.SHA256()))
        pem = certificate.public_bytes(Encoding.PEM)
        body = {
            "apiVersion": "0.0.2",
            "kind": "intoto",
            "spec": {
                "content": {
                    "envelope": {
                        "payloadType": kind,
                        "signatures": [{"publicKey": b64(pem), "sig": b64(b64(signature).encode())}],
                    },
                    "hash": {"algorithm": "sha256", "value": "00" * 32},
                    "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                }
            },
        }
        if change_body:
            change_body(body)
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2",
            "verificationMaterial": {
                "x509CertificateChain": {"certificates": [{"rawBytes": b64(certificate.public_bytes(Encoding.DER))}]},
                "tlogEntries": [self.log_entry(body, at=at)],
            },
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": kind,
                "signatures": [{"sig": b64(signature), "keyid": ""}],
            },
        }


def usage(*, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def npm_statement(purl: str, sha512: str, repository: str = REPOSITORY) -> dict[str, Any]:
    """SLSA provenance 1 as npm's client writes it."""
    workflow = {"repository": repository, "ref": "refs/tags/v1.0.0", "path": ".github/workflows/release.yml"}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": purl, "digest": {"sha512": sha512}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"buildDefinition": {"externalParameters": {"workflow": workflow}}},
    }
