"""Locking a server: its launch line is read, resolved, fetched into the store, and written into `callgate.lock`.

Nothing of the server runs. A line that is locked already and did not change is fetched again in the same versions,
and the digests must be the same.
"""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from callgate.config import SandboxConfig, SecretConfig
from callgate.errors import TrustError
from callgate.supply import artefacts, known_locks, lockfile, publisher
from callgate.supply.cooldown import DEFAULT_DAYS, Cooldown, iso, parse_time
from callgate.supply.launch_line import LaunchLine
from callgate.supply.lockable import kind_of, lockable
from callgate.supply.lockfile import LockedServer
from callgate.supply.resolve_types import Fetched, Resolved, Wanted
from callgate.text import visible

_WORK = ".resolve-"
_WORK_S = 86_400
"""What a resolution that was killed left behind is removed when it is older."""
_BUILT = ("npm", "pypi")
"""Kinds of artefact whose registry may serve provenance."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to lock. The defaults are the careful ones."""

    cooldown_days: int = DEFAULT_DAYS
    no_cooldown: bool = False
    allow_sdist: bool = False
    version: str = ""
    """This version instead of what the launch line asks for."""
    fresh: bool = False
    """Resolve anew although the line is locked already."""
    now: datetime | None = None
    cwd: Path = field(default_factory=Path.cwd)
    no_provenance: bool = False
    """Do not ask the registry who built the package."""
    own: bool = False
    """What is known is from the user's own lock: what that says was verified was verified here. A project's says
    what whoever wrote it likes."""


def lock_server(
    name: str,
    argv: Sequence[str],
    *,
    state: Path,
    lock: Path | None = None,
    options: Options | None = None,
    sandbox: SandboxConfig | None = None,
    secrets: Mapping[str, SecretConfig] | None = None,
    definitions: Mapping[str, str] | None = None,
    approved: str = "locked",
    approved_by: str = "",
) -> LockedServer:
    """Resolve, fetch and write into `lock` (default: the user's own, in `state`). Raises TrustError.

    What is None is kept as an earlier lock of the same server had it. A package whose name or versions something is
    known against (`resolve_checks`) is refused: a person may take it with `callgate trust lock`.
    """
    path = lock or state / lockfile.FILE_NAME
    known_locks.remember(state, path)
    known = lockfile.load(path).servers.get(name)
    own = os.path.abspath(path) == os.path.abspath(state / lockfile.FILE_NAME)
    server = prepare(name, argv, state=state, known=known, options=replace(options or Options(), own=own))
    if known is None or known.artefacts_digest != server.artefacts_digest:
        from callgate.supply import resolve_checks

        try:
            resolve_checks.refuse(server, state, known)
        except TrustError:
            discard(state, server, path)
            raise
    if known is not None:
        server = replace(server, sandbox=known.sandbox, secrets=known.secrets, definitions=known.definitions)
    if sandbox is not None:
        server = replace(server, sandbox=sandbox)
    if secrets is not None:
        server = replace(server, secrets=dict(secrets))
    if definitions is not None:
        server = replace(server, definitions=dict(definitions))
    if known is not None and replace(server, approved_at=known.approved_at) == replace(known, approved=server.approved):
        return known
    return commit(server, path, approved=approved, approved_by=approved_by)


def commit(server: LockedServer, path: Path, *, approved: str, approved_by: str = "") -> LockedServer:
    """Write a prepared server into a lock. Raises TrustError."""
    server = replace(
        server, approved_at=iso(datetime.now(UTC)), approved_by=approved_by or _user(), approved=visible(approved, 300)
    )
    lockfile.edit(path, lambda old: old.put(server))
    return server


def prepare(
    name: str,
    argv: Sequence[str],
    *,
    state: Path,
    known: LockedServer | None = None,
    options: Options | None = None,
) -> LockedServer:
    """Resolve and fetch into the store, without touching a lock. Raises TrustError."""
    options = options or Options()
    line = lockable(name, argv)
    same = known is not None and known.line == line.digest and not options.fresh and not options.version
    cooldown = Cooldown(options.cooldown_days, off=options.no_cooldown, now=options.now)
    version = options.version
    if same and known is not None and known.kind == kind_of(line):
        moment = parse_time(known.cooldown)
        cooldown = Cooldown(options.cooldown_days, off=moment is None, before=moment)
        version = known.version if known.kind in ("npm", "pypi") else ""
    with _work(state) as work:
        module = _module(line)
        wanted = Wanted(line, state, cooldown, version, options.allow_sdist, options.cwd)
        resolved = module.resolve(wanted, work)
        if same and known is not None and known.kind in ("npm", "pypi"):
            _same_artefacts(known, resolved)
        fetched = module.fetch(wanted, resolved)
        server = _server(name, line, resolved, fetched, resolved.provenance)
        if server.kind in _BUILT:
            server = replace(server, provenance=_provenance(module, wanted, resolved, fetched, work, known, options))
    if same and known is not None and known.kind == server.kind and known.artefacts_digest == server.artefacts_digest:
        if known.platform != server.platform:
            _same_entry(known, server)
            return known  # made on another machine: what is portable is equal, the rest is in this machine's store
        agreed = {name: getattr(known, name) for name in ("approved", "approved_at", "approved_by")}
        return replace(server, **agreed)
    return server


