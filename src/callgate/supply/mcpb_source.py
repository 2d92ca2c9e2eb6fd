"""MCPB bundles as servers: unpacked into the store, started as their manifest says.

The line `FILE.mcpb NAME=VALUE...` gives values to the options that the manifest asks its user for (mcpb_options.py).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from callgate.errors import TrustError
from callgate.supply import artefacts, mcpb, mcpb_command, mcpb_options, mcpb_signature, place, resolve_client
from callgate.supply.launch_line import LaunchLine
from callgate.supply.lockfile import Artefact, Entry
from callgate.supply.mcpb_manifest import Manifest
from callgate.supply.resolve_types import Fetched, Resolved, Wanted, inside, platform_name, refuse_placeholders
from callgate.text import visible

BUNDLE_BYTES = 512 * 1024 * 1024
_RUNTIMES = {"node": "node", "python": "python3", "python3": "python3"}


def resolve(wanted: Wanted, work: Path) -> Resolved:
    """The bundle's name, version and digest. Raises TrustError for a damaged or hostile one."""
    path = wanted.cwd / wanted.line.package
    data = place.read(path, BUNDLE_BYTES, "bundle")
    copy = work / "bundle.mcpb"
    copy.write_bytes(data)
    bundle = mcpb.read_bundle(data)
    refused = [one for one in bundle.findings if one.weight == "refuse"]
    if refused:
        raise TrustError(f"the bundle is refused: {refused[0].what}", next_step="get it again from its publisher")
    values = mcpb_options.values(bundle.manifest, wanted.line.arguments, wanted.cwd)
    secrets = mcpb_command.command(bundle.manifest, Path("{store}"), values).secrets
    signer = mcpb_signature.verify(data) if bundle.signed else None
    manifest = bundle.manifest
    address = f"pkg:generic/{_name(manifest)}@{manifest.version}"
    return Resolved(
        "mcpb",
        str(path),
        manifest.version,
        address,
        (Artefact(address, f"sha256:{artefacts.digest_of(copy)}", path.name),),
        notes=tuple(sorted({*(one.rule for one in bundle.findings), *(f"mcpb-secret {one}" for one in secrets)})),
        publisher=(f"signed by {visible(signer.subject, 150)}",) if signer else (),
        provenance={"mcpb": signer.as_record()} if signer else {},
        payload={"bundle": copy, "manifest": manifest},
    )


def fetch(wanted: Wanted, resolved: Resolved) -> Fetched:
    """Unpack the bundle into the store. Raises TrustError."""
    manifest: Manifest = resolved.payload["manifest"]
    where = place_of(manifest, resolved.digest)
    system = platform_name()
    with artefacts.building(wanted.state) as folder:
        tree = folder / artefacts.TREE
        tree.rmdir()
        mcpb.open_bundle(resolved.payload["bundle"], tree)
        entry = started(wanted.line, manifest, tree, wanted.cwd)
        entry = replace(entry, sha256=artefacts.digest_of(tree / entry.file), own=".")
        (folder / "platform").write_text(system)
        _, digest = artefacts.seal(wanted.state, folder, where, ".")
    return Fetched(entry, f"{where}/{artefacts.TREE}", where, digest, system)


def place_of(manifest: Manifest, digest: str) -> str:
    """Where a bundle is in the store. `digest` is the one over its artefacts."""
    return artefacts.key("mcpb", _name(manifest), manifest.version, digest.removeprefix("sha256:"))


def _name(manifest: Manifest) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in manifest.name)


def started(line: LaunchLine, manifest: Manifest, tree: Path, cwd: Path) -> Entry:
    """What a line starts of an unpacked bundle, as its manifest and the line's options say. Raises TrustError."""
    refuse_placeholders((manifest.command, *manifest.args, *line.arguments))
    command = mcpb_command.command(manifest, Path("{store}"), mcpb_options.values(manifest, line.arguments, cwd))
    file = inside(tree, manifest.entry_point, "the bundle's entry point")
    if not file.is_file():
        raise TrustError(
            f"the bundle does not hold its entry point {visible(manifest.entry_point, 100)}",
            next_step="tell its author",
        )
    program = command.argv[0]
    runtime = _RUNTIMES.get(program, "" if program.startswith("{store}/") else program)
    found = resolve_client.find(runtime) if runtime else ""
    if runtime and not found:
        raise TrustError(f"there is no {visible(runtime, 60)}, which the bundle needs", next_step="install it")
    return Entry(
        argv=("{runtime}" if runtime else program, *command.argv[1:]),
        file=file.relative_to(tree).as_posix(),
        runtime=runtime,
        runtime_path=found,
        # A secret is no part of a lock: the server gets it by name, from a secret store.
        environment={
            **{name: value for name, value in command.env.items() if name not in command.secrets},
            **line.environment,
        },
    )
