"""Sigstore bundles, verified offline with sigstore-python: certificate chain, SCT, log inclusion, signature, subject.

The root of trust is the public-good instance as sigstore-python ships it, or a `trusted_root.json` the user names.
What the certificate says about the signer becomes a `Provenance`; the caller compares it with whom they expect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from callgate.errors import TrustError
from callgate.supply.place import parse_object, read
from callgate.supply.provenance import Provenance, ProvenanceKind, Wanted, needs_extra
from callgate.text import visible

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle
    from sigstore.verify import Verifier

BUNDLE_BYTES: Final = 4 * 1024 * 1024
ARTEFACT_BYTES: Final = 1024 * 1024 * 1024
IN_TOTO: Final = "application/vnd.in-toto+json"
_FULCIO: Final = "1.3.6.1.4.1.57264.1."
_GET_AGAIN = "do not take it; ask the publisher"
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Signer:
    """A verification policy of sigstore's that accepts every identity and keeps the certificate that was verified."""

    certificate: Certificate | None = field(default=None)

    def verify(self, cert: Certificate) -> None:
        """Called by sigstore once the chain and the SCT hold."""
        self.certificate = cert


def verifier(trusted_root: Path | None = None, kind: Callable[..., Any] | None = None) -> Verifier:
    """A verifier that asks no network. `kind` is its class, Sigstore's own by default. Raises TrustError."""
    try:
        from sigstore.models import ClientTrustConfig, TrustedRoot
        from sigstore.verify import Verifier
    except ImportError as error:
        raise needs_extra(error) from error
    quiet()
    make = kind or Verifier
    if trusted_root is None:
        root = guarded(lambda: ClientTrustConfig.production(offline=True).trusted_root, "the root of trust")
    else:
        read(trusted_root, BUNDLE_BYTES, "root of trust")
        root = guarded(lambda: TrustedRoot.from_file(str(trusted_root)), "the root of trust")
    made: Verifier = guarded(lambda: make(trusted_root=root), "the root of trust")
    return made


def quiet() -> None:
    """Keep sigstore's warnings from standard error, where logging puts them when nobody listens."""
    import logging

    logger = logging.getLogger("sigstore")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def guarded(call: Callable[[], _Result], what: str) -> _Result:
    """`call()`, its errors as TrustError: a library that reads hostile bytes may raise anything."""
    try:
        return call()
    except TrustError:
        raise
    except Exception as error:
        text = visible(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)
        raise TrustError(f"{what} does not verify: {text}", next_step=_GET_AGAIN) from error


def parse_bundle(data: bytes) -> Bundle:
    """A bundle of any version, well formed but not verified. Raises TrustError."""
    try:
        from sigstore.models import Bundle
    except ImportError as error:
        raise needs_extra(error) from error
    quiet()
    parse_object(data, "the Sigstore bundle", BUNDLE_BYTES)
    return guarded(lambda: Bundle.from_json(data), "the Sigstore bundle")


def verify_bundle(
    bundle: Path, artefact: Path, wanted: Wanted | None = None, trusted_root: Path | None = None
) -> Provenance:
    """Verify a bundle against the artefact it is about. Raises TrustError.

    A bundle holds a signature over the artefact, or a DSSE envelope with an in-toto statement one of whose subjects
    has the artefact's digest.
    """
    parsed = parse_bundle(read(bundle, BUNDLE_BYTES, "bundle"))
    check = verifier(trusted_root)
    data = read(artefact, ARTEFACT_BYTES, "artefact")
    sha256 = hashlib.sha256(data).hexdigest()
    signer = Signer()
    if parsed._dsse_envelope is None:
        guarded(lambda: check.verify_artifact(data, parsed, signer), "the Sigstore bundle")
        how = "Sigstore bundle: signature over the file, certificate chain, SCT, log inclusion"
    else:
        kind, payload = guarded(lambda: check.verify_dsse(parsed, signer), "the Sigstore bundle")
        subject_digest(statement(kind, payload), {"sha256": sha256, "sha512": hashlib.sha512(data).hexdigest()})
        how = "Sigstore bundle: in-toto statement about the file, certificate chain, SCT, log inclusion"
    found = from_certificate("sigstore", signer, f"sha256:{sha256}", how, logged_at(parsed))
    return (wanted or Wanted()).check(replace(found, log_index=log_index(parsed)))


