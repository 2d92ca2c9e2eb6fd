"""PyPI packages: resolved and unpacked by uv, else pip, wheels only, without running a line of them.

1. `uv pip compile --only-binary :all: --exclude-newer` works out versions and digests (with pip: a dry run's report).
2. `python -m venv --without-pip` of the base interpreter, `install --require-hashes --no-deps` into it.
3. Bytecode is compiled by the base interpreter with `-I -S`: the environment's own interpreter would run the
   packages' `.pth` files.
4. Scripts and activation files are removed; a launcher of three lines starts the entry point.

Building from source runs the package's code and so needs `allow_sdist`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from callgate.errors import TrustError
from callgate.supply import artefacts, place, pypi_clients, pypi_entry, resolve_client
from callgate.supply.cooldown import iso
from callgate.supply.launch_line import LaunchLine
from callgate.supply.launch_packages import exact_pypi, normal_pypi
from callgate.supply.lockfile import Artefact, Entry
from callgate.supply.pypi_clients import Interpreter
from callgate.supply.resolve_types import Fetched, Resolved, Wanted, platform_name, refuse_placeholders
from callgate.text import visible

LAUNCHER = "callgate-entry.py"


def resolve(wanted: Wanted, work: Path) -> Resolved:
    """What `uvx` would take now, or took at the moment of `wanted.cooldown`. Raises TrustError."""
    line = wanted.line
    interpreter = pypi_clients.interpreter(line.python, work)
    client = pypi_clients.client(interpreter, build=wanted.allow_sdist)
    version = f"=={wanted.version}" if wanted.version else "" if line.requested == "latest" else line.requested
    extras = f"[{','.join(line.extras)}]" if line.extras else ""
    requirements = [f"{line.package}{extras}{version}", *line.more]
    for one in requirements:
        if "\n" in one or "\r" in one or one.startswith("-"):
            raise TrustError(f"{visible(one, 80)!r} is no requirement", next_step="correct it")
    packages = client.resolve(requirements, wanted, work)
    found = [_artefact(one) for one in packages]
    own = next((one for one in packages if normal_pypi(one.name) == normal_pypi(line.package)), None)
    if own is None:
        raise TrustError(f"{client.name} did not resolve {visible(line.package, 100)}", next_step="check the name")
    if exact_pypi(version) or own.published:
        wanted.cooldown.check(f"{line.package} {own.version}", own.published)
    elif client.holds_cooldown is False:
        wanted.cooldown.check(f"{line.package} {own.version}", None)
    notes = ("pypi-built-here",) if any(one.sdist for one in packages) else ()
    return Resolved(
        "pypi",
        normal_pypi(line.package),
        own.version,
        purl(own.name, own.version),
        tuple(sorted(found, key=lambda one: one.purl)),
        published=iso(own.published) if own.published else "",
        cooldown=wanted.cooldown.text,
        notes=notes,
        payload={"packages": packages, "interpreter": interpreter, "client": client, "work": work},
    )


def provenance(wanted: Wanted, resolved: Resolved, fetched: Fetched, work: Path) -> dict[str, Any]:
    """What the index serves about who published the file that was taken. Raises TrustError for what does not verify."""
    from callgate.supply import publisher, pypi_served
    from callgate.supply.pep740 import File

    client: pypi_clients.Client = resolved.payload["client"]
    interpreter: Interpreter = resolved.payload["interpreter"]
    own = next(one for one in fetched.artefacts if one.purl == resolved.purl)
    file = File(own.file, own.digest.removeprefix("sha256:"))
    try:
        index = client.index(f"{resolved.package}=={resolved.version}", wanted, work)
    except TrustError as error:
        return publisher.not_checked(error.what)
    options = () if index else pypi_clients.for_pip(wanted.line.registry)
    return pypi_served.provenance(interpreter.path, index, options, resolved.package, file, work)


def purl(name: str, version: str) -> str:
    """The package URL: `pkg:pypi/name@1.2.3`."""
    return f"pkg:pypi/{normal_pypi(name)}@{quote(version, safe='')}"


def _artefact(one: pypi_clients.Package) -> Artefact:
    digests = [f"sha256:{digest}" for digest in one.digests]
    return Artefact(purl(one.name, one.version), digests[0], one.files[0], tuple(sorted(set(digests[1:]))))


def fetch(wanted: Wanted, resolved: Resolved) -> Fetched:
    """Unpack what was resolved into the store. Raises TrustError."""
    line = wanted.line
    refuse_placeholders(line.arguments)
    interpreter: Interpreter = resolved.payload["interpreter"]
    work: Path = resolved.payload["work"]
    packages: list[pypi_clients.Package] = resolved.payload["packages"]
    where = place_of(line, resolved.version, resolved.digest)
    system = platform_name(interpreter.tag)
    with artefacts.building(wanted.state) as folder:
        tree = folder / artefacts.TREE
        _environment(interpreter, tree, work)
        resolved.payload["client"].install(packages, tree, wanted, work)
        site = _tidy(tree, interpreter)
        installed = pypi_entry.installed(site)
        launcher, own = _launcher(line, site, installed)
        (tree / LAUNCHER).write_text(launcher, encoding="utf-8")
        scripts = pypi_entry.start_code(site) + tuple(
            f"{visible(one.name, 80)}@{visible(one.version, 40)}: built from source: its build code ran"
            for one in packages
            if one.sdist
        )
        _compile(interpreter, tree, site, work)
        taken = _taken(packages, installed)
        links = tuple(f"bin/{name}" for name in os.listdir(tree / "bin"))
        (folder / "platform").write_text(system)
        digest = artefacts.digest_of(tree / LAUNCHER)
        relative = site.relative_to(tree).as_posix()
        _, tree_digest = artefacts.seal(wanted.state, folder, where, f"{relative}/{own}", links)
    entry = replace(
        _words(line),
        sha256=digest,
        runtime_path=interpreter.path,
        runtime_version=interpreter.version,
        own=f"{relative}/{own}",
    )
    return Fetched(entry, f"{where}/{artefacts.TREE}", where, tree_digest, system, scripts, taken)


def place_of(line: LaunchLine, version: str, digest: str) -> str:
    """Where a line's environment is in the store: its launcher and its interpreter are part of it."""
    if line.entry or line.python:
        digest = sha256(f"{digest}\0{line.entry}\0{line.python}".encode()).hexdigest()
    return artefacts.key("pypi", normal_pypi(line.package), version, digest.removeprefix("sha256:"))


