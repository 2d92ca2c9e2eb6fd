"""npm: provenance (Sigstore), the registry's publish attestation, and the registry's signature over a version.

Provenance is logged in Rekor as `intoto` 0.0.2, which sigstore-python 4 does not read. `_NpmVerifier` adds that entry
type and nothing else: time from the log (its signed entry timestamp is verified), the log entry's payload hash,
signature and certificate held against the envelope's. Newer provenance (`dsse`) goes through sigstore-python itself.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from callgate.errors import TrustError
from callgate.supply.place import parse_object
from callgate.supply.provenance import Provenance, Wanted, needs_extra, repository_name
from callgate.supply.sigstore_bundle import (
    Signer,
    from_certificate,
    guarded,
    log_index,
    logged_at,
    parse_bundle,
    statement,
    subject_digest,
    verifier,
)
from callgate.text import visible

if TYPE_CHECKING:
    from sigstore.models import Bundle

ATTESTATION_BYTES: Final = 16 * 1024 * 1024
SLSA: Final = ("https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1")
_FIRST_FORMAT: Final = "application/vnd.dev.sigstore.bundle+json;version=0.1"
PUBLISH: Final = "https://github.com/npm/attestation/tree/main/specs/publish/v0.1"
_GET_AGAIN = "do not take it; ask the publisher"


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package. `sha512` is its tarball's, hexadecimal."""

    name: str
    version: str
    sha512: str

    @classmethod
    def of(cls, name: str, version: str, tarball: bytes) -> Package:
        """From the bytes of the .tgz."""
        return cls(name, version, hashlib.sha512(tarball).hexdigest())

    @classmethod
    def locked(cls, name: str, version: str, integrity: str) -> Package:
        """From the digest in a lock: `sha512-BASE64`. Raises TrustError."""
        return cls(name, version, _base64(integrity.removeprefix("sha512-")).hex())

    @property
    def purl(self) -> str:
        """`pkg:npm/%40scope/name@version`, as subjects are named."""
        return f"pkg:npm/{self.name.replace('@', '%40', 1) if self.name.startswith('@') else self.name}@{self.version}"

    @property
    def integrity(self) -> str:
        """As npm writes it."""
        return "sha512-" + b64encode(bytes.fromhex(self.sha512)).decode()


def verify_attestations(
    answer: bytes,
    package: Package,
    *,
    wanted: Wanted | None = None,
    registry_keys: bytes = b"",
    published: datetime | None = None,
    trusted_root: Path | None = None,
) -> tuple[Provenance, ...]:
    """Verify what a registry's attestations endpoint answers for one version. Raises TrustError.

    Every provenance must hold, be about this tarball, and come from `wanted`; the publish attestation is checked with
    `registry_keys` (the answer of the keys endpoint) where given, `published` being the version's time in the
    registry: an expired key still vouches for what was published before. Statements of other kinds are left alone.
    """
    document = parse_object(answer, "the attestations", ATTESTATION_BYTES)
    listed = document.get("attestations")
    found: list[Provenance] = []
    for one in listed if isinstance(listed, list) else []:
        bundle = one.get("bundle") if isinstance(one, dict) else None
        if not isinstance(bundle, dict):
            raise TrustError("the attestations are malformed", next_step=_GET_AGAIN)
        kind = one.get("predicateType")
        if kind in SLSA:
            found.append((wanted or Wanted()).check(verify_provenance(orjson.dumps(bundle), package, trusted_root)))
        elif kind == PUBLISH and registry_keys:
            found.append(_publish(bundle, package, registry_keys, published))
    if not any(one.kind == "npm-provenance" for one in found):
        raise TrustError("the registry has no provenance for it", next_step="pin it by its digest: callgate trust lock")
    return tuple(found)


def has_provenance(answer: bytes) -> bool:
    """Whether what the attestations endpoint answers holds provenance. Raises TrustError where it is no JSON object."""
    listed = parse_object(answer, "the attestations", ATTESTATION_BYTES).get("attestations")
    found = listed if isinstance(listed, list) else []
    return any(isinstance(one, dict) and one.get("predicateType") in SLSA for one in found)


def knows_key(signatures: Sequence[Mapping[str, Any]], registry_keys: bytes) -> bool:
    """Whether one of a version's signatures is by a key of the registry."""
    keys = _keys(registry_keys)
    return any(isinstance(one, dict) and one.get("keyid") in keys for one in signatures)


