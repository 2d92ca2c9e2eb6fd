"""MCPB bundles: what is inside, and what the manifest does not say.

A bundle is a ZIP with `manifest.json` at its top, signed or not (mcpb_signature.py). `read_bundle` writes nothing;
`open_bundle` unpacks into a fresh directory (archive.py). Both judge what they find.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callgate.errors import TrustError
from callgate.supply.archive import Limits, Member, members, unpack
from callgate.supply.finding import Finding, Weight
from callgate.supply.mcpb_command import VARIABLE
from callgate.supply.mcpb_manifest import MANIFEST_BYTES, Manifest, parse_manifest
from callgate.supply.mcpb_signature import BUNDLE_BYTES, split
from callgate.supply.place import read
from callgate.text import visible

_INTERPRETERS = {"node": ("node",), "python": ("python", "python3"), "uv": ("uv",)}
_INLINE = ("-e", "--eval", "-c", "-p", "--print", "-r", "--require", "--import", "-m")
_PROGRAMS: Final = {
    b"\x7fELF": "an ELF program",
    b"MZ": "a Windows program",
    b"\xcf\xfa\xed\xfe": "a macOS program",
    b"\xce\xfa\xed\xfe": "a macOS program",
    b"\xca\xfe\xba\xbe": "a macOS program or Java class",
}
_MOST_PROGRAMS = 50


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's manifest, members and findings; `directory` is where it was unpacked, if it was."""

    manifest: Manifest
    members: tuple[Member, ...]
    findings: tuple[Finding, ...]
    directory: Path | None = None
    signed: bool = False


@dataclass(frozen=True, slots=True)
class ToolDifference:
    """Declared tools against those a running server lists."""

    undeclared: tuple[str, ...] = ()
    """The server offers it, the manifest does not say so (and does not say that tools are generated)."""
    missing: tuple[str, ...] = ()
    generated: bool = False
    """The manifest says that the server makes tools of its own at run time: undeclared ones are then ordinary."""


def read_bundle(bundle: Path | bytes, limits: Limits | None = None) -> Bundle:
    """Judge a bundle without writing anything. Raises TrustError when it is damaged or hostile."""
    return _opened(bundle, None, limits)


def open_bundle(bundle: Path | bytes, into: Path, limits: Limits | None = None) -> Bundle:
    """Unpack a bundle into `into`, which must not exist. Raises TrustError. The findings say what to look at."""
    return _opened(bundle, into, limits)


def compare_tools(manifest: Manifest, live: Iterable[str]) -> ToolDifference:
    """What a running server lists against what its manifest declares."""
    offered = set(live)
    declared = set(manifest.tools)
    generated = manifest.tools_generated
    return ToolDifference(tuple(sorted(offered - declared)), tuple(sorted(declared - offered)), generated)


def _opened(bundle: Path | bytes, into: Path | None, limits: Limits | None) -> Bundle:
    data = bundle if isinstance(bundle, bytes) else read(bundle, BUNDLE_BYTES, "bundle")
    parts = split(data)
    found = unpack(parts.zip, into, limits) if into else members(parts.zip, limits)
    try:
        manifest = parse_manifest(_member(parts.zip, "manifest.json"))
        findings = (*_judge(manifest, found), *_programs(manifest, parts.zip))
    except BaseException:
        if into:
            shutil.rmtree(into, ignore_errors=True)
        raise
    return Bundle(manifest, found, findings, into, bool(parts.signature))


