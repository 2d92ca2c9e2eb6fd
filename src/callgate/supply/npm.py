"""npm packages: resolved and unpacked by `npm` itself, without running a line of them.

1. `npm install --package-lock-only --ignore-scripts` works out versions, held back by `--before`.
2. Each package of that lock must come from a registry with a SHA-512 integrity value.
3. `npm ci --ignore-scripts` unpacks exactly these, checking each value, into the store.
4. The entry is the package's `bin`, started by node.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from callgate.errors import TrustError
from callgate.outside import programs
from callgate.supply import artefacts, place, resolve_client
from callgate.supply.cooldown import iso, parse_time
from callgate.supply.launch_line import LaunchLine
from callgate.supply.launch_packages import exact_npm, npm_name
from callgate.supply.lockfile import Artefact, Entry
from callgate.supply.resolve_types import Fetched, Resolved, Wanted, inside, platform_name, refuse_placeholders
from callgate.text import visible

MAX_PACKAGES = 20_000
_QUIET = ("--no-workspaces", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error", "--ignore-scripts")
"""`--no-workspaces`: else a package.json above that claims this directory brings its registry with it."""
_FROM_REGISTRY = (
    "--allow-git=none",
    "--allow-remote=none",
    "--allow-file=none",
    "--allow-directory=none",
    f"--git={os.devnull}",  # npm before 11 knows none of these: it would clone, and run npm by the clone's .npmrc
)
_HOOKS = ("preinstall", "install", "postinstall")
_MANIFEST = b'{"name":"callgate-pinned","version":"0.0.0","private":true}\n'


def resolve(wanted: Wanted, work: Path) -> Resolved:
    """What `npx` would take now, or took at the moment of `wanted.cooldown`. Raises TrustError."""
    line = wanted.line
    npm = _npm()
    spec = wanted.version or line.requested or "latest"
    folder = work / "resolve"
    folder.mkdir()
    (folder / "package.json").write_bytes(_MANIFEST)
    before = (f"--before={wanted.cooldown.text}",) if wanted.cooldown.active else ()
    output = resolve_client.run(
        [
            npm,
            "install",
            "--package-lock-only",
            "--save-exact",
            "--lockfile-version=3",
            *_QUIET,
            *_FROM_REGISTRY,
            *before,
            *line.registry,
            "--",
            f"{line.package}@{spec}",
            *line.more,
        ],
        folder,
    )
    if output.code:
        raise _failed(wanted, spec, output)
    lock = place.parse_object(place.read(folder / "package-lock.json", 64 * 1024 * 1024), "npm's lock")
    found, scripts = _artefacts(lock)
    version = str(lock["packages"].get(f"node_modules/{line.package}", {}).get("version", ""))
    if not exact_npm(version):
        raise TrustError(f"npm did not resolve {visible(line.package, 100)}", next_step="check the name")
    published, publisher, dist = _told(npm, wanted, work, version)
    wanted.cooldown.check(f"{line.package}@{version}", published)
    return Resolved(
        "npm",
        line.package,
        version,
        purl(line.package, version),
        found,
        published=iso(published) if published else "",
        cooldown=wanted.cooldown.text,
        publisher=publisher,
        install_scripts=scripts,
        payload={"folder": folder, "dist": dist, "published": published},
    )


def purl(name: str, version: str) -> str:
    """The package URL: `pkg:npm/%40scope/name@1.2.3`."""
    return f"pkg:npm/{quote(name, safe='/')}@{quote(version, safe='')}"


def _npm() -> str:
    npm = programs.find("npm")
    if not npm:
        raise TrustError(
            "there is no npm", next_step="install Node.js with npm, or lock the server on a machine with it"
        )
    return npm


def provenance(wanted: Wanted, resolved: Resolved, _fetched: Fetched, work: Path) -> dict[str, Any]:
    """What the registry serves about who built the package. Raises TrustError for what does not verify."""
    from callgate.supply import npm_served
    from callgate.supply.npm_provenance import Package

    digest = next(one.digest for one in resolved.artefacts if one.purl == resolved.purl)
    package = Package.locked(resolved.package, resolved.version, digest)
    payload = resolved.payload
    return npm_served.provenance(_npm(), wanted, package, payload["dist"], payload["published"], work)


def _told(
    npm: str, wanted: Wanted, work: Path, version: str
) -> tuple[datetime | None, tuple[str, ...], dict[str, Any]]:
    """When a version was published, by whom and who else may publish (names of accounts), and its `dist`."""
    name = f"{wanted.line.package}@{version}"
    fields = ("name", "version", "time", "_npmUser", "maintainers", "dist")  # the first two: so it is an object
    output = resolve_client.run((npm, "view", *_QUIET, *wanted.line.registry, "--json", "--", name, *fields), work)
    if output.code:
        raise _failed(wanted, version, output)
    value = place.parse_object(output.out, "what npm says of the package", resolve_client.OUTPUT_BYTES)
    times = value.get("time")
    people = [f"publisher {_account(value.get('_npmUser'))}"] if value.get("_npmUser") else []
    maintainers = value.get("maintainers")
    if isinstance(maintainers, list):
        people += sorted(f"maintainer {_account(one)}" for one in maintainers[:100])
    dist = value.get("dist")
    published = parse_time(times.get(version)) if isinstance(times, dict) else None
    return published, tuple(people), dist if isinstance(dist, dict) else {}


def _account(value: object) -> str:
    name = value.get("name") if isinstance(value, dict) else str(value).partition("<")[0].strip()
    return visible(str(name), 80)


def _failed(wanted: Wanted, spec: str, output: resolve_client.Output) -> TrustError:
    name = visible(f"{wanted.line.package}@{spec}" if spec else wanted.line.package, 120)
    if f"spawn {os.devnull}" in output.error:
        return TrustError(
            f"{name} needs something from a repository, not from the registry", next_step="do not use this package"
        )
    if wanted.cooldown.active and ("ETARGET" in output.error or "before" in output.error.lower()):
        return TrustError(
            f"no version of {name}, or of something it needs, is old enough (published before "
            f"{wanted.cooldown.text[:10]}): {resolve_client.last_words(output)}",
            next_step="wait, or, if you know the release to be good: --no-cooldown",
        )
    return TrustError(
        f"npm could not resolve {name}: {resolve_client.last_words(output)}",
        next_step="check the name and the registry npm is configured for",
    )


def _artefacts(lock: dict[str, Any]) -> tuple[tuple[Artefact, ...], tuple[str, ...]]:
    """Every package of npm's lock with its digest, and those with scripts. Raises TrustError."""
    packages = lock.get("packages")
    if not isinstance(packages, dict) or len(packages) > MAX_PACKAGES:
        raise TrustError(f"npm's lock holds no packages, or more than {MAX_PACKAGES}", next_step="check the package")
    found: dict[str, Artefact] = {}
    scripts: list[str] = []
    for path, one in packages.items():
        if not path:
            continue
        name = str(one.get("name") or path.rpartition("node_modules/")[2])
        version, integrity = str(one.get("version", "")), str(one.get("integrity", ""))
        shown = visible(f"{name}@{version}", 120)
        elsewhere = next(_elsewhere(one), "")
        if elsewhere:
            raise TrustError(
                f"{shown} needs something from outside the registry: {visible(elsewhere, 120)}",
                next_step="do not use this package",
            )
        if one.get("link") or not npm_name(name) or not exact_npm(version):
            raise TrustError(f"{shown} does not come from a registry", next_step="do not use this package")
        digest = next((part for part in integrity.split() if part.startswith("sha512-") and len(part) == 95), "")
        if not digest:
            raise TrustError(
                f"the registry gives no SHA-512 of {shown}", next_step="use a registry that does, or another package"
            )
        address = purl(name, version)
        if found.setdefault(address, Artefact(address, digest)).digest != digest:
            raise TrustError(f"{shown} has two different digests", next_step="do not use this package")
        if one.get("hasInstallScript"):
            scripts.append(shown)
    return tuple(found[key] for key in sorted(found)), tuple(sorted(set(scripts)))