def _provenance(
    module: ModuleType,
    wanted: Wanted,
    resolved: Resolved,
    fetched: Fetched,
    work: Path,
    known: LockedServer | None,
    options: Options,
) -> Mapping[str, Any]:
    """What the registry says of who built it; what was verified here of the same artefacts before stays."""
    same = options.own and known is not None and known.artefacts_digest == resolved.digest
    if same and known is not None and publisher.statement_of(known.provenance):
        return known.provenance
    if options.no_provenance:
        return publisher.not_checked("you asked for that (--no-provenance)")
    try:
        found: Mapping[str, Any] = module.provenance(wanted, resolved, fetched, work)
    except BaseException:
        if known is None or known.record != fetched.record:
            _forget(wanted.state, fetched.record)
        raise
    return found


def _module(line: LaunchLine) -> ModuleType:
    from importlib import import_module

    kind = kind_of(line)
    names = {"mcpb": "mcpb_source", "binary": "local"}
    return import_module(f"callgate.supply.{names.get(kind, kind)}")


@contextmanager
def _work(state: Path) -> Iterator[Path]:
    """A private directory for the clients' files.

    npm and uv look in the directories above for a project, and take registries from it; version managers look there
    for the version that is meant, which may be a path. What makes this directory a project of its own ends the former;
    that it lies in the state directory, and not where TMPDIR says, the latter.
    """
    for old in state.glob(f"{_WORK}*"):
        if time.time() - old.lstat().st_mtime > _WORK_S:
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_WORK, dir=state))
    try:
        (folder / "package.json").write_text("{}")
        (folder / "uv.toml").write_text("")
        (folder / "pyproject.toml").write_text("[tool.uv.workspace]\n")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _same_artefacts(known: LockedServer, resolved: Resolved) -> None:
    """What the registry offers now against the lock. Raises TrustError."""
    before = {one.purl: {one.digest, *one.others} for one in known.artefacts}
    now = {one.purl: {one.digest, *one.others} for one in resolved.artefacts}
    for purl, digests in now.items():
        if purl in before and not digests & before[purl]:
            raise TrustError(
                f"the registry now serves other bytes for {visible(purl, 150)} than when it was locked",
                next_step="do not use them; find out why a published version changed",
            )
    if before.keys() != now.keys():
        other = sorted(before.keys() ^ now.keys())
        raise TrustError(
            f"the locked version now resolves to other packages: {', '.join(visible(one, 100) for one in other[:4])}",
            next_step=f"look at it and take it: callgate trust update {visible(known.name, 64)}",
        )


def _same_entry(known: LockedServer, server: LockedServer) -> None:
    """What the lock starts against what the artefacts say is to be started. Raises TrustError."""
    here = replace(server.entry, runtime_path="", runtime_version="", own="")
    if replace(known.entry, runtime_path="", runtime_version="", own="") != here:
        raise TrustError(
            f"the lock starts server {visible(known.name, 64)} in another way than its artefacts say",
            next_step="find out who changed the lock; remove the server from it, and lock it anew",
        )


def _server(
    name: str, line: LaunchLine, resolved: Resolved, fetched: Fetched, provenance: Mapping[str, Any]
) -> LockedServer:
    found = fetched.artefacts or resolved.artefacts
    notes = {one.rule for one in line.warnings} | set(resolved.notes)
    return LockedServer(
        name=name,
        argv=line.argv,
        kind=resolved.kind,
        entry=fetched.entry,
        purl=resolved.purl,
        package=resolved.package,
        version=resolved.version,
        requested=line.requested,
        url=line.url,
        artefacts=found,
        artefacts_digest=resolved.digest,
        store=fetched.store,
        record=fetched.record,
        tree=fetched.tree,
        platform=fetched.platform,
        published=resolved.published,
        cooldown=resolved.cooldown,
        install_scripts=fetched.install_scripts or resolved.install_scripts,
        notes=tuple(sorted(notes)),
        publisher=resolved.publisher,
        provenance=provenance,
    )


def discard(state: Path, server: LockedServer, lock: Path | None = None) -> None:
    """Remove from the store what was fetched for a server that was not taken.

    What `lock`, the user's own or a known one names, under whatever server, stays, and what a
    server runs from.
    """
    if server.record:
        _forget(state, server.record, lock)


def _forget(state: Path, record: str, lock: Path | None = None) -> None:
    with artefacts.store_lock(state):
        try:
            known = (Path(one) for one in known_locks.paths(state))
            for path in {state / lockfile.FILE_NAME, lock or state / lockfile.FILE_NAME, *known}:
                if any(one.record == record for one in lockfile.load(path).servers.values()):
                    return
        except TrustError:
            return  # what that lock names is not known: prune removes it once it is
        path = artefacts.root(state) / record
        if path.is_dir() and not artefacts.in_use(path):
            artefacts.remove(path)


def _user() -> str:
    try:
        return visible(getpass.getuser(), 64)
    except (KeyError, OSError):
        return ""