def verify_provenance(bundle: bytes, package: Package, trusted_root: Path | None = None) -> Provenance:
    """Verify one provenance bundle for a tarball. Raises TrustError."""
    parsed, proved = _parsed(bundle)
    entry = parsed.log_entry._inner.kind_version
    signer = Signer()
    check: Any = verifier(trusted_root, _npm_verifier())
    ours = (entry.kind, entry.version) == ("intoto", "0.0.2")
    run = check.verify_intoto if ours else check.verify_dsse
    kind, payload = guarded(lambda: run(parsed, signer), "the provenance")
    document = statement(kind, payload)
    if document.get("predicateType") not in SLSA:
        raise TrustError("the statement is no SLSA provenance", next_step=_GET_AGAIN)
    subject_digest(document, {"sha512": package.sha512}, package.purl)
    how = f"npm provenance ({entry.kind}/{entry.version}): statement about the tarball, certificate chain, SCT, "
    how += "log inclusion, log timestamp" if proved else "the log's promise of inclusion, log timestamp"
    found = from_certificate("npm-provenance", signer, f"sha512:{package.sha512}", how, logged_at(parsed))
    found = replace(found, builder=_told(document, _BUILDER), log_index=log_index(parsed))
    told = _told(document, _REPOSITORY).partition("@refs")[0]
    if told and repository_name(told) != repository_name(found.repository):
        raise TrustError(
            f"the provenance names {visible(told, 100)}, its certificate {visible(found.repository, 100)}",
            next_step=_GET_AGAIN,
        )
    return found


_REPOSITORY: Final = (
    ("buildDefinition", "externalParameters", "workflow", "repository"),
    ("invocation", "configSource", "uri"),
)
_BUILDER: Final = (("runDetails", "builder", "id"), ("builder", "id"))


def _told(document: Mapping[str, Any], paths: Sequence[Sequence[str]]) -> str:
    """What the predicate says in one of these places: SLSA 1 and 0.2 have different ones."""
    for path in paths:
        inner: Any = document.get("predicate")
        for part in path:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if isinstance(inner, str):
            return inner
    return ""


_NO_PROOF: Final = {"logIndex": "0", "rootHash": "", "treeSize": "1", "hashes": [], "checkpoint": {"envelope": "-"}}


def _parsed(data: bytes) -> tuple[Bundle, bool]:
    """A bundle, and whether it proves that the log holds it.

    The first format (0.1) may have the log's signed promise alone, which was all there was until 2023, and which
    sigstore-python does not read any more: its log entry then is one that is held to that promise.
    """
    document = parse_object(data, "the provenance", ATTESTATION_BYTES)
    material = document.get("verificationMaterial")
    entries = material.get("tlogEntries") if isinstance(material, dict) else None
    entry = entries[0] if isinstance(entries, list) and len(entries) == 1 else None
    if document.get("mediaType") != _FIRST_FORMAT or not isinstance(entry, dict) or entry.get("inclusionProof"):
        return parse_bundle(data), True
    entry["inclusionProof"] = _NO_PROOF
    parsed = parse_bundle(orjson.dumps(document))
    parsed._log_entry = _promised()(parsed.log_entry._inner)
    return parsed, False


def _promised() -> Any:
    """The class of a log entry with a promise and no proof, made on use: sigstore is an extra."""
    from sigstore.errors import VerificationError
    from sigstore.models import TransparencyLogEntry

    class _Promised(TransparencyLogEntry):
        def _verify(self, keyring: Any) -> None:
            if not (self._inner.inclusion_promise and self._inner.integrated_time):
                raise VerificationError("the log entry has neither a proof nor a promise of inclusion")
            self._verify_set(keyring)

    return _Promised


def _npm_verifier() -> Any:
    """The class, made on use: sigstore is an extra."""
    try:
        from cryptography.hazmat.primitives.serialization import Encoding
        from sigstore import dsse
        from sigstore.errors import VerificationError
        from sigstore.verify import Verifier
        from sigstore.verify import verifier as times
    except ImportError as error:
        raise needs_extra(error) from error

    log, result = times.TimestampSource.TRANSPARENCY_SERVICE, times.TimestampVerificationResult  # type: ignore[attr-defined]

    class _NpmVerifier(Verifier):
        """Adds `intoto` 0.0.2 entries of the first version of Rekor."""

        def _establish_time(self, bundle: Any) -> list[Any]:
            inner = bundle.log_entry._inner
            if (inner.kind_version.kind, inner.kind_version.version) != ("intoto", "0.0.2"):
                return super()._establish_time(bundle)
            # Verified as part of the log entry: both must be there for that.
            if not (inner.integrated_time and inner.inclusion_promise):
                return []
            time = datetime.fromtimestamp(int(inner.integrated_time), UTC)
            return [result(log, time)]

        def verify_intoto(self, bundle: Any, policy: Any) -> tuple[str, bytes]:
            """As `verify_dsse`, for an `intoto` 0.0.2 entry."""
            self._verify_common_signing_cert(bundle, policy)
            envelope = bundle._dsse_envelope
            if envelope is None:
                raise VerificationError("it has no DSSE envelope")
            dsse._verify(bundle.signing_certificate.public_key(), envelope)
            body = parse_object(bundle.log_entry._inner.canonicalized_body, "the log entry", ATTESTATION_BYTES)
            content = _logged(body)
            if content["payloadHash"] != _sha256(envelope._inner.payload):
                raise VerificationError("the log entry is about another payload")
            ((logged,), (signature,)) = content["envelope"]["signatures"], envelope._inner.signatures
            if content["envelope"].get("payloadType") != envelope._inner.payload_type:
                raise VerificationError("the log entry is about another kind of payload")
            if b64decode(b64decode(logged["sig"], validate=True), validate=True) != signature.sig:
                raise VerificationError("the log entry is about another signature")
            certificate = bundle.signing_certificate.public_bytes(Encoding.PEM)
            if b64decode(logged["publicKey"], validate=True).strip() != certificate.strip():
                raise VerificationError("the log entry is about another certificate")
            return envelope._inner.payload_type, envelope._inner.payload

    return _NpmVerifier


