"""Who made an artefact, as far as signatures tell. An identity is not a promise that the artefact is harmless."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

from callgate.errors import TrustError
from callgate.text import visible

ProvenanceKind: TypeAlias = Literal[
    "sigstore", "pep740", "npm-provenance", "npm-publish", "npm-registry-signature", "mcpb", "dsse"
]
CAUTION = "this says who made it, not that it is safe"


@dataclass(frozen=True, slots=True)
class Provenance:
    """One verified statement about one artefact. Members that the statement does not tell are empty.

    `how` says what was verified; `digest` is the artefact's, `sha256:` or `sha512:` and hexadecimal.
    """

    kind: ProvenanceKind
    digest: str
    how: str
    issuer: str = ""
    """Who vouches for the identity: an OIDC issuer, a registry, a certificate authority; `self` for itself."""
    repository: str = ""
    workflow: str = ""
    ref: str = ""
    commit: str = ""
    builder: str = ""
    """What the statement says built it: the builder's word, not the certificate's."""
    subject: str = ""
    """The certificate's subject or subject alternative name, or the key's id."""
    at: str = ""
    """When it was logged or signed: RFC 3339, UTC."""
    log_index: str = ""
    """The entry's number in the transparency log."""
    trusted: bool = True
    """False where the signature verifies and nothing ties its key to someone the user named or a public log."""
    key: str = ""
    """SHA-256 of the certificate where nothing else tells who holds it: anybody can write any name into one."""

    def describe(self) -> str:
        """One line, safe to print."""
        who = self.repository or self.subject or self.issuer or "an unnamed key"
        parts = [f"{self.kind}: {'made' if self.repository else 'signed'} by {visible(who, 200)}"]
        if self.workflow:
            parts.append(f"workflow {visible(self.workflow, 200)}")
        if self.issuer:
            parts.append(f"vouched for by {visible(self.issuer, 200)}")
        if not self.trusted:
            parts.append("a key nobody named")
        return f"{', '.join(parts)} ({CAUTION})"

    def as_record(self) -> dict[str, Any]:
        """The members that say something, as `callgate.lock` keeps them."""
        names = [one.name for one in fields(self) if one.name != "trusted"]
        record: dict[str, Any] = {name: value for name in names if (value := getattr(self, name))}
        if not self.trusted:
            record["trusted"] = False
        return record


@dataclass(frozen=True, slots=True)
class Wanted:
    """The identity asked for; an empty member asks for nothing. `repository` is `owner/name` or a URL."""

    repository: str = ""
    workflow: str = ""
    issuer: str = ""
    subject: str = ""

    def check(self, found: Provenance) -> Provenance:
        """`found` when it is who was asked for. Raises TrustError naming both."""
        for name in ("repository", "workflow", "issuer", "subject"):
            wanted, got = getattr(self, name), getattr(found, name)
            if name == "repository":
                wanted, got = repository_name(wanted), repository_name(got)
            if wanted and wanted != got:
                raise TrustError(
                    f"the {name} is {visible(got, 200) or 'not told'}, not {visible(wanted, 200)}",
                    next_step="ask the publisher whether they moved; do not take it before they say so",
                )
        return found


def repository_name(text: str) -> str:
    """`owner/name` of a GitHub repository given so or as a URL; anything else as it is, without `.git`."""
    name = text.removesuffix("/").removesuffix(".git")
    for prefix in ("git+https://github.com/", "https://github.com/"):
        if name.lower().startswith(prefix):
            return name[len(prefix) :].lower()
    return name.lower() if name.count("/") == 1 and ":" not in name else name


def has_extra(library: str) -> bool:
    """Whether a library of the extra `callgate[sign]` is installed; it is not imported, which takes a second."""
    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def needs_extra(error: ImportError) -> TrustError:
    """The error for a library of the extra `callgate[sign]` that is not installed."""
    return TrustError(
        f"this needs {visible(error.name or 'a library', 60)}, which is not installed",
        next_step="install callgate[sign]",
    )