def started(line: LaunchLine, tree: Path) -> Entry:
    """What a line starts of an unpacked tree, as the package's own entry points say. Raises TrustError."""
    site = _site(tree)
    launcher, _ = _launcher(line, site, pypi_entry.installed(site))
    if place.read(tree / LAUNCHER).decode("utf-8", "replace") != launcher:
        raise TrustError(
            f"what is in the store starts another program of {visible(line.package, 100)}",
            next_step="lock the server again: callgate trust lock",
        )
    return _words(line)


def _words(line: LaunchLine) -> Entry:
    return Entry(
        argv=("{store}/bin/python", "-I", f"{{store}}/{LAUNCHER}", *line.arguments),
        file=LAUNCHER,
        runtime="python",
        directory=line.directory,
        environment=dict(line.environment),
    )


def _launcher(line: LaunchLine, site: Path, installed: list[pypi_entry.Installed]) -> tuple[str, str]:
    """The text of the program that starts the entry point, and the package's own directory in `site`."""
    package = normal_pypi(line.package)
    module, function, own = pypi_entry.find(site, installed, package, line.entry, line.more)
    return pypi_entry.launcher(line.entry or package, module, function), own


def _environment(interpreter: Interpreter, tree: Path, work: Path) -> None:
    output = resolve_client.run(
        (interpreter.path, "-I", "-m", "venv", "--without-pip", "--symlinks", str(tree)), work, seconds=120
    )
    if output.code:
        raise TrustError(
            f"Python could not make an environment: {resolve_client.last_words(output)}",
            next_step="install Python's venv module (Debian: python3-venv)",
        )


def _tidy(tree: Path, interpreter: Interpreter) -> Path:
    """Leave the interpreter's links and the packages; the rest depends on where the tree was made."""
    for name in os.listdir(tree / "bin"):
        if not name.startswith("python") or not (tree / "bin" / name).is_symlink():
            (tree / "bin" / name).unlink()
    for record in tree.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        lines = record.read_bytes().split(b"\n")  # without the scripts, whose digests depend on the place too
        record.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"../")))
    for name in (".gitignore", ".lock", "CACHEDIR.TAG"):
        (tree / name).unlink(missing_ok=True)
    home = os.path.dirname(interpreter.path)
    (tree / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\nversion = {interpreter.version}\n", encoding="utf-8"
    )
    if not (tree / "bin" / "python").is_symlink() or not (tree / "bin" / "python").exists():
        raise TrustError("a package replaces the Python interpreter", next_step="do not use it")
    return _site(tree)


def _site(tree: Path) -> Path:
    sites = sorted(tree.glob("lib/python*/site-packages"))
    if len(sites) != 1:
        raise TrustError("the Python environment has no site-packages", next_step="check the Python installation")
    return sites[0]


def _compile(interpreter: Interpreter, tree: Path, site: Path, work: Path) -> None:
    """Bytecode beside the sources, valid without looking at them: the tree never changes.

    Sources for other Python versions do not compile; they are left as they are.
    """
    resolve_client.run(
        [
            interpreter.path,
            "-I",
            "-S",
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
            "-s",
            str(tree),
            "-p",
            "/callgate",
            str(site),
        ],
        work,
        extra={"PYTHONHASHSEED": "0"},
    )


def _taken(packages: list[pypi_clients.Package], installed: list[pypi_entry.Installed]) -> tuple[Artefact, ...]:
    """The artefacts, each with the file first that was really unpacked, as far as its tags tell."""
    tags = {normal_pypi(one.name): one.tags for one in installed}
    out = []
    for one in packages:
        artefact = _artefact(one)
        wanted = tags.get(normal_pypi(one.name), frozenset())
        for file, digest in zip(one.files, one.digests, strict=True):
            if wanted and pypi_entry.file_tags(file) == wanted:
                every = {artefact.digest, *artefact.others}
                first = f"sha256:{digest}"
                artefact = Artefact(artefact.purl, first, file, tuple(sorted(every - {first})))
                break
        out.append(artefact)
    return tuple(sorted(out, key=lambda one: one.purl))