def statement(kind: str, payload: bytes) -> dict[str, Any]:
    """The in-toto statement of a verified envelope."""
    if kind != IN_TOTO:
        raise TrustError(f"the envelope holds {visible(kind, 60)}, no in-toto statement", next_step=_GET_AGAIN)
    document = parse_object(payload, "the statement", BUNDLE_BYTES)
    if document.get("_type") not in ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"):
        raise TrustError("the envelope holds no in-toto statement", next_step=_GET_AGAIN)
    return document


def subject_digest(document: Mapping[str, Any], digests: Mapping[str, str], name: str = "") -> str:
    """The subject (named `name`, if given) with one of `digests` (algorithm to hexadecimal) and none that differs."""
    subjects = document.get("subject")
    for subject in subjects if isinstance(subjects, list) else []:
        listed = subject.get("digest") if isinstance(subject, dict) else None
        if not isinstance(listed, dict) or (name and subject.get("name") != name):
            continue
        known = {kind: value for kind, value in listed.items() if kind in digests}
        if known and all(digests[kind] == value for kind, value in known.items()):
            return str(subject.get("name", ""))
    about = f"'{visible(name, 100)}' with this content" if name else "this file"
    raise TrustError(f"the statement is well signed, but not about {about}", next_step=_GET_AGAIN)


def logged_at(bundle: Bundle) -> str:
    """When the log took the entry in; '' where only a timestamp authority says."""
    seconds = bundle.log_entry._inner.integrated_time
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def log_index(bundle: Bundle) -> str:
    """The entry's number in the log."""
    return str(bundle.log_entry._inner.log_index)


def from_certificate(kind: ProvenanceKind, signer: Signer, digest: str, how: str, at: str) -> Provenance:
    """What a verified Fulcio certificate says: issuer, repository, workflow, subject alternative name."""
    from cryptography import x509

    certificate = signer.certificate
    if certificate is None:
        raise TrustError("the bundle's certificate was not verified", next_step=_GET_AGAIN)
    claims: dict[str, str] = {}
    for extension in certificate.extensions:
        oid = extension.oid.dotted_string
        if oid.startswith(_FULCIO) and isinstance(extension.value, x509.UnrecognizedExtension):
            claims[oid.removeprefix(_FULCIO)] = _claim(oid.removeprefix(_FULCIO), extension.value.value)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        subject = next((str(one.value) for one in names if not isinstance(one, x509.OtherName)), "")
    except x509.ExtensionNotFound:
        subject = ""
    repository = claims.get("12") or (f"https://github.com/{claims['5']}" if claims.get("5") else "")
    return Provenance(
        kind=kind,
        digest=digest,
        how=how,
        issuer=claims.get("8") or claims.get("1", ""),
        repository=repository,
        workflow=_workflow(claims.get("18") or subject, repository),
        ref=claims.get("14") or claims.get("6", ""),
        commit=claims.get("13") or claims.get("3", ""),
        subject=subject,
        at=at,
    )


def _claim(number: str, value: bytes) -> str:
    """Extensions 1 to 6 hold bare text, those from 8 on a DER UTF8String."""
    if number.isdigit() and int(number) >= 8:
        if len(value) < 2 or value[0] != 0x0C:
            return ""
        if value[1] < 0x80:
            value = value[2:]
        else:
            value = value[2 + (value[1] & 0x7F) :]
    return value.decode("utf-8", "replace")


def _workflow(uri: str, repository: str) -> str:
    """`.github/workflows/release.yml` out of `https://github.com/o/r/.github/workflows/release.yml@refs/...`."""
    path = uri.removeprefix(f"{repository}/") if repository else ""
    return path.partition("@")[0].lstrip("/") if path != uri else ""