def _elsewhere(package: dict[str, Any]) -> Iterator[str]:
    """What a package wants from repositories, URLs and directories."""
    for kind in ("dependencies", "optionalDependencies"):
        wanted = package.get(kind)
        for name, spec in wanted.items() if isinstance(wanted, dict) else ():
            text = str(spec)
            real = text.removeprefix("npm:") if text.startswith("npm:") else text
            if ":" in real or (real is text and "/" in text):
                yield f"{name}: {text}"


# --- fetching ------------------------------------------------------------------------------------------------


def fetch(wanted: Wanted, resolved: Resolved) -> Fetched:
    """Unpack what was resolved into the store. Raises TrustError."""
    line = wanted.line
    refuse_placeholders(line.arguments)
    npm, node = _npm(), programs.find("node")
    if not node:
        raise TrustError("there is no node", next_step="install Node.js")
    where = place_of(line, resolved.version, resolved.digest)
    with artefacts.building(wanted.state) as folder:
        tree = folder / artefacts.TREE
        source: Path = resolved.payload["folder"]
        for name in ("package.json", "package-lock.json"):
            (tree / name).write_bytes((source / name).read_bytes())
        output = resolve_client.run(
            (npm, "ci", "--omit=dev", *_QUIET, *_FROM_REGISTRY, *line.registry),
            tree,
            watch=resolve_client.size_watch(tree),
        )
        if output.code:
            raise _not_fetched(resolved, output)
        scripts = _scripts(tree)
        entry = _entry(wanted, resolved, tree, node)
        system = platform_name()
        (folder / "platform").write_text(system)
        own = f"node_modules/{resolved.package}"
        _, digest = artefacts.seal(wanted.state, folder, where, own)
    return Fetched(entry, f"{where}/{artefacts.TREE}", where, digest, system, scripts)


