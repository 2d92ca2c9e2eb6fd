"""`callgate trust inspect`: what is inside an MCPB bundle, an agent skill or a registry entry, before it is used."""

from __future__ import annotations

import textwrap
from pathlib import Path

from callgate.cli.trust_sign import EXIT_NO, EXIT_OK, answered, parser
from callgate.errors import TrustError
from callgate.supply.finding import WEIGHTS, Finding, refused
from callgate.text import visible

SHOWN = 60
"""Findings printed."""


@answered
def inspect_action(argv: list[str]) -> int:
    """0 nothing forbids it; 1 something does; 2 usage."""
    made = parser(
        "inspect",
        "Looks at an MCPB bundle, an agent skill (directory or ZIP) or a registry entry\n"
        "(server.json) without running anything of it.",
    )
    made.add_argument("path", metavar="FILE|DIR")
    made.add_argument(
        "--pin",
        metavar="SHA256",
        action="append",
        default=[],
        help="fingerprint of a certificate whose bundles you trust",
    )
    made.add_argument("--notes", action="store_true", help="show notes too")
    arguments = made.parse_args(argv)
    path = Path(arguments.path)
    if path.is_dir():
        findings = _skill(path)
    elif path.suffix == ".json":
        findings = _entry(path)
    else:
        findings = _archive(path, arguments.pin)
    return _told(findings, notes=arguments.notes)


def _skill(path: Path) -> tuple[Finding, ...]:
    from callgate.supply.skills import inspect_skill

    skill = inspect_skill(path)
    print(f"skill {visible(skill.name, 80)}: {len(skill.files)} files, {sum(skill.files.values())} bytes")
    print(_wrapped(visible(skill.description, 200), 2))
    if skill.allowed_tools:
        print(_wrapped(f"allowed tools: {visible(' '.join(skill.allowed_tools), 200)}", 2))
    return skill.findings


def _entry(path: Path) -> tuple[Finding, ...]:
    from callgate.supply.ownership import SERVER_JSON_BYTES, lint_server_json
    from callgate.supply.place import read

    data = read(path, SERVER_JSON_BYTES, "server.json")
    findings = tuple(lint_server_json(data))
    print(f"registry entry {visible(str(path), 200)}")
    return findings


def _archive(path: Path, pins: list[str]) -> tuple[Finding, ...]:
    from callgate.supply.archive import members
    from callgate.supply.mcpb_signature import BUNDLE_BYTES, split
    from callgate.supply.place import read

    data = read(path, BUNDLE_BYTES, "file")
    if any(member.path == "manifest.json" for member in members(split(data).zip)):
        return _bundle(data, pins)
    return _skill(path)


def _bundle(data: bytes, pins: list[str]) -> tuple[Finding, ...]:
    from callgate.supply.mcpb import read_bundle
    from callgate.supply.mcpb_signature import verify

    bundle = read_bundle(data)
    manifest = bundle.manifest
    size = sum(member.size for member in bundle.members)
    print(f"bundle {visible(manifest.name, 80)} {visible(manifest.version, 40)} (manifest {manifest.manifest_version})")
    print(
        f"  {len(bundle.members)} entries, {size} bytes; {manifest.type} server, tools declared: {len(manifest.tools)}"
    )
    print(_wrapped(f"starts {visible(' '.join((manifest.command, *manifest.args)), 200)}", 2))
    if not bundle.signed:
        print("  not signed")
        return bundle.findings
    try:
        print(_wrapped(verify(data, pins).describe(), 2))
    except TrustError as error:
        return (*bundle.findings, Finding("mcpb-signature", "refuse", error.what))
    return bundle.findings


def _wrapped(text: str, indent: int) -> str:
    """`text` on lines of at most 80 columns."""
    space = " " * indent
    return textwrap.fill(
        text, 80, initial_indent=space, subsequent_indent=space, break_on_hyphens=False, break_long_words=False
    )


def _told(findings: tuple[Finding, ...], *, notes: bool) -> int:
    ordered = sorted(findings, key=lambda one: -WEIGHTS.index(one.weight))
    kept = [one for one in ordered if notes or one.weight != "note"]
    for one in kept[:SHOWN]:
        print(f"{one.weight:<6}  {one.rule}" + (f"  {one.where}" if one.where else ""))
        print(_wrapped(one.what, 8))
    if len(kept) > SHOWN:
        print(f"and {len(kept) - SHOWN} more")
    left = len(ordered) - len(kept)
    if left:
        print(f"{left} note{'s' if left > 1 else ''} (--notes)")
    if refused(findings):
        print("refused")
        return EXIT_NO
    print("nothing forbids it" if kept else "nothing found")
    return EXIT_OK
