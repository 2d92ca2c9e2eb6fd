"""uv and pip, as far as they are needed: which versions with which digests, and unpacking them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from callgate.errors import TrustError
from callgate.outside import programs
from callgate.supply import place, resolve_client
from callgate.supply.cooldown import parse_time
from callgate.supply.resolve_types import Wanted
from callgate.text import visible

MAX_PACKAGES = 5000
_ASK = "import sys, platform; print(sys._base_executable or sys.executable); print(platform.python_version())"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A base interpreter."""

    path: str
    version: str

    @property
    def tag(self) -> str:
        """What an unpacked environment depends on: version and place."""
        return f"python{self.version}-{sha256(os.fsencode(self.path)).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Package:
    """One resolved version, with all its files that may be taken."""

    name: str
    version: str
    files: tuple[str, ...]
    digests: tuple[str, ...]
    """SHA-256 of each file, hexadecimal."""
    published: datetime | None = None
    sdist: bool = False
    """There is no wheel: it would be built here."""


class Client(Protocol):
    """What resolves and installs."""

    name: str
    holds_cooldown: bool

    def resolve(self, requirements: Sequence[str], wanted: Wanted, work: Path) -> list[Package]: ...

    def install(self, packages: Sequence[Package], tree: Path, wanted: Wanted, work: Path) -> None: ...

    def index(self, requirement: str, wanted: Wanted, work: Path) -> str: ...


def interpreter(asked: str, work: Path) -> Interpreter:
    """The base interpreter that the launch line asks for, else the first `python3` of PATH. Raises TrustError."""
    path = ""
    if os.sep in asked:
        programs.find(asked)  # to be asked, it is started
    uv = programs.find("uv")
    if uv:
        # Else a `.python-version` or `.venv` of any directory above the work names a program, which uv then runs.
        ours = ("--no-project", "--no-config", *(() if os.sep in asked else ("--system",)))
        output = resolve_client.run((uv, "python", "find", *ours, *((asked,) if asked else ())), work, seconds=300)
        path = "" if output.code else output.out.decode("utf-8", "replace").strip()
    elif os.sep in asked:
        path = asked
    else:
        path = programs.find(f"python{asked}" if asked else "python3")
    if not path:
        what = f"Python {visible(asked, 40)}" if asked else "Python"
        raise TrustError(f"there is no {what} here", next_step="install it, or ask for another version")
    output = resolve_client.run((path, "-I", "-S", "-c", _ASK), work, seconds=60)
    lines = output.out.decode("utf-8", "replace").splitlines()
    if output.code or len(lines) != 2:
        raise TrustError(f"{visible(path, 200)} does not run", next_step="check the Python installation")
    return Interpreter(lines[0], lines[1])


def client(base: Interpreter, *, build: bool = False) -> Client:
    """Uv where there is one, else pip of the base interpreter. Raises TrustError."""
    uv = programs.find("uv")
    return Uv(uv, base) if uv else Pip(base, build=build)


