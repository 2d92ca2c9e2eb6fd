"""Container images: the tag is replaced by the digest of what it meant, and nothing is pulled at start.

Asked are the program of the launch line (`image inspect`; `pull` when the image is not there) and, where it is
installed, skopeo. An image that no registry knows (built here) is named by its id.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from callgate.errors import TrustError
from callgate.outside import programs
from callgate.supply import place, resolve_client
from callgate.supply.cooldown import iso, parse_time
from callgate.supply.launch_containers import image_at
from callgate.supply.launch_line import LaunchLine
from callgate.supply.lockfile import Artefact, Entry
from callgate.supply.resolve_types import Fetched, Resolved, Wanted, refuse_placeholders
from callgate.text import visible

_HEX = frozenset("0123456789abcdef")


def resolve(wanted: Wanted, work: Path) -> Resolved:
    """The digest of the image. Raises TrustError."""
    line = wanted.line
    program = programs.find(line.program)
    if not program:
        raise TrustError(f"there is no {visible(line.program, 40)}", next_step="install it, or lock elsewhere")
    image = line.package
    asked = f"@{line.requested}" if line.requested.startswith("sha256:") else f":{line.requested or 'latest'}"
    name = image + asked
    known = _inspect(program, name, work)
    if known is None:
        output = resolve_client.run((program, "pull", "--quiet", name), work, seconds=1800)
        if output.code:
            raise TrustError(
                f"{line.program} could not pull {visible(name, 150)}: {resolve_client.last_words(output)}",
                next_step="check the name and the registry",
            )
        known = _inspect(program, name, work)
    if known is None:
        raise TrustError(f"{line.program} does not know {visible(name, 150)}", next_step="pull it")
    digest, reference, notes = _reference(image, line.requested, known)
    created = parse_time(known.get("Created"))
    if not notes:
        wanted.cooldown.check(name, created)
    short = image.rpartition("/")[2].lower()
    return Resolved(
        "oci",
        image,
        digest,
        f"pkg:oci/{quote(short, safe='')}@{quote(digest, safe='')}",
        (Artefact(f"pkg:oci/{quote(short, safe='')}", digest),),
        published=iso(created) if created else "",
        cooldown=wanted.cooldown.text,
        notes=notes,
        payload={"reference": reference},
    )


def fetch(wanted: Wanted, resolved: Resolved) -> Fetched:
    """The line with the digest in the place of the tag; the image is in the container program's own store."""
    entry = started(wanted.line, resolved.payload["reference"])
    return Fetched(replace(entry, runtime_path=programs.find(wanted.line.program)))


def started(line: LaunchLine, reference: str) -> Entry:
    """The line with `reference` in the place of its image. Raises TrustError."""
    words = line.argv if not line.prefixes else (*line.launcher, "IMAGE", *line.arguments)
    refuse_placeholders(words)
    run, at, options = image_at(words)
    kept = [word for word in words[run + 1 : at] if not word.startswith("--pull")]
    if "--pull" in words[run + 1 : at]:
        value = options.last("--pull")
        kept.remove(value)
    return Entry(
        argv=("{runtime}", *words[1 : run + 1], "--pull=never", *kept, reference, *words[at + 1 :]),
        runtime=line.program,
        directory=line.directory,
        environment={},
    )


def digest_of(reference: str, line: LaunchLine) -> str:
    """The digest of a reference to the image that a line names; '' where it is none."""
    image, _, digest = reference.partition("@")
    asked = line.requested if line.requested.startswith("sha256:") else digest
    return digest if digest and digest == asked and _same_image(image, line.package) else ""


def _inspect(program: str, name: str, work: Path) -> dict[str, Any] | None:
    output = resolve_client.run((program, "image", "inspect", name), work, seconds=120)
    if output.code:
        return None
    found = place.parse_object(b'{"images":' + output.out + b"}", "what is known of the image")["images"]
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None


def _reference(image: str, requested: str, known: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """Digest, how the container program calls it, and notes."""
    listed = known.get("RepoDigests")
    pairs = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    own = [one for one in pairs if _same_image(one.partition("@")[0], image)]
    registry = [one for one in own if not one.startswith("localhost/")]
    for one in registry:
        digest = one.partition("@")[2]
        if requested in ("", digest) or not requested.startswith("sha256:"):
            return _checked(digest), one, ()
    identity = str(known.get("Id", "")).removeprefix("sha256:")
    digest = _checked(f"sha256:{identity}")
    return digest, digest, ("oci-built-here",)


def _checked(digest: str) -> str:
    if len(digest) != 71 or not digest.startswith("sha256:") or not set(digest[7:]) <= _HEX:
        raise TrustError(f"{visible(digest, 90)} is not a digest of an image", next_step="pull the image again")
    return digest


def _same_image(full: str, asked: str) -> bool:
    """Whether a full name is the one that was asked for: default registries and namespaces may be left out."""
    return full == asked or full.endswith(f"/{asked}")
