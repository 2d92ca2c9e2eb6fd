"""Programs of one's own: a script, its project's directory, or a binary, by their digests where they are."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from callgate.errors import TrustError
from callgate.supply import artefacts, local_rules, place, resolve_client
from callgate.supply.launch_line import LaunchLine
from callgate.supply.lockfile import Artefact, Entry
from callgate.supply.resolve_types import Fetched, Resolved, Wanted, platform_name, refuse_placeholders
from callgate.text import visible


def resolve(wanted: Wanted, _work: Path) -> Resolved:
    """The program's file and what belongs to it. Raises TrustError."""
    line = wanted.line
    program, top = _files(line, wanted.cwd)
    digest = artefacts.digest_of(program)
    address = f"pkg:generic/{''.join(c if c.isalnum() or c in '._-' else '-' for c in program.name)}"
    notes = ("local-dependencies",) if line.runtime else ()
    return Resolved(
        line.kind,
        str(program),
        "",
        address,
        (Artefact(address, f"sha256:{digest}"),),
        notes=notes,
        payload={"program": program, "top": top, "digest": digest},
    )


def fetch(wanted: Wanted, resolved: Resolved) -> Fetched:
    """The digest of the project; only the listing is kept. Raises TrustError."""
    program: Path = resolved.payload["program"]
    top: Path | None = resolved.payload["top"]
    entry = replace(_words(wanted.line, program, top), sha256=resolved.payload["digest"])
    if top is None:
        return Fetched(entry)
    text = artefacts.listing(top, local_rules.LIMITS, local_rules.skipped)
    digest = artefacts.tree_digest(text)
    # One record a state of the tree: what is not taken must not change what was.
    where = artefacts.key("local", top.name, "", sha256(os.fsencode(top) + digest.encode()).hexdigest())
    with artefacts.store_lock(wanted.state):
        folder = artefacts.root(wanted.state) / where
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.write(folder / artefacts.FILES, text.encode("utf-8", "surrogateescape"), 0o400)
        place.write(folder / artefacts.QUICK, artefacts.quick(top, ".", local_rules.skipped), 0o400)
    return Fetched(entry, "", where, digest, platform_name())


def started(line: LaunchLine, cwd: Path) -> Entry:
    """What a line starts in a directory. Raises TrustError."""
    return _words(line, *_files(line, cwd))


def _files(line: LaunchLine, cwd: Path) -> tuple[Path, Path | None]:
    """The program's file and its project."""
    program = _program(line, cwd)
    return program, None if line.kind == "binary" else local_rules.project(program)


def _program(line: LaunchLine, cwd: Path) -> Path:
    base = cwd / line.directory if line.directory else cwd
    if line.kind == "binary":
        found = line.program if os.sep in line.program else resolve_client.find(line.program)
        if not found:
            raise TrustError(f"there is no program {visible(line.program, 100)!r}", next_step="give its full path")
        place_ = base / found
    elif line.entry.startswith("-m "):
        place_ = _module(base, line.program, line.entry[3:])
    elif not line.entry:
        raise TrustError(
            "the launch line names no file of the program", next_step="start the program's file itself, or a package"
        )
    else:
        place_ = base / line.entry
        if not place_.is_file() and line.directory:
            raise TrustError(
                f"{visible(line.entry, 100)} is no file in {visible(line.directory, 200)}: which code it starts "
                "depends on an environment that uv makes",
                next_step="name the script's file: uv run --directory DIR server.py",
            )
    if not place_.is_file():
        raise TrustError(f"there is no file {visible(str(place_), 300)}", next_step="check the path")
    return Path(os.path.abspath(place_))


def _module(base: Path, program: str, module: str) -> Path:
    """The file of `python -m module`: below the working directory, or in the interpreter's own environment."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        raise TrustError(f"{visible(module, 80)!r} is not a module", next_step="correct it")
    roots = [base]
    if os.sep in program:
        roots += sorted(Path(os.path.abspath(base / program)).parent.parent.glob("lib*/python*/site-packages"))
    for folder in roots:
        for candidate in (folder.joinpath(*parts, "__main__.py"), folder.joinpath(*parts).with_suffix(".py")):
            if candidate.is_file():
                return candidate
    raise TrustError(
        f"the module {visible(module, 80)} is in no place that can be told without running Python",
        next_step="start it as a package (uvx NAME), or through the python of its environment (DIR/bin/python -m ...)",
    )


def _words(line: LaunchLine, program: Path, top: Path | None) -> Entry:
    """The line as it was, with the program's file absolute."""
    refuse_placeholders(line.arguments)
    return Entry(
        argv=_argv(line, program),
        file=str(program),
        runtime=os.path.basename(line.program) if line.runtime else "",
        runtime_path=(resolve_client.find(line.program) or line.program) if line.runtime else "",
        own="." if top else "",
        tree_root=str(top) if top else "",
        directory=line.directory,
        environment=dict(line.environment),
    )


def _argv(line: LaunchLine, program: Path) -> tuple[str, ...]:
    if line.kind == "binary" or not line.runtime or line.program == line.entry:
        if line.program != line.entry and line.kind != "binary":
            return (*line.launcher, str(program), *line.arguments)
        return (str(program), *line.arguments)
    launcher = line.launcher[1:]
    if line.entry.startswith("-m "):
        return ("{runtime}", *launcher, *line.arguments)
    return ("{runtime}", *launcher, str(program), *line.arguments)