class Uv:
    """uv."""

    name = "uv"
    holds_cooldown = True

    def __init__(self, program: str, base: Interpreter) -> None:
        self._program = program
        self._base = base

    def resolve(self, requirements: Sequence[str], wanted: Wanted, work: Path) -> list[Package]:
        """Versions and digests. Raises TrustError."""
        source = work / "requirements.in"
        source.write_text("".join(f"{one}\n" for one in requirements), encoding="utf-8")
        if not wanted.cooldown.active:
            return self._resolve(source, (), wanted, work)
        try:
            return self._resolve(source, ("--exclude-newer", wanted.cooldown.text), wanted, work)
        except TrustError as error:
            # Whether it is the cool-down, and why, uv does not tell: see what there is without it.
            found = self._resolve(source, (), wanted, work)
            for one in found:
                wanted.cooldown.check(f"{one.name} {one.version}", one.published)
            raise error from None

    def _resolve(self, source: Path, limit: tuple[str, ...], wanted: Wanted, work: Path) -> list[Package]:
        binary = () if wanted.allow_sdist else ("--only-binary", ":all:")
        output = resolve_client.run(
            [
                self._program,
                "pip",
                "compile",
                "--format",
                "pylock.toml",
                "--no-header",
                "--no-annotate",
                "--quiet",
                "--no-sources",
                "--python",
                self._base.path,
                *binary,
                *limit,
                *wanted.line.registry,
                str(source),
            ],
            work,
        )
        if output.code:
            raise _failed(self.name, wanted, output)
        try:
            lock = tomllib.loads(output.out.decode())
        except (ValueError, UnicodeDecodeError) as error:
            raise TrustError("what uv resolved is not TOML", next_step="update uv") from error
        found = lock.get("packages", [])
        if not isinstance(found, list) or len(found) > MAX_PACKAGES:
            raise TrustError(f"more than {MAX_PACKAGES} packages are needed", next_step="do not use this package")
        return [_from_pylock(one, sdist=wanted.allow_sdist) for one in found]

    def install(self, packages: Sequence[Package], tree: Path, wanted: Wanted, work: Path) -> None:
        """Unpack exactly these. Raises TrustError."""
        binary = () if wanted.allow_sdist else ("--only-binary", ":all:")
        _installed(
            self.name,
            resolve_client.run(
                [
                    self._program,
                    "pip",
                    "install",
                    "--quiet",
                    "--python",
                    str(tree / "bin" / "python"),
                    "--no-deps",
                    "--require-hashes",
                    "--link-mode",
                    "copy",
                    "--no-sources",
                    *binary,
                    *wanted.line.registry,
                    "-r",
                    str(_requirements(packages, work)),
                ],
                work,
                extra={"UV_COMPILE_BYTECODE": "0"},
                watch=resolve_client.size_watch(tree),
            ),
        )

    def index(self, requirement: str, wanted: Wanted, work: Path) -> str:
        """The URL of the index it takes `name==version` from. Raises TrustError where it does not tell."""
        source = work / "one.in"
        source.write_text(f"{requirement}\n", encoding="utf-8")
        binary = () if wanted.allow_sdist else ("--only-binary", ":all:")
        words = ("pip", "compile", "--no-deps", "--no-header", "--quiet", "--no-sources", "--emit-index-annotation")
        output = resolve_client.run(
            (self._program, *words, "--python", self._base.path, *binary, *wanted.line.registry, str(source)), work
        )
        marks = [line.strip() for line in output.out.decode("utf-8", "replace").splitlines()]
        found = [line.removeprefix("# from ") for line in marks if line.startswith("# from http")]
        if output.code or len(found) != 1:
            raise TrustError("uv does not tell which index it asked", next_step="update uv")
        return found[0]


_WHEELS_ONLY = """\
import sys
from pip._internal.cli.main import main
from pip._internal.distributions.sdist import SourceDistribution
from pip._internal.exceptions import InstallationError
def refuse(*_, **__):
    raise InstallationError("a package would be built from source, which runs its code")
SourceDistribution.prepare_distribution_metadata  # must be there to be replaced
SourceDistribution.prepare_distribution_metadata = refuse
sys.exit(main(sys.argv[1:]))
"""
"""pip that builds nothing: `--only-binary` does not hold for dependencies that name a URL. Where a later pip has no
such method any more, this ends with an error."""


class Pip:
    """pip of the base interpreter. Holds a cool-down from version 26 on."""

    name = "pip"

    def __init__(self, base: Interpreter, *, build: bool = False) -> None:
        start = ("-m", "pip") if build else ("-c", _WHEELS_ONLY)
        self._program = (base.path, *start, "--disable-pip-version-check", "--no-input")
        self.holds_cooldown = False

    def resolve(self, requirements: Sequence[str], wanted: Wanted, work: Path) -> list[Package]:
        """Versions and digests. Raises TrustError."""
        version = resolve_client.run((*self._program, "--version"), work, seconds=60)
        words = version.out.decode("utf-8", "replace").split()
        if version.code or len(words) < 2:
            raise TrustError("there is neither uv nor pip", next_step="install uv (or Debian's python3-pip)")
        major = words[1].partition(".")[0]
        self.holds_cooldown = major.isdigit() and int(major) >= 26
        limit: tuple[str, ...] = ()
        if wanted.cooldown.active:
            if not self.holds_cooldown:
                raise TrustError(
                    f"pip {visible(words[1], 20)} cannot hold back new releases, so the cool-down cannot be held",
                    next_step="install uv, or pip 26, or take what is there: --no-cooldown",
                )
            limit = ("--uploaded-prior-to", wanted.cooldown.text)
        binary = () if wanted.allow_sdist else ("--only-binary", ":all:")
        output = resolve_client.run(
            [
                *self._program,
                "install",
                "--dry-run",
                "--ignore-installed",
                "--quiet",
                "--report",
                "-",
                *binary,
                *limit,
                *for_pip(wanted.line.registry),
                "--",
                *requirements,
            ],
            work,
        )
        if output.code:
            raise _failed(self.name, wanted, output)
        report = place.parse_object(output.out, "pip's report", resolve_client.OUTPUT_BYTES)
        found = report.get("install")
        if not isinstance(found, list) or len(found) > MAX_PACKAGES:
            raise TrustError(f"more than {MAX_PACKAGES} packages are needed", next_step="do not use this package")
        return [_from_report(one) for one in found]

    def install(self, packages: Sequence[Package], tree: Path, wanted: Wanted, work: Path) -> None:
        """Unpack exactly these. Raises TrustError."""
        binary = () if wanted.allow_sdist else ("--only-binary", ":all:")
        _installed(
            self.name,
            resolve_client.run(
                [
                    *self._program,
                    "--python",
                    str(tree / "bin" / "python"),
                    "install",
                    "--quiet",
                    "--no-deps",
                    "--require-hashes",
                    "--no-compile",
                    "--no-warn-script-location",
                    *binary,
                    *for_pip(wanted.line.registry),
                    "-r",
                    str(_requirements(packages, work)),
                ],
                work,
                watch=resolve_client.size_watch(tree),
            ),
        )

    def index(self, requirement: str, wanted: Wanted, work: Path) -> str:
        """'': whatever pip is configured for."""
        return ""


