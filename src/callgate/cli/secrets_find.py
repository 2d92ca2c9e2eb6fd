"""`callgate secrets find`: clients' files, callgate.toml, histories, credential files and server directories."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from callgate.cli.client_options import chosen_clients, shown_path, state_of_user
from callgate.clients.entries import Entry, entries, gate_at
from callgate.clients.files import MAX_BYTES
from callgate.clients.formats import FormatName, parse
from callgate.clients.git import tracked
from callgate.clients.machine import Found, Machine
from callgate.clients.machine import find as find_files
from callgate.clients.tree import ClientFileError, Node
from callgate.config.places import state_directory, user_config_file
from callgate.errors import ConfigError
from callgate.text import visible
from callgate.vault.find import Finding, Fingerprints, Hit, Report, Search
from callgate.vault.find_tree import in_document
from callgate.vault.find_walk import Walk

EXIT_OK, EXIT_NO = 0, 1
WIDTH = 80
SKIPPED_SHOWN = 10
_DIRECTORY_OPTIONS = frozenset({"--directory", "--project", "--cwd", "-C", "--prefix"})
_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib", "/etc/", "/proc/", "/dev/", "/sys/", "/nix/", "/snap/")


def find(arguments: argparse.Namespace) -> int:
    """Look, and print what was found."""
    chosen_clients(arguments)
    for path in arguments.path:
        if not os.path.lexists(path):
            raise ConfigError(f"there is no {visible(path, 300)}", next_step="name a file or directory that exists")
    report = search(arguments)
    if arguments.json:
        print(json.dumps(as_json(report), indent=2, ensure_ascii=True))
    else:
        _print(report)
    return EXIT_NO if report.findings else EXIT_OK


def search(arguments: argparse.Namespace, also: Iterable[str] = ()) -> Report:
    """All that the options ask for. `also`: values that are looked for whatever they look like."""
    machine = Machine.here()
    made = Search(Fingerprints.of_state(_state()), also=also)
    walk = Walk(made, machine.home, _parse)
    if arguments.path:
        for path in arguments.path:
            walk.named(os.path.abspath(path))
        return made.report()
    folders: list[str] = []
    for found in find_files(machine, tuple(arguments.client), arguments.project):
        folders += _client_file(made, found, machine.home)
    if not arguments.client:
        _configuration(made, machine.home)
        walk.known_places(machine.environ)
        for folder in dict.fromkeys(folders):
            walk.server_directory(folder)
        if arguments.project:
            walk.env_files(os.path.abspath(arguments.project))
        if arguments.home:
            walk.env_files(machine.home)
    return made.report()


def _state() -> Path:
    """The state directory; the default one where the configuration is broken, which is said when it is looked at."""
    try:
        return state_of_user()
    except ConfigError:
        return state_directory()


def _parse(format_: str, text: str) -> Node:
    return parse(cast("FormatName", format_), text)


def _client_file(made: Search, found: Found, home: str) -> list[str]:
    """Look at one client's file; the directories of the servers in it."""
    file = made.files.read(found.path, within=home, most=MAX_BYTES)
    if file is None:
        return []
    is_tracked = found.place.scope == "project" and tracked(found.real)
    folders: list[str] = []
    try:
        root = parse(found.place.format, file.text.removeprefix("\ufeff"))
        for entry in entries(root, found.place, found.client.shape):
            hits = (replace(hit, server=entry.name) for hit in _moved(in_document(entry.node), file.text))
            made.add(file, hits, "client", client=found.client.name, tracked=is_tracked)
            folders += directories(entry)
        whole = in_document(root, lambda: made.too_many(file))
        made.add(file, _moved(whole, file.text), "client", client=found.client.name, tracked=is_tracked)
    except ClientFileError as error:
        made.files.skip(found.path, f"not readable as {found.place.format}: {error.what}")
        from callgate.vault.find_text import in_known_forms

        made.add(file, in_known_forms(file.text), "client", client=found.client.name, tracked=is_tracked)
    return folders


def _moved(hits: Iterator[Hit], text: str) -> Iterator[Hit]:
    """Places in the file where it begins with a byte order mark."""
    by = int(text.startswith("\ufeff"))
    return (replace(hit, start=hit.start + by, end=hit.end + by) for hit in hits) if by else hits


