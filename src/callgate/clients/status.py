"""How each server of each client stands: behind the gate, not, or something between."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from callgate.clients.entries import Entry, entries
from callgate.clients.files import read, temporary
from callgate.clients.formats import parse
from callgate.clients.launcher import wrapper_missing
from callgate.clients.machine import Found
from callgate.clients.masking import mask_address, mask_words
from callgate.clients.moving import same_apart
from callgate.clients.records import Record, Records
from callgate.clients.table import BY_NAME
from callgate.clients.tree import ClientFileError, Node, canonical, locate

State: TypeAlias = Literal["wrapped", "not wrapped", "drifted", "wrapper missing", "not a server", "gone"]


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server."""

    server: str
    where: tuple[str, ...]
    state: State
    detail: str = ""
    launches: str = ""
    """The command line or URL, masked."""


@dataclass(frozen=True, slots=True)
class FileState:
    """One file. With a problem, nothing is known of its servers."""

    client: str
    title: str
    path: str
    scope: str
    problem: str
    unfinished: str
    """A file an interrupted command left beside it."""
    servers: tuple[ServerState, ...]


def survey(found: Iterable[Found], records: Records, clients: tuple[str, ...] = ()) -> Iterator[FileState]:
    """All files found, then those that were changed earlier and not found now (of other projects, say)."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    roots: dict[str, Node] = {}  # a file may hold servers in several places
    for one in found:
        servers: list[ServerState] = []
        problem = ""
        try:
            root = roots.get(one.real) or parse(one.place.format, read(one.real).text)
            roots = {one.real: root}
            for entry in entries(root, one.place, one.client.shape):
                record = records.get(one.real, entry.where)
                seen.add((one.real, entry.where))
                servers.append(_state(entry, record))
        except ClientFileError as error:
            problem = error.what
            seen.update(record.key for record in records.of(one.real))
        yield FileState(
            one.client.name, one.client.title, one.path, one.place.scope, problem, _unfinished(one.real), tuple(servers)
        )
    rest: dict[tuple[str, str], list[Record]] = {}
    for record in records.all():
        if record.key not in seen and (not clients or record.client in clients):
            rest.setdefault((record.file, record.client), []).append(record)
    for (file, client), group in rest.items():
        yield _recorded(file, client, group)


def _state(entry: Entry, record: Record | None) -> ServerState:
    launches = mask_address(entry.url) if entry.url else " ".join(mask_words(entry.command))

    def state(which: State, detail: str = "") -> ServerState:
        return ServerState(entry.name, entry.where, which, detail, launches)

    if entry.kind == "wrapped":
        if record and canonical(entry.node) != record.wrapped:
            return state("drifted", "edited since callgate wrapped it")
        if wrapper_missing(entry.command):
            return state("wrapper missing", "the callgate it names is not there: it cannot start")
        return state("wrapped", "" if record else "not by callgate install: uninstall does not know it")
    if record and not same_apart(canonical(entry.node), record.original, record.moved):
        return state("drifted", "edited since callgate wrapped it: it goes past the gate")
    if entry.kind == "other":
        return state("not a server", "neither a command nor a URL")
    return state("not wrapped")


def _recorded(file: str, client: str, group: list[Record]) -> FileState:
    known = BY_NAME.get(client)
    problem = ""
    servers: list[ServerState] = []
    try:
        root = parse(group[0].format, read(file).text) if os.path.lexists(file) else None
        for record in group:
            node = locate(root, record.where) if root else None
            servers.append(_recorded_state(record, node))
    except ClientFileError as error:
        problem = error.what
    title = known.title if known else client
    return FileState(client, title, file, "elsewhere", problem, _unfinished(file), tuple(servers))


def _recorded_state(record: Record, node: Node | None) -> ServerState:
    name = record.where[-1]
    if node is None:
        return ServerState(name, record.where, "gone", "the entry is no longer there")
    now = canonical(node)
    if now == record.wrapped:
        return ServerState(name, record.where, "wrapped")
    if same_apart(now, record.original, record.moved):
        return ServerState(name, record.where, "not wrapped")
    return ServerState(name, record.where, "drifted", "edited since callgate wrapped it")


def _unfinished(real: str) -> str:
    beside = temporary(real)
    return beside if os.path.lexists(beside) else ""
