"""PEP 740: attestations that a Python package index stores beside a file, verified offline with pypi-attestations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from callgate.errors import TrustError
from callgate.supply.place import parse_object, read
from callgate.supply.provenance import Provenance, Wanted, needs_extra, repository_name
from callgate.supply.sigstore_bundle import Signer, from_certificate, guarded, quiet
from callgate.text import visible

PROVENANCE_BYTES: Final = 8 * 1024 * 1024
MOST_ATTESTATIONS: Final = 32
_HOW = "PEP 740 {}: statement about the file, certificate chain, SCT, log inclusion"


@dataclass(frozen=True, slots=True)
class File:
    """A wheel or sdist by the name it was published under and its SHA-256, hexadecimal."""

    name: str
    sha256: str


def verify_provenance(
    provenance: Path | bytes, distribution: Path | File, wanted: Wanted | None = None
) -> tuple[Provenance, ...]:
    """Verify a provenance object, or a single attestation, for a wheel or sdist. Raises TrustError.

    Every attestation must hold, and its certificate must be of the publisher that the index names. `distribution` must
    have the name it was published under: the statement is about name and content.
    """
    try:
        from pypi_attestations import Attestation, Distribution
        from pypi_attestations import Provenance as Document
    except ImportError as error:
        raise needs_extra(error) from error
    quiet()
    data = provenance if isinstance(provenance, bytes) else read(provenance, PROVENANCE_BYTES, "provenance")
    shape = parse_object(data, "the provenance", PROVENANCE_BYTES)
    if isinstance(distribution, File):
        file = guarded(lambda: Distribution(name=distribution.name, digest=distribution.sha256), "the distribution")
    else:
        file = guarded(lambda: Distribution.from_file(distribution), "the distribution")
    pairs: list[tuple[Any, Any]]
    if "attestation_bundles" in shape:
        document = guarded(lambda: Document.model_validate_json(data), "the provenance")
        pairs = [(bundle.publisher, one) for bundle in document.attestation_bundles for one in bundle.attestations]
    else:
        pairs = [(None, guarded(lambda: Attestation.model_validate_json(data), "the attestation"))]
    if not 0 < len(pairs) <= MOST_ATTESTATIONS:
        raise TrustError(
            f"the provenance holds {len(pairs)} attestations", next_step="get it again from the package index"
        )
    return tuple(_one(attestation, publisher, file, wanted or Wanted()) for publisher, attestation in pairs)


def _one(attestation: Any, publisher: Any, file: Any, wanted: Wanted) -> Provenance:
    signer = Signer()
    kind, _ = guarded(lambda: attestation.verify(signer, file, offline=True), "the attestation")
    if publisher is not None:
        # The index's word on who published, held against the certificate.
        guarded(lambda: attestation.verify(publisher, file, offline=True), "the attestation")
    entry = attestation.verification_material.transparency_entries[0]
    found = from_certificate("pep740", signer, f"sha256:{file.digest}", _HOW.format(visible(kind, 100)), _at(entry))
    named = getattr(publisher, "repository", "")
    if named and repository_name(named) != repository_name(found.repository):
        raise TrustError(
            f"the index names {visible(str(named), 100)}, the certificate {visible(found.repository, 100)}",
            next_step="do not take it; ask the publisher",
        )
    return wanted.check(replace(found, log_index=_index(entry)))


def _index(entry: Any) -> str:
    number = entry.get("logIndex") if isinstance(entry, dict) else None
    return str(number) if isinstance(number, (str, int)) and str(number).isdigit() else ""


def _at(entry: Any) -> str:
    from datetime import UTC, datetime

    seconds = entry.get("integratedTime") if isinstance(entry, dict) else None
    if not isinstance(seconds, (str, int)) or not str(seconds).isdigit():
        return ""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
