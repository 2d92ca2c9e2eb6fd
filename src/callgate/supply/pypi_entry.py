"""Entry points of an unpacked Python environment, read from its metadata: nothing is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from callgate.errors import TrustError
from callgate.supply import place
from callgate.supply.launch_packages import normal_pypi, pypi_spec
from callgate.text import visible

MAX_METADATA = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Installed:
    """One `.dist-info` directory."""

    name: str
    version: str
    folder: Path
    tags: frozenset[str]


def installed(site: Path) -> list[Installed]:
    """All distributions."""
    out = []
    for folder in sorted(site.glob("*.dist-info")):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        lines = _lines(folder / "WHEEL")
        tags = frozenset(line.partition(":")[2].strip() for line in lines if line.lower().startswith("tag:"))
        out.append(Installed(name, version, folder, tags))
    return out


def _lines(path: Path) -> list[str]:
    try:
        return place.read(path, MAX_METADATA).decode("utf-8", "replace").splitlines()
    except TrustError:
        return []


def file_tags(file: str) -> frozenset[str]:
    """The tags that a wheel's name stands for (PEP 425)."""
    parts = file.removesuffix(".whl").split("-")
    if len(parts) < 5 or not file.endswith(".whl"):
        return frozenset()
    pythons, abis, systems = (part.split(".") for part in parts[-3:])
    return frozenset(f"{python}-{abi}-{system}" for python in pythons for abi in abis for system in systems)


def scripts(folder: Path) -> dict[str, str]:
    """Console scripts of a distribution: name to `module:function`."""
    out = {}
    section = ""
    for line in _lines(folder / "entry_points.txt"):
        text = line.strip()
        if text.startswith("["):
            section = text.strip("[]")
        elif section == "console_scripts" and "=" in text and not text.startswith(("#", ";")):
            name, _, target = text.partition("=")
            out[name.strip()] = target.partition("[")[0].strip()
    return out


def find(site: Path, every: Sequence[Installed], package: str, entry: str, more: Sequence[str]) -> tuple[str, str, str]:
    """Module and function of the program, and the package's own directory in `site`. Raises TrustError."""
    wanted = [normal_pypi(package), *(normal_pypi(pypi_spec(one).name) for one in more)]
    for name in wanted:
        own = next((one for one in every if normal_pypi(one.name) == name), None)
        if own is None:
            continue
        programs = scripts(own.folder)
        chosen = entry or next((one for one in programs if normal_pypi(one) == wanted[0]), "")
        if not entry and not chosen and len(programs) == 1 and name == wanted[0]:
            chosen = next(iter(programs))
        target = programs.get(chosen, "")
        module, colon, function = target.partition(":")
        if colon and all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
            top = module.partition(".")[0]
            return module, function, top if (site / top).is_dir() else ""
    names = sorted({one for dist in every if normal_pypi(dist.name) in wanted for one in scripts(dist.folder)})
    shown = ", ".join(visible(one, 40) for one in names[:6]) or "none"
    raise TrustError(
        f"{visible(package, 100)} has no program {visible(entry or package, 60)!r}; it has: {shown}",
        next_step="name it: uvx --from PACKAGE PROGRAM",
    )


def launcher(name: str, module: str, function: str) -> str:
    """The program that starts an entry point. `module` and `function` are dotted names."""
    first = function.partition(".")[0]
    return (
        f"import sys\nfrom {module} import {first}\n"
        f"sys.argv[0] = {name!r}\nif __name__ == '__main__':\n    sys.exit({function}())\n"
    )


def start_code(site: Path) -> tuple[str, ...]:
    """Files by which a package runs code at every start of its interpreter."""
    found = [
        f"{visible(path.name, 80)}: runs code at every start of Python"
        for path in sorted(site.glob("*.pth"))
        if any(line.startswith(("import ", "import\t")) for line in _lines(path))
    ]
    found += [
        f"{name}: runs at every start of Python"
        for name in ("sitecustomize.py", "usercustomize.py")
        if (site / name).exists()
    ]
    return tuple(found)
