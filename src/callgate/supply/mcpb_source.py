"""MCPB bundles as servers: unpacked into the store, started as their manifest says."""

from __future__ import annotations

from pathlib import Path

from callgate.errors import TrustError
from callgate.supply import artefacts, mcpb, mcpb_command, mcpb_signature, place, resolve_client
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
    if wanted.line.arguments:
        raise TrustError("a bundle takes no arguments", next_step="leave them out: its manifest names them")
    secrets = mcpb_command.command(bundle.manifest, Path("{store}"), _stand_ins(bundle.manifest)).secrets
    signer = mcpb_signature.verify(data) if bundle.signed else None
    manifest = bundle.manifest
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in manifest.name)
    address = f"pkg:generic/{name}@{manifest.version}"
    return Resolved(
        "mcpb",
        str(path),
        manifest.version,
        address,
        (Artefact(address, f"sha256:{artefacts.digest_of(copy)}", path.name),),
        notes=tuple(sorted({*(one.rule for one in bundle.findings), *(f"mcpb-secret {one}" for one in secrets)})),
        publisher=(f"signed by {visible(signer.subject, 150)}",) if signer else (),
        provenance={"mcpb": signer.as_record()} if signer else {},
        payload={"bundle": copy, "manifest": manifest, "name": name},
    )


def _stand_ins(manifest: Manifest) -> dict[str, str]:
    """Something in the place of each secret, so that the rest of the command can be worked out."""
    return {name: "-" for name, option in manifest.options.items() if option.sensitive}


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
    command = mcpb_command.command(manifest, Path("{store}"), _stand_ins(manifest))
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
        # A secret is no part of a lock: the server gets it by name, from a secret store.
        environment={
            **{name: value for name, value in command.env.items() if name not in command.secrets},
            **wanted.line.environment,
        },
    )