def _member(data: bytes, path: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        try:
            with archive.open(path) as content:
                return content.read(MANIFEST_BYTES + 1)
        except KeyError as error:
            raise TrustError("there is no manifest.json at its top", next_step="name an MCPB bundle") from error


def _judge(manifest: Manifest, found: Sequence[Member]) -> list[Finding]:
    out: list[Finding] = []
    files = {one.path for one in found if one.kind == "file"}
    if manifest.entry_point not in files:
        out.append(Finding("mcpb-entry-point", "refuse", "the entry point is not in the bundle", manifest.entry_point))
    out += [
        Finding("mcpb-unknown-member", "note", f"the manifest has '{visible(name, 60)}', which is unknown")
        for name in manifest.unknown
    ]
    commands = [("", manifest.command, manifest.args), *_override_commands(manifest)]
    allowed = _INTERPRETERS.get(manifest.type, ())
    for where, program, args in commands:
        at = f"server.mcp_config{where}"
        base = program.rsplit("/", 1)[-1].removesuffix(".exe")
        own = program.startswith("${__dirname}")
        if not own and base not in allowed:
            what = f"it starts '{visible(program, 80)}', which is neither in the bundle nor what its type runs"
            out.append(Finding("mcpb-command", "refuse", what, at))
        elif own and _own_path(program) not in files:
            what = f"it starts '{visible(program, 80)}', which is not in the bundle"
            out.append(Finding("mcpb-command", "refuse", what, at))
        for word in (program, *args):
            for name in VARIABLE.findall(word):
                option = manifest.options.get(name.removeprefix("user_config."))
                if name.startswith("user_config.") and option is not None and option.sensitive:
                    what = f"the secret '{visible(option.name, 60)}' goes into the arguments, which every user can read"
                    out.append(Finding("mcpb-secret-argument", "refuse", what, at))
        for word in args:
            if word in _INLINE:
                what = f"it passes {word} to {visible(base, 40)}: code beside the entry point runs"
                out.append(Finding("mcpb-inline-code", "warn", what, at))
    for option in manifest.options.values():
        if _sounds_secret(option.name) and not option.sensitive and option.type == "string":
            what = f"the option '{visible(option.name, 60)}' sounds like a secret and is not marked sensitive"
            out.append(Finding("mcpb-option-not-sensitive", "warn", what, "user_config"))
        if option.sensitive and option.default not in (None, ""):
            what = f"the sensitive option '{visible(option.name, 60)}' has a default, which every user shares"
            out.append(Finding("mcpb-shared-secret", "warn", what, "user_config"))
    if not manifest.tools and not manifest.tools_generated:
        out.append(Finding("mcpb-no-tools", "note", "the manifest declares no tools"))
    return out


def _override_commands(manifest: Manifest) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (f".platform_overrides.{visible(name, 40)}", one.get("command", manifest.command), one.get("args", ()))
        for name, one in manifest.overrides.items()
    ]


def _own_path(program: str) -> str:
    rest = program.removeprefix("${__dirname}").replace("${/}", "/").replace("${pathSeparator}", "/")
    return rest.replace("\\", "/").lstrip("/")


def _programs(manifest: Manifest, data: bytes) -> list[Finding]:
    """Compiled programs that the manifest's type does not explain."""
    started = {_own_path(program) for _, program, _ in [("", manifest.command, ()), *_override_commands(manifest)]}
    started.add(manifest.entry_point)
    out: list[Finding] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            with archive.open(info) as content:
                start = content.read(4)
            what = next((text for magic, text in _PROGRAMS.items() if start.startswith(magic)), "")
            path = visible(info.filename, 200)
            library = path.endswith((".node", ".so", ".dll", ".dylib", ".pyd")) or ".so." in path
            if what and info.filename not in started:
                named = manifest.type == "binary" or library
                weight: Weight = "note" if named else "warn"
                out.append(Finding("mcpb-program", weight, f"{what} that the manifest does not name", path))
            if len(out) >= _MOST_PROGRAMS:
                out.append(Finding("mcpb-program", "warn", "and more of them"))
                break
    return out


def _sounds_secret(name: str) -> bool:
    flat = name.lower().replace("-", "_")
    if flat.endswith(("_path", "_file", "_dir", "_url", "_name", "_id")):
        return False
    words = flat.split("_")
    return bool({"token", "secret", "password", "passwd", "apikey", "pat", "credential"} & set(words)) or (
        flat.endswith(("api_key", "access_key", "private_key", "token", "secret", "password", "apikey"))
    )
