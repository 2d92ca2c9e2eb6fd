"""What a lock that nobody vouches for may say of a start: digests, and nothing that its launch line does not mean.

A project's `callgate.lock` comes with the project. Unsigned, it could name any program for a line that looks harmless.
So what is started is worked out anew from the line and from what the line names: a package's own manifest in the
store, a bundle's, the line's own words. What the lock has beside that must be the same; the interpreter is the one
that this machine has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from callgate.errors import TrustError
from callgate.supply import artefacts
from callgate.supply.launch_line import LaunchLine
from callgate.supply.lockable import kind_of, lockable
from callgate.supply.lockfile import Entry
from callgate.supply.resolve_client import find
from callgate.text import visible

_EFFECT = "the server was not started"


def entry_of(name: str, server: Mapping[str, Any], path: str, state: str) -> dict[str, Any]:
    """The `entry` to start in the place of the lock's: derived, with the lock's digest. Raises TrustError.

    `server` is the JSON of the lock at `path`. A relative path of the line is one of the lock's directory.
    """
    lock = Path(os.path.abspath(path))
    said: Mapping[str, Any] = server["entry"]
    try:
        derived = asdict(_derive(lockable(name, server["argv"]), server, lock.parent, Path(state)))
    except TrustError as error:
        raise TrustError(
            f"{visible(str(lock), 200)} is not signed, and what it starts for server {visible(name, 64)} does not "
            f"follow from the command: {error.what}",
            effect=_EFFECT,
            next_step=_advice(name, lock),
        ) from error
    for key in ("argv", "file", "runtime", "tree_root", "directory", "environment"):
        wanted, got = derived[key], said[key]
        if key == "argv":
            wanted, got = list(wanted), _without_registry(got, wanted)
        if wanted != got:
            raise TrustError(
                f"{visible(str(lock), 200)} is not signed, and starts server {visible(name, 64)} in another way than "
                f"its command says: {key} is {_shown(said[key])}, the command means {_shown(derived[key])}",
                effect=_EFFECT,
                next_step=_advice(name, lock),
            )
    if (derived["file"] and not said["sha256"]) or ((server["store"] or derived["tree_root"]) and not server["tree"]):
        raise TrustError(
            f"{visible(str(lock), 200)} is not signed, and lacks the digests of server {visible(name, 64)}",
            effect=_EFFECT,
            next_step=_advice(name, lock),
        )
    return {**derived, "argv": list(derived["argv"]), "sha256": said["sha256"], "own": said["own"]}


def _derive(line: LaunchLine, server: Mapping[str, Any], folder: Path, state: Path) -> Entry:
    kind = kind_of(line)
    if kind != server["kind"]:
        raise TrustError(f"the lock calls it {visible(str(server['kind']), 20)}, and the command is {kind}")
    _artefacts(server)
    if kind in ("npm", "pypi"):
        return _package(kind, line, server, state)
    if kind == "mcpb":
        return _bundle(line, server, folder, state)
    if kind == "oci":
        return _image(line, server["entry"]["argv"])
    from callgate.supply import local

    record = str(server["record"])
    if server["store"] or (record and (not record.startswith("local/") or record.count("/") != 1)):
        raise TrustError("the lock names another place in the store than a program of one's own has")
    return local.started(line, folder)


def _artefacts(server: Mapping[str, Any]) -> None:
    """The digest over all artefacts names the place in the store: it must be that of those which the lock lists."""
    from callgate.supply.lockfile import Artefact
    from callgate.supply.resolve_types import artefacts_digest

    listed = tuple(
        Artefact(one["purl"], one["digest"], others=tuple(one.get("others", ()))) for one in server["artefacts"]
    )
    if artefacts_digest(listed) != server["artefacts_digest"]:
        raise TrustError("the artefacts that the lock lists are not those whose digest it gives")


def _package(kind: str, line: LaunchLine, server: Mapping[str, Any], state: Path) -> Entry:
    from importlib import import_module

    from callgate.supply.launch_packages import exact_npm, exact_pypi, normal_pypi

    package = line.package if kind == "npm" else normal_pypi(line.package)
    exact = exact_npm(line.requested) if kind == "npm" else exact_pypi(line.requested)
    if server["package"] != package or (exact and not _same_version(kind, line.requested, str(server["version"]))):
        locked = f"{server['package']} {server['version']}"
        raise TrustError(f"the lock has {visible(locked, 120)}, which the command does not name")
    module = import_module(f"callgate.supply.{kind}")
    where = module.place_of(line, str(server["version"]), str(server["artefacts_digest"]))
    if server["record"] != where or server["store"] != f"{where}/{artefacts.TREE}":
        raise TrustError("the lock names another place in the store than its package has")
    entry: Entry = module.started(line, artefacts.root(state) / where / artefacts.TREE)
    return replace(entry, runtime_path=find(entry.runtime)) if kind == "npm" and entry.runtime else entry


def _same_version(kind: str, requested: str, locked: str) -> bool:
    """Whether an exact version is the one locked: `==1.0` is 1.0.0, and `1.0RC1` is 1.0rc1."""
    wanted = requested.lstrip("=v ")
    if wanted == locked.lstrip("v"):
        return True
    from callgate.supply.version_order import pep440_key, semver_key

    key = semver_key if kind == "npm" else pep440_key
    try:
        return bool(key(wanted) == key(locked))
    except ValueError:
        return False


def _bundle(line: LaunchLine, server: Mapping[str, Any], folder: Path, state: Path) -> Entry:
    from callgate.supply import mcpb_source, place
    from callgate.supply.mcpb_manifest import MANIFEST_BYTES, parse_manifest

    locked = [one["digest"] for one in server["artefacts"]]
    if locked != [f"sha256:{artefacts.digest_of(folder / line.package)}"]:
        raise TrustError(f"{visible(line.package, 100)} is not the bundle that was locked")
    record = str(server["record"])
    if not record.startswith("mcpb/") or server["store"] != f"{record}/{artefacts.TREE}":
        raise TrustError("the lock names another place in the store than its bundle has")
    tree = artefacts.root(state) / str(server["store"])
    manifest = parse_manifest(place.read(tree / "manifest.json", MANIFEST_BYTES))
    if record != mcpb_source.place_of(manifest, str(server["artefacts_digest"])):
        raise TrustError("the lock names another place in the store than its bundle has")
    return mcpb_source.started(line, manifest, tree, folder)


def _image(line: LaunchLine, argv: Sequence[str]) -> Entry:
    """The line's own image, by the digest that the lock has for it."""
    from callgate.supply import oci

    digests = {oci.digest_of(word, line) for word in argv if "@sha256:" in word} - {""}
    if len(digests) != 1:
        raise TrustError("the lock names no digest of the command's image; an image by its id is for your own lock")
    entry = oci.started(line, f"{line.package}@{digests.pop()}")
    return replace(entry, runtime_path=find(line.program))


def _without_registry(argv: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """A lock names an image as the engine does, with its registry in front: that is not what is started."""
    return [
        mine if "@sha256:" in mine and word.endswith(f"/{mine}") else word
        for word, mine in zip(argv, wanted, strict=False)
    ] + list(argv[len(wanted) :])


def _shown(value: object) -> str:
    words = " ".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value)
    return visible(words, 160) or "empty"


def _advice(name: str, lock: Path) -> str:
    return (
        f"look at who changed the lock; then lock it anew: callgate trust lock {visible(name, 64)} --project "
        f"{visible(str(lock.parent), 200)}, or have it signed (launch.signers)"
    )