def _not_fetched(resolved: Resolved, output: resolve_client.Output) -> TrustError:
    name = visible(f"{resolved.package}@{resolved.version}", 120)
    if "EINTEGRITY" in output.error:
        return TrustError(
            f"the registry's bytes of {name}, or of something it needs, do not have the digest it gave: "
            f"{resolve_client.last_words(output)}",
            next_step="do not use them; tell the registry's owner",
        )
    return TrustError(
        f"npm could not fetch {name}: {resolve_client.last_words(output)}", next_step="check the network and the disk"
    )


def _scripts(tree: Path) -> tuple[str, ...]:
    """What would have run at installation, from the packages themselves."""
    found = []
    for one in artefacts.walk(tree):
        if one.path.endswith("/package.json") and one.path.count("node_modules/") and not one.target:
            folder = one.path.rpartition("/")[0]
            inner = folder.rpartition("node_modules/")[2]
            if inner.count("/") != inner.startswith("@"):
                continue  # a package.json within a package
            manifest = _manifest(tree / one.path)
            scripts = manifest.get("scripts")
            scripts = dict(scripts) if isinstance(scripts, dict) else {}
            if "install" not in scripts and (tree / folder / "binding.gyp").exists():
                scripts["install"] = "node-gyp rebuild (implied by binding.gyp)"
            for hook in _HOOKS:
                if hook in scripts:
                    name = visible(f"{inner}@{manifest.get('version', '')}", 120)
                    found.append(f"{name}: {hook}: {visible(str(scripts[hook]), 160)}")
    return tuple(sorted(found))


def _manifest(path: Path) -> dict[str, Any]:
    try:
        data = place.read(path, 4 * 1024 * 1024)
        return place.parse_object(data.removeprefix(b"\xef\xbb\xbf"), "package.json")
    except TrustError:
        return {}  # some packages ship broken ones as test data; a launched one is looked at in _entry


def _entry(wanted: Wanted, resolved: Resolved, tree: Path, node: str) -> Entry:
    """How to start the package's program. Raises TrustError."""
    entry = started(wanted.line, tree)
    version = resolve_client.run((node, "--version"), wanted.state).out.decode("ascii", "replace").strip()
    return replace(
        entry,
        sha256=artefacts.digest_of(tree / entry.file),
        runtime_path=node if entry.runtime else "",
        runtime_version=visible(version, 40),
        own=f"node_modules/{resolved.package}",
    )


def place_of(line: LaunchLine, version: str, digest: str) -> str:
    """Where a line's packages are in the store."""
    return artefacts.key("npm", line.package, version, digest.removeprefix("sha256:"))


def started(line: LaunchLine, tree: Path) -> Entry:
    """What a line starts of an unpacked tree, as the package's own manifest says. Raises TrustError."""
    own, file = _bin(tree, line.package, line.entry, line.more)
    path = inside(tree / "node_modules" / own, file, "the program")
    if not path.is_file():
        raise TrustError(
            f"{visible(own, 100)} does not hold its program {visible(file, 100)}", next_step="tell its author"
        )
    relative = path.relative_to(tree).as_posix()
    with open(path, "rb") as source:
        options = _node_options(source.readline(1024), file)
    runtime = () if options is None else ("{runtime}", *options)
    return Entry(
        argv=(*runtime, f"{{store}}/{relative}", *line.arguments),
        file=relative,
        runtime="node" if runtime else "",
        directory=line.directory,
        environment=dict(line.environment),
    )


def _bin(tree: Path, package: str, entry: str, more: tuple[str, ...]) -> tuple[str, str]:
    """Package and file of the program: `entry` of any requested package, else the package's own."""
    from callgate.supply.launch_packages import npm_spec

    own_name = package.rpartition("/")[2]
    for name in (package, *(npm_spec(one).name for one in more)):
        manifest = _manifest(tree / "node_modules" / name / "package.json")
        declared = manifest.get("bin")
        programs = {own_name: declared} if isinstance(declared, str) else declared
        if not isinstance(programs, dict) or not programs:
            continue
        chosen = entry or (own_name if own_name in programs else "")
        if not entry and len({str(file) for file in programs.values()}) == 1:
            chosen = next(iter(programs))
        if chosen in programs and isinstance(programs[chosen], str):
            return name, os.path.normpath(programs[chosen])
    wanted = f"a program {visible(entry, 60)!r}" if entry else "one program to start"
    raise TrustError(f"{visible(package, 100)} does not have {wanted}", next_step="name it: npx -p PACKAGE PROGRAM")


def _node_options(first: bytes, file: str) -> tuple[str, ...] | None:
    """Options of node from a script's first line; None for a program that is not run by node."""
    if not first.startswith(b"#!"):
        return () if file.endswith((".js", ".mjs", ".cjs")) or b"\0" not in first else None
    words = first[2:].decode("utf-8", "replace").split()
    names = [os.path.basename(word) for word in words]
    if "node" not in names[:3]:
        return None
    return tuple(word for word in words[names.index("node") + 1 :] if word.startswith("-"))
