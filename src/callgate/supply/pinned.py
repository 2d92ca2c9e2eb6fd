"""The pinned launch: on the way of every start, so it imports little and reads little.

    pinned = pinned_launch("files", argv, [state / "callgate.lock"], state)

gives what runs instead of `npx -y pkg args`: the interpreter and the entry file in the store, without the network.
Checked at each start: the launch line, the digest of the entry file, and sizes, times and inodes of all directories
and of the package's own files (at most QUICK_ITEMS). Where these differ the whole tree is read and compared with the
lock; `callgate trust verify` always does that.
"""

from __future__ import annotations

import os
from hashlib import sha256

from callgate.errors import TrustError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

QUICK_ITEMS = 500
OWN_LOCK = "callgate.lock"
LOCK_BYTES = 16 * 1024 * 1024
_MAGIC = b"callgate-quick-1\n"


class Pinned:
    """What to start instead, and what evidence says about it."""

    __slots__ = ("argv", "directory", "environment", "facts", "lock", "lock_sha256", "runtime", "server", "store")

    def __init__(
        self,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        store: str,
        runtime: str,
        directory: str,
        server: Mapping[str, Any],
        lock: str,
    ) -> None:
        self.argv = argv
        """The command; its first word is absolute where the lock knew the program's place."""
        self.environment = environment
        """Variables the launch line itself sets (`env A=B npx ...`)."""
        self.store = store
        """The directory that must be readable, or '' for container images and local programs."""
        self.runtime = runtime
        """The interpreter's file, or ''."""
        self.directory = directory
        """Where the line says it runs, or ''."""
        self.server = server
        """The whole entry of the lock, as JSON: sandbox, secrets, definitions."""
        self.lock = lock
        """The lock file it comes from."""
        self.lock_sha256 = ""
        """Of that file's bytes, as they were read for this: what a signature must be about."""
        self.facts: dict[str, object] = {
            "purl": server.get("purl", ""),
            "digest": server.get("artefacts_digest", ""),
            "tree": server.get("tree", ""),
            "kind": server.get("kind", ""),
        }


def pinned_launch(
    name: str, argv: Sequence[str], locks: Sequence[str | Path], state: str | Path, *, signed: bool = False
) -> Pinned | None:
    """The pinned form of a launch line, or None where no lock knows the server.

    The first of `locks` that exists and has the server decides, by `name`, else by the very same line. A lock that is
    not the user's own, and not `signed` (which the caller verifies), starts only what follows from the line
    (derived.py). Raises TrustError when the lock or what it pins is not as it was.
    """
    line = sha256("\0".join(argv).encode("utf-8", "surrogateescape")).hexdigest()
    for path in locks:
        read = _servers(path)
        if read is None:
            continue
        servers, digest = read
        entry = servers.get(name) if name else None
        if entry is None:
            same = (one for one in servers.values() if isinstance(one, dict) and one.get("line") == line)
            entry = next(same, None)
            if entry is None:
                continue
        if not isinstance(entry, dict):
            raise _damaged(path)
        if entry.get("line") != line or entry.get("argv") != list(argv):
            raise TrustError(
                f"the command of server {_shown(name)} is not the one that was locked",
                effect="the server was not started",
                next_step=f"if you changed it: callgate trust lock {_shown(name)}",
            )
        try:
            ours = signed or os.path.abspath(path) == os.path.abspath(os.path.join(state, OWN_LOCK))
            pinned = _launch(name or _name_of(servers, entry), entry, path, state, ours=ours)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path) from error
        pinned.lock_sha256 = digest
        return pinned
    return None


def _servers(path: str | Path) -> tuple[dict[str, Any], str] | None:
    try:
        # Non-blocking: a named pipe in the lock's place must not hang the start.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(LOCK_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrustError(
            f"cannot read {_shown(str(path))}: {error.strerror}",
            effect="the server was not started",
            next_step="check its permissions",
        ) from error
    import jiter

    try:
        document = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise _damaged(path) from error
    if len(data) > LOCK_BYTES or not isinstance(document, dict) or document.get("version") != 1:
        raise _damaged(path)
    servers = document.get("servers")
    if not isinstance(servers, dict):
        raise _damaged(path)
    return servers, sha256(data).hexdigest()


def _damaged(path: str | Path) -> TrustError:
    return TrustError(
        f"{_shown(str(path))} is not a lock file this callgate can read",
        effect="the server was not started",
        next_step="look at it, restore it, or lock the servers anew: callgate trust lock",
    )


def _name_of(servers: dict[str, Any], entry: dict[str, Any]) -> str:
    return next(name for name, one in servers.items() if one is entry)