def _logged(body: Mapping[str, Any]) -> Mapping[str, Any]:
    if (body.get("kind"), body.get("apiVersion")) != ("intoto", "0.0.2"):
        raise TrustError("the log entry is of another kind than it says", next_step=_GET_AGAIN)
    content: Mapping[str, Any] = body["spec"]["content"]
    return content


def _sha256(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


# --- what the registry itself signs -----------------------------------------------------------------------------


def verify_registry_signatures(
    signatures: Sequence[Mapping[str, Any]], package: Package, registry_keys: bytes, published: datetime | None = None
) -> Provenance:
    """Verify `dist.signatures` of a version: ECDSA over `name@version:integrity`. Raises TrustError.

    `published` is the version's time in the registry: an expired key still vouches for what was published before.
    """
    keys = _keys(registry_keys)
    data = f"{package.name}@{package.version}:{package.integrity}".encode()
    for one in signatures:
        if isinstance(one, dict) and one.get("keyid") in keys:
            key_id = str(one["keyid"])
            _ecdsa(keys[key_id], key_id, str(one.get("sig", "")), data, published)
            return Provenance(
                kind="npm-registry-signature",
                digest=f"sha512:{package.sha512}",
                how="the registry's ECDSA signature over name, version and integrity",
                issuer="the registry",
                subject=key_id,
            )
    raise TrustError("the version is not signed with a key of the registry", next_step=_GET_AGAIN)


def _publish(
    bundle: Mapping[str, Any], package: Package, registry_keys: bytes, published: datetime | None
) -> Provenance:
    """The registry's statement that it took this tarball in. Its log entry is not verified, its signature is."""
    envelope, hint = bundle.get("dsseEnvelope"), bundle.get("verificationMaterial")
    key = hint.get("publicKey") if isinstance(hint, dict) else None
    key_id = key.get("hint") if isinstance(key, dict) else None
    keys = _keys(registry_keys)
    signed = envelope.get("signatures") if isinstance(envelope, dict) else None
    if not isinstance(envelope, dict) or not isinstance(signed, list) or len(signed) != 1 or key_id not in keys:
        raise TrustError("the publish attestation is not signed with a key of the registry", next_step=_GET_AGAIN)
    kind = str(envelope.get("payloadType"))
    payload = _base64(envelope.get("payload"))
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    _ecdsa(keys[key_id], key_id, str(signed[0].get("sig")), pae, published)
    document = statement(kind, payload)
    subject_digest(document, {"sha512": package.sha512}, package.purl)
    predicate = document.get("predicate")
    told = (predicate.get("name"), predicate.get("version")) if isinstance(predicate, dict) else ()
    if document.get("predicateType") != PUBLISH or told != (package.name, package.version):
        raise TrustError("the publish attestation is about another version", next_step=_GET_AGAIN)
    return Provenance(
        kind="npm-publish",
        digest=f"sha512:{package.sha512}",
        how="publish attestation signed by the registry; its log entry was not verified",
        issuer=str(predicate.get("registry", "the registry")) if isinstance(predicate, dict) else "the registry",
        subject=key_id,
    )


def _keys(document: bytes) -> dict[str, Mapping[str, Any]]:
    listed = parse_object(document, "the registry's keys", ATTESTATION_BYTES).get("keys")
    return {str(one.get("keyid")): one for one in (listed if isinstance(listed, list) else []) if isinstance(one, dict)}


def _ecdsa(key: Mapping[str, Any], key_id: str, signature: str, data: bytes, published: datetime | None) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    expires = key.get("expires")
    if expires is not None:
        end = guarded(lambda: datetime.fromisoformat(str(expires)), "the registry's key")
        end = end if end.tzinfo else end.replace(tzinfo=UTC)
        if (published or datetime.now(UTC)) >= end:
            raise TrustError(
                f"the registry's key {visible(key_id, 80)} expired on {end:%Y-%m-%d}", next_step=_GET_AGAIN
            )
    public = guarded(lambda: load_der_public_key(_base64(key.get("key"))), "the registry's key")
    if not isinstance(public, ec.EllipticCurvePublicKey) or key.get("scheme") != "ecdsa-sha2-nistp256":
        raise TrustError("the registry's key is of a kind that is not read", next_step=_GET_AGAIN)
    try:
        public.verify(_base64(signature), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise TrustError("the registry's signature does not hold for this tarball", next_step=_GET_AGAIN) from error


def _base64(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise TrustError("something signed is no base64", next_step=_GET_AGAIN) from error
