"""`callgate.lock`: for each server what its launch line resolved to, with digests, and what was agreed about it.

One JSON document, members sorted, two spaces of indent, mode 0600:

    {"servers": {NAME: {...}}, "version": 1}

It holds no secret: a launch line with an argument that looks like one is refused, secrets are references. It is read
strictly (no unknown and no duplicate member, limits on everything) and replaced whole; one process at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from callgate.config import SandboxConfig, SecretConfig, valid_server_name
from callgate.errors import TrustError
from callgate.supply import lockfile_fields as read
from callgate.supply import place
from callgate.supply.launch_line import line_digest
from callgate.text import visible

VERSION = 1
FILE_NAME = "callgate.lock"
MAX_BYTES = 16 * 1024 * 1024
MAX_SERVERS = 1000
LOCK_S = 30.0


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file that was resolved. `digest` is `sha512-BASE64` (npm) or `sha256:HEX`."""

    purl: str
    digest: str
    file: str = ""
    """The file's name where there are several of one version (wheels)."""
    others: tuple[str, ...] = ()
    """Digests of the release's other files, which another platform takes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is started. `{store}` and `{runtime}` in `argv` stand for the artefact's tree and the interpreter."""

    argv: tuple[str, ...]
    file: str = ""
    """The program or script whose digest is checked at each start: relative to the tree, or absolute."""
    sha256: str = ""
    runtime: str = ""
    """Name of the interpreter."""
    runtime_path: str = ""
    """Where it was; where it is not there any more, PATH is asked for `runtime`."""
    runtime_version: str = ""
    own: str = ""
    """The launched package's directory within the tree."""
    tree_root: str = ""
    """Of a local program: its project's directory."""
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class LockedServer:
    """One server of the lock."""

    name: str
    argv: tuple[str, ...]
    kind: str
    entry: Entry
    purl: str = ""
    package: str = ""
    version: str = ""
    requested: str = ""
    url: str = ""
    artefacts: tuple[Artefact, ...] = ()
    artefacts_digest: str = ""
    """Over `artefacts`: the same on every machine."""
    store: str = ""
    """The tree's directory below `artefacts/`; empty for containers and local programs."""
    record: str = ""
    """Where listing and quick check are kept, below `artefacts/`."""
    tree: str = ""
    platform: str = ""
    """What `tree` was made on: another platform unpacks other files."""
    published: str = ""
    cooldown: str = ""
    """Nothing published after this was taken; empty: no limit was held."""
    install_scripts: tuple[str, ...] = ()
    """What would have run at installation. None did."""
    notes: tuple[str, ...] = ()
    """Rule ids of findings that were there when it was locked."""
    publisher: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Digest of each tool, prompt and resource definition."""
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    secrets: Mapping[str, SecretConfig] = field(default_factory=dict)
    approved_at: str = ""
    approved_by: str = ""
    approved: str = ""
    """What was agreed to, in words."""

    @property
    def line(self) -> str:
        """SHA-256 of the launch line."""
        return line_digest(self.argv)


@dataclass(frozen=True, slots=True)
class LockFile:
    """The lock as it was read. Changes give a new one; `edit` writes."""

    path: Path
    servers: Mapping[str, LockedServer] = field(default_factory=dict)

    def find(self, name: str, argv: Sequence[str] = ()) -> LockedServer | None:
        """The server of that name, else the one with the very same launch line."""
        found = self.servers.get(name)
        if found is None and argv:
            line = line_digest(argv)
            found = next((one for one in self.servers.values() if one.line == line), None)
        return found

    def put(self, server: LockedServer) -> LockFile:
        """With `server` added or replaced."""
        return replace(self, servers={**self.servers, server.name: server})

    def without(self, name: str) -> LockFile:
        """With the server of that name gone."""
        return replace(self, servers={key: one for key, one in self.servers.items() if key != name})


def exists(path: str | Path) -> bool:
    """Whether there is a lock; one that cannot be reached is not a missing one. Raises TrustError."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise TrustError(
            f"cannot reach the lock {visible(str(path), 300)}: {error.strerror}",
            next_step="check its directory and the permissions",
        ) from error
    return True


def load(path: Path) -> LockFile:
    """Read a lock; a missing one is empty. Raises TrustError."""
    if not exists(path):
        return LockFile(path)
    return parse(place.read(path, MAX_BYTES, "lock"), path)