def for_pip(registry: Sequence[str]) -> tuple[str, ...]:
    """Uv's names of index options as pip's."""
    names = {"--default-index": "--index-url", "--index": "--extra-index-url"}
    out = []
    for one in registry:
        name, _, value = one.partition("=")
        out.append(f"{names.get(name, name)}={value}" if name.startswith("--") else f"{name}{value}")
    return tuple(out)


def _requirements(packages: Sequence[Package], work: Path) -> Path:
    path = work / "requirements.txt"
    lines = [
        f"{one.name}=={one.version}" + "".join(f" --hash=sha256:{digest}" for digest in one.digests) + "\n"
        for one in packages
    ]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _from_pylock(one: Any, *, sdist: bool) -> Package:
    name, version = str(one.get("name", "")), str(one.get("version", ""))
    files, digests, times = [], [], []
    wheels = one.get("wheels", [])
    source = one.get("sdist")
    chosen = wheels or ([source] if sdist and source else [])
    for file in [*wheels, source] if sdist and source else chosen:
        digest = str(file.get("hashes", {}).get("sha256", ""))
        if digest:
            files.append(str(file.get("name") or str(file.get("url", file.get("path", ""))).rpartition("/")[2]))
            digests.append(digest)
            times.append(parse_time(file.get("upload-time")))
    return _checked(name, version, files, digests, [time for time in times if time], sdist=not wheels)


def _from_report(one: Any) -> Package:
    metadata, download = one.get("metadata", {}), one.get("download_info", {})
    digest = str(download.get("archive_info", {}).get("hashes", {}).get("sha256", ""))
    file = str(download.get("url", "")).rpartition("/")[2].partition("#")[0]
    name, version = str(metadata.get("name", "")), str(metadata.get("version", ""))
    return _checked(name, version, [file], [digest] if digest else [], [], sdist=not file.endswith(".whl"))


def _checked(
    name: str, version: str, files: list[str], digests: list[str], times: list[datetime], *, sdist: bool
) -> Package:
    shown = visible(f"{name} {version}", 120)
    allowed = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+!")
    if not name or not version or not allowed.issuperset(name + version):
        raise TrustError(f"{shown} does not come from an index", next_step="do not use this package")
    if any("/" in one or not one for one in files):
        raise TrustError(f"{shown} has a file without a name", next_step="do not use this package")
    if not digests or not all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in digests):
        raise TrustError(f"the index gives no SHA-256 of {shown}", next_step="use an index that does")
    return Package(name, version, tuple(files), tuple(digests), min(times) if times else None, sdist)


def _failed(name: str, wanted: Wanted, output: resolve_client.Output) -> TrustError:
    package = visible(wanted.line.package, 100)
    said = resolve_client.last_words(output, 500)
    if wanted.cooldown.active and "upload-time" in output.error:
        return TrustError(
            f"the index gives no release dates, so the cool-down cannot be held: {said}",
            next_step="look at the release yourself, then: --no-cooldown",
        )
    marks = ("exclude-newer", "No solution", "No matching distribution")
    if wanted.cooldown.active and any(one in output.error for one in marks):
        return TrustError(
            f"{name} found no set of releases of {package} published before {wanted.cooldown.text[:10]}: {said}",
            next_step="wait, or, if you know the release to be good: --no-cooldown; without wheels: --allow-sdist",
        )
    return TrustError(
        f"{name} could not resolve {package}: {said}",
        next_step="check the name and the index; without wheels it takes --allow-sdist, which runs the package's code",
    )


def _installed(name: str, output: resolve_client.Output) -> None:
    if not output.code:
        return
    if "hash mismatch" in output.error.lower() or "do not match the hashes" in output.error.lower():
        raise TrustError(
            f"the index's bytes do not have the digest it gave: {resolve_client.last_words(output)}",
            next_step="do not use them; tell the index's owner",
        )
    raise TrustError(
        f"{name} could not unpack the packages: {resolve_client.last_words(output)}",
        next_step="check the network and the disk",
    )