def _launch(name: str, entry: dict[str, Any], path: str | Path, state: str | Path, *, ours: bool) -> Pinned:
    start = entry["entry"]
    store = ""
    if entry["store"]:
        store = os.path.join(state, "artefacts", _inside(entry["store"]))
        if not os.path.isdir(store):
            raise TrustError(
                f"what was pinned for server {_shown(name)} is not in the store",
                effect="the server was not started",
                next_step=f"fetch it again: callgate trust lock {_shown(name)}",
            )
        _hold(os.path.dirname(store))
    if not ours:
        from callgate.supply import derived

        start = derived.entry_of(name, entry, str(path), str(state))
    words: list[str] = start["argv"]
    runtime = _runtime(start)
    if start["sha256"]:
        file = start["file"]
        _check_file(name, os.path.join(store, _inside(file)) if store else file, start["sha256"])
    if entry["tree"]:
        _check_tree(name, entry, store, state)
    command = [word.replace("{store}", store).replace("{runtime}", runtime) if "{" in word else word for word in words]
    variables = {key: value.replace("{store}", store) for key, value in start["environment"].items()}
    return Pinned(tuple(command), variables, store, runtime, start["directory"], {**entry, "name": name}, str(path))


_HELD: dict[str, int] = {}
"""Descriptors of the trees that this process started servers from, by their place."""


def _hold(record: str) -> None:
    """Hold a tree until this process ends, so that nobody prunes it meanwhile (prune.py)."""
    import fcntl

    before = _HELD.get(record)
    try:
        if before is not None and os.path.samestat(os.fstat(before), os.stat(record)):
            return
        descriptor = os.open(record, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _pruned() from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        there = os.path.samestat(os.fstat(descriptor), os.stat(record))
    except (BlockingIOError, FileNotFoundError):
        there = False
    except OSError:
        os.close(descriptor)
        return  # a file system without locks: nothing on it is pruned either
    if not there:  # held by who removes it, or removed and perhaps made anew between the two steps
        os.close(descriptor)
        raise _pruned()
    if before is not None:
        os.close(before)
    _HELD[record] = descriptor


def _pruned() -> TrustError:
    return TrustError(
        "what was pinned is just being removed from the store",
        effect="the server was not started",
        next_step="start it again; if it is gone then: callgate trust lock",
    )


def _inside(path: str) -> str:
    if os.path.isabs(path) or ".." in path.split("/"):
        raise ValueError(path)
    return path


def _runtime(start: dict[str, Any]) -> str:
    """The interpreter: where it was when it was locked, else by its name on PATH."""
    program: str = start["runtime"]
    place: str = start["runtime_path"]
    return program if not place or not os.path.isfile(place) else place


def _check_file(name: str, path: str, expected: str) -> None:
    try:
        with open(path, "rb") as file:
            digest = sha256(file.read()).hexdigest()
    except OSError:
        digest = ""
    if digest != expected:
        raise TrustError(
            f"the program of server {_shown(name)} is not the one that was locked: {_shown(path)}",
            effect="the server was not started",
            next_step=f"see what differs: callgate trust verify {_shown(name)}; "
            f"if you changed it yourself: callgate trust lock {_shown(name)}",
        )


def _check_tree(name: str, entry: dict[str, Any], store: str, state: str | Path) -> None:
    """Sizes, times and inodes against what they were when the tree was made; in doubt the digest decides."""
    tree = store or entry["entry"]["tree_root"]
    record = os.path.join(state, "artefacts", _inside(entry["record"]), "quick")
    try:
        with open(record, "rb") as file:
            known = file.read()
        if known.startswith(_MAGIC):
            head = len(_MAGIC)
            count = int.from_bytes(known[head : head + 4], "little")
            names = known[head + 4 + 40 * count :].decode("utf-8", "surrogateescape").split("\0")
            if packed(names, stat_numbers(tree, names)) == known:
                return
    except (OSError, ValueError):
        pass
    from callgate.supply import tree_check

    tree_check.whole(name, entry, tree, record)


def stat_numbers(tree: str, names: Sequence[str]) -> list[int]:
    """Mode, size, times of change and inode of each. Raises OSError."""
    out: list[int] = []
    lstat = os.lstat
    for name in names:
        found = lstat(f"{tree}/{name}" if name else tree)
        out += (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return out


def packed(names: Sequence[str], numbers: Sequence[int]) -> bytes:
    """The record of a quick check: magic, count, five 64-bit numbers each, names."""
    from struct import pack

    text = "\0".join(names).encode("utf-8", "surrogateescape")
    masked = [number & 0xFFFFFFFFFFFFFFFF for number in numbers]
    return _MAGIC + len(names).to_bytes(4, "little") + pack(f"<{len(masked)}Q", *masked) + text


def _shown(text: str) -> str:
    from callgate.text import visible

    return visible(text, 300)