def parse(data: bytes, path: Path) -> LockFile:
    """A lock from its bytes. Raises TrustError that names the place."""
    where = visible(str(path), 200)
    document = place.parse_object(data, where, MAX_BYTES)
    read.only(document, ("version", "servers"), where)
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise TrustError(
            f"{where} is of version {visible(str(version), 20)}, this callgate reads {VERSION}",
            next_step="update callgate, or lock the servers anew",
        )
    servers = read.table(document, "servers", where)
    if len(servers) > MAX_SERVERS:
        raise read.wrong(where, "servers", f"more than {MAX_SERVERS}")
    return LockFile(path, {name: _server(name, servers, where) for name in servers})


def _server(name: str, servers: Mapping[str, Any], where: str) -> LockedServer:
    if not valid_server_name(name):
        raise read.wrong(where, f"servers.{visible(name, 80)}", "not a server's name")
    at = f"{where}: servers.{name}"
    table = read.table(servers, name, where)
    known = {one.name for one in fields(LockedServer)} - {"name"} | {"line"}
    read.only(table, known, at)
    start = read.table(table, "entry", at)
    read.only(start, {one.name for one in fields(Entry)}, at + ".entry")
    artefacts = []
    for one in read.tables(table, "artefacts", at):
        read.only(one, {f.name for f in fields(Artefact)}, at + ".artefacts")
        artefacts.append(
            Artefact(
                purl=read.text(one, "purl", at),
                digest=read.digest(one, "digest", at),
                file=read.text(one, "file", at),
                others=read.texts(one, "others", at),
            )
        )
    server = LockedServer(
        name=name,
        argv=read.texts(table, "argv", at),
        kind=read.text(table, "kind", at),
        entry=Entry(
            **{one: read.text(start, one, at + ".entry") for one in read.names_of(Entry, "str")},
            argv=read.texts(start, "argv", at + ".entry"),
            environment=read.text_map(start, "environment", at + ".entry"),
        ),
        **{one: read.text(table, one, at) for one in read.names_of(LockedServer, "str") - {"name", "kind"}},
        artefacts=tuple(artefacts),
        install_scripts=read.texts(table, "install_scripts", at),
        notes=read.texts(table, "notes", at),
        publisher=read.texts(table, "publisher", at),
        provenance=read.table(table, "provenance", at),
        definitions=read.text_map(table, "definitions", at),
        sandbox=read.sandbox(read.table(table, "sandbox", at), at + ".sandbox"),
        secrets=read.secrets(read.table(table, "secrets", at), at + ".secrets"),
    )
    for relative in (server.store, server.record):
        if relative.startswith("/") or ".." in relative.split("/"):
            raise read.wrong(at, "store", "leaves the store")
    if not server.argv or not server.entry.argv or read.text(table, "line", at) != server.line:
        raise read.wrong(at, "line", "is not the digest of argv")
    return server


def serialise(lock: LockFile) -> bytes:
    """The document: sorted, indented, one newline at the end."""
    import orjson

    servers: dict[str, Any] = {}
    for name, server in lock.servers.items():
        table = asdict(server)
        del table["name"]
        table["line"] = server.line
        del table["sandbox"]["private_networks"], table["sandbox"]["egress_proxy"]  # no lock says these
        table["sandbox"] = {key: value for key, value in table["sandbox"].items() if value not in (None, ())}
        table["artefacts"] = [{k: v for k, v in one.items() if v} for one in table["artefacts"]]
        servers[name] = table
    return orjson.dumps(
        {"version": VERSION, "servers": servers},
        option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE,
    )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """One process at a time changes locks of a directory."""
    import fcntl

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise TrustError("another callgate is changing the lock", next_step="wait for it") from None
                time.sleep(0.02)
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def edit(path: Path, change: Callable[[LockFile], LockFile]) -> LockFile:
    """Read, change and replace a lock as one step: after a crash it is the old or the new one. Raises TrustError."""
    with _held(path):
        old = load(path)
        new = change(old)
        data = serialise(new)
        parse(data, path)  # what cannot be read back is not written
        if not os.path.lexists(path) or place.read(path, MAX_BYTES, "lock") != data:
            place.write(path, data)
        return new
