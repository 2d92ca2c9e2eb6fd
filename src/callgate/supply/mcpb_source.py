"""MCPB bundles as servers: unpacked into the store, started as their manifest says."""

from __future__ import annotations

from pathlib import Path

from callgate.errors import TrustError
from callgate.supply import artefacts, mcpb, mcpb_command, mcpb_signature, place, resolve_client
from callgate.supply.lockfile import Artefact, Entry
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
    if wanted.line.arguments:
        raise TrustError("a bundle takes no arguments", next_step="leave them out: its manifest names them")
    manifest = bundle.manifest
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in manifest.name)
    address = f"pkg:generic/{name}@{manifest.version}"
    return Resolved(
        "mcpb",
        str(path),
        manifest.version,
        address,
        (Artefact(address, f"sha256:{artefacts.digest_of(copy)}", path.name),),
        notes=tuple(sorted({one.rule for one in bundle.findings})),
        publisher=_signer(copy, signed=bundle.signed),
        payload={"bundle": copy, "manifest": manifest, "name": name},
    )


def _signer(bundle: Path, *, signed: bool) -> tuple[str, ...]:
    if not signed:
        return ()
    found = mcpb_signature.verify(bundle)
    return (f"signed by {visible(found.subject, 150)}" + ("" if found.trusted else " (a key nobody named)"),)


def fetch(wanted: Wanted, resolved: Resolved) -> Fetched:
    """Unpack the bundle into the store. Raises TrustError."""
    where = artefacts.key("mcpb", resolved.payload["name"], resolved.version, resolved.digest.removeprefix("sha256:"))
    system = platform_name()
    with artefacts.building(wanted.state) as folder:
        tree = folder / artefacts.TREE
        tree.rmdir()
        mcpb.open_bundle(resolved.payload["bundle"], tree)
        entry = _entry(wanted, resolved, tree)
        (folder / "platform").write_text(system)
        _, digest = artefacts.seal(wanted.state, folder, where, ".")
    return Fetched(entry, f"{where}/{artefacts.TREE}", where, digest, system)


def _entry(wanted: Wanted, resolved: Resolved, tree: Path) -> Entry:
    manifest = resolved.payload["manifest"]
    for word in (manifest.command, *manifest.args):
        refuse_placeholders((word,))
    command = mcpb_command.command(manifest, Path("{store}"))
    if command.secrets:
        raise TrustError(
            f"the bundle wants a secret in {visible(command.secrets[0], 60)}",
            next_step="keep it in a secret store, and name it under [servers.NAME.secrets] of callgate.toml",
        )
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
        sha256=artefacts.digest_of(file),
        runtime=runtime,
        runtime_path=found,
        own=".",
        environment={**command.env, **wanted.line.environment},
    )