def _configuration(made: Search, home: str) -> None:
    path = user_config_file()
    file = made.files.read(path, within=home) if path else None
    if file is None:
        return
    try:
        root = parse("toml", file.text)
    except ClientFileError as error:
        made.files.skip(path, f"not readable: {error.what}")
        return
    servers = root.get("servers")
    for member in servers.node.members if servers else ():
        hits = (replace(hit, server=member.key) for hit in in_document(member.node))
        made.add(file, hits, "callgate")
    made.add(file, in_document(root), "callgate")


def directories(entry: Entry) -> Iterator[str]:
    """The directories a server's files are in, as its entry names them: of its script, and what it is started in."""
    option = ""
    for word in _started(entry):
        path = os.path.expanduser(word.partition("=")[2] if word.startswith("--") and "=" in word else word)
        if os.path.isabs(path) and not path.startswith(_SYSTEM):
            if os.path.isfile(path):
                yield _project_of(os.path.dirname(path))
            elif os.path.isdir(path) and (option in _DIRECTORY_OPTIONS or word.partition("=")[0] in _DIRECTORY_OPTIONS):
                yield path
        option = word
    cwd = entry.node.get("cwd") if entry.node.kind == "map" else None
    if cwd and cwd.node.string and os.path.isdir(os.path.expanduser(cwd.node.text)):
        yield os.path.expanduser(cwd.node.text)


def _started(entry: Entry) -> tuple[str, ...]:
    """What a server is started with: behind the gate without callgate's own part."""
    at = gate_at(entry.command)
    if at < 0:
        return entry.command
    rest = entry.command[at:]
    return rest[rest.index("--") + 1 :] if "--" in rest else ()


def _project_of(folder: str) -> str:
    """The nearest directory with a manifest, at most three levels up."""
    at = folder
    for _ in range(4):
        if any(os.path.isfile(os.path.join(at, name)) for name in ("package.json", "pyproject.toml", "go.mod")):
            return at
        at = os.path.dirname(at)
    return folder


def _print(report: Report) -> None:
    by_file: dict[str, list[Finding]] = {}
    for one in report.findings:
        by_file.setdefault(one.path, []).append(one)
    for path, findings in by_file.items():
        first = findings[0]
        readers = {"owner": "", "group": ", its group can read it", "everyone": ", every user can read it"}
        print(f"{shown_path(path)}  (mode {first.mode}{readers[first.readers]})")
        for one in findings:
            print("\n".join(_lines(one)))
        print()
    for path, reason in report.skipped[:SKIPPED_SHOWN]:
        print(
            textwrap.fill(f"not looked at: {shown_path(path)}: {visible(reason, 200)}", WIDTH, subsequent_indent="  ")
        )
    if len(report.skipped) > SKIPPED_SHOWN:
        print(f"not looked at: {len(report.skipped) - SKIPPED_SHOWN} more; --json lists them")
    files = "1 file" if report.files == 1 else f"{report.files} files"
    if not report.findings:
        print(f"no plaintext credential in {files}")
        return
    count = len(report.findings)
    different = len({one.digest for one in report.findings})
    print(f"{count} plaintext credential{'s' * (count != 1)} ({different} different) in {len(by_file)} of {files}")
    if any(one.source in ("client", "callgate", "env-file") and not one.in_arguments for one in report.findings):
        print("callgate secrets move puts those of servers into a store")


def _lines(one: Finding) -> list[str]:
    name = ": ".join(part for part in (visible(one.server, 40), visible(one.key, 120)) if part)
    what = f"{one.kind}  {visible(one.shown, 8)}  {one.digest}"
    head = f"  {one.line}: {name}" if name else f"  {one.line}:"
    lines = [f"{head}  {what}"] if len(head) + len(what) + 2 <= WIDTH else [head[:WIDTH], f"      {what}"]
    if one.rotate:
        lines += textwrap.wrap(f"rotate it: {one.rotate}", WIDTH, initial_indent="      ", subsequent_indent="      ")
    return lines


def as_json(report: Report) -> dict[str, Any]:
    """The report for programs; `version` changes when a member changes its meaning."""
    return {
        "version": 1,
        "findings": [asdict(one) | {"rotate": one.rotate} for one in report.findings],
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
        "files": report.files,
        "bytes": report.bytes,
    }
