"""The store of pinned artefacts: `artefacts/<kind>/<name>@<version>-<digest>/` in the state directory.

    artefacts/npm/@scope+pkg@1.2.3-0f3c.../
        tree/       what runs: files 0444 (0555 where they are programs), directories 0555
        files       the listing: kind, SHA-256 and path of each file; its own SHA-256 is the tree digest
        quick       sizes, times and inodes of a part of the tree, for the check at every start

It is built beside its place and renamed into it when all of it is on disk, so that a crash leaves nothing half.
One process at a time builds (`store_lock`).
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from callgate.errors import TrustError
from callgate.text import visible

MAX_FILES = 200_000
MAX_BYTES = 2 * 1024 * 1024 * 1024
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_DEPTH = 64
LOCK_S = 300.0
"""How long one command waits for another that fetches artefacts."""
TREE, FILES, QUICK = "tree", "files", "quick"
_PROGRAM = 0o555


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a tree may hold."""

    files: int = MAX_FILES
    total_bytes: int = MAX_BYTES
    file_bytes: int = MAX_FILE_BYTES


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Found:
    """One file or link of a tree. `path` is relative, with `/`."""

    path: str
    status: os.stat_result
    target: str = ""
    """Of a symbolic link."""


def root(state: Path) -> Path:
    """The directory of all artefacts; made with mode 0700."""
    place = state / "artefacts"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def key(kind: str, name: str, version: str, digest: str) -> str:
    """The directory of an artefact below `artefacts/`. `digest` is hexadecimal, of what was resolved."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "@._-") else "+" for c in f"{name}@{version}")
    return f"{kind}/{safe[:150].lstrip('.')}-{digest[:16]}"


def walk(top: Path, limits: Limits = LIMITS, skip: Callable[[str, str], bool] | None = None) -> Iterator[Found]:
    """Every file and link below `top`, unsorted, no link followed. Raises TrustError beyond `limits`.

    `skip` gets the relative path and the name of each entry; what it says yes to is left out.
    """
    count = total = 0
    waiting: list[tuple[str, int]] = [("", 0)]
    while waiting:
        folder, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_large(top, f"more than {MAX_DEPTH} levels")
        try:
            with os.scandir(top / folder if folder else top) as entries:
                found = list(entries)
        except OSError as error:
            raise TrustError(
                f"cannot read {visible(str(top / folder), 300)}: {error.strerror}", next_step="check its permissions"
            ) from error
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if skip is not None and skip(path, entry.name):
                continue
            count += 1
            if count > limits.files:
                raise _too_large(top, f"more than {limits.files} files")
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                waiting.append((path, depth + 1))
            elif stat.S_ISLNK(status.st_mode):
                yield Found(path, status, os.readlink(entry.path))
            elif stat.S_ISREG(status.st_mode):
                total += status.st_size
                if status.st_size > limits.file_bytes:
                    raise _too_large(top, f"a file of more than {limits.file_bytes} bytes")
                if total > limits.total_bytes:
                    raise _too_large(top, f"more than {limits.total_bytes} bytes")
                yield Found(path, status)
            else:
                raise TrustError(
                    f"{visible(path, 200)} in {visible(str(top), 200)} is neither a file nor a link",
                    next_step="remove it (a device, pipe or socket has no place there)",
                )


def _too_large(top: Path, what: str) -> TrustError:
    return TrustError(f"{visible(str(top), 300)} holds {what}", next_step="this is too large to be pinned")


def listing(top: Path, limits: Limits = LIMITS, skip: Callable[[str, str], bool] | None = None) -> str:
    """One line a file, sorted by path: `-` or `x` or `l`, SHA-256 (of a link: of its target), path."""
    lines = []
    for found in walk(top, limits, skip):
        if found.target:
            kind, digest = "l", sha256(os.fsencode(found.target)).hexdigest()
        else:
            kind = "x" if found.status.st_mode & 0o100 else "-"
            digest = digest_of(top / found.path)
        lines.append((os.fsencode(found.path), f"{kind} {digest} {_escaped(found.path)}\n"))
    return "".join(line for _, line in sorted(lines))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Raises TrustError."""
    try:
        with open(path, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrustError(
            f"cannot read {visible(str(path), 300)}: {error.strerror}", next_step="check its permissions"
        ) from error


def tree_digest(text: str) -> str:
    """The digest of a tree from its listing."""
    return "sha256:" + sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def parse_listing(text: str) -> dict[str, str]:
    """Path to kind and digest, of a listing that was written here."""
    out = {}
    for line in filter(None, text.split("\n")):  # splitlines would also cut at what may stand in a name
        kind, _, rest = line.partition(" ")
        digest, _, path = rest.partition(" ")
        out[path] = f"{kind} {digest}"
    return out


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") if set(path) & set("\\\n\r") else path


# --- building ------------------------------------------------------------------------------------------------


@contextmanager
def store_lock(state: Path) -> Iterator[None]:
    """One process at a time fetches artefacts; what a killed one left is removed. Raises TrustError after LOCK_S."""
    import fcntl

    place = root(state)
    descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise TrustError(
                        "another callgate has been fetching artefacts for minutes", next_step="wait for it, or end it"
                    ) from None
                time.sleep(0.05)
        for old in place.glob(".new-*"):
            remove(old)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def building(state: Path) -> Iterator[Path]:
    """A fresh directory with an empty `tree/` in it, gone afterwards unless it was sealed. Holds the store's lock."""
    with store_lock(state):
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=root(state)))
        (folder / TREE).mkdir()
        try:
            yield folder
        finally:
            if folder.exists():
                remove(folder)


def seal(state: Path, folder: Path, place: str, own: str = "", absolute: tuple[str, ...] = ()) -> tuple[Path, str]:
    """Make a built tree read-only, list it, and move it to `artefacts/<place>`: the path and the tree digest.

    `own` is the launched package's directory within the tree (what the check at start looks at first); links may
    leave the tree only at the paths in `absolute`. What was at `place` before is replaced, unless it is the very same
    and untouched: a server may run from it. Raises TrustError.
    """
    tree = folder / TREE
    _check_and_protect(tree, absolute)
    text = listing(tree)
    (folder / FILES).write_bytes(text.encode("utf-8", "surrogateescape"))
    (folder / QUICK).write_bytes(quick(tree, own))
    for name in (FILES, QUICK):
        os.chmod(folder / name, 0o400)
    if hasattr(os, "sync"):
        os.sync()  # one flush for thousands of files, before the rename that makes them count
    final = root(state) / place
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _untouched(final, folder, text, own):
        os.utime(final)  # young again: prune.py
        return final, tree_digest(text)
    old = root(state) / f".new-{os.urandom(6).hex()}"
    if final.exists():
        os.rename(final, old)
    os.rename(folder, final)
    sync_directory(final.parent)
    if old.exists():
        remove(old)
    return final, tree_digest(text)


def _untouched(final: Path, folder: Path, text: str, own: str) -> bool:
    """Whether what has the place already is what was built again, with the times and modes it was given then."""
    if not final.is_dir():
        return False
    try:
        same = all((final / name).read_bytes() == (folder / name).read_bytes() for name in (FILES, "platform"))
        return same and quick(final / TREE, own) == (final / QUICK).read_bytes() and listing(final / TREE) == text
    except (TrustError, OSError):
        return False


def _check_and_protect(tree: Path, absolute: tuple[str, ...]) -> None:
    folders = {""}
    for found in list(walk(tree)):
        parent = found.path.rpartition("/")[0]
        while parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
        if not found.target:
            os.chmod(tree / found.path, _PROGRAM if found.status.st_mode & 0o100 else 0o444)
        elif found.path not in absolute and not _stays(tree, found):
            raise TrustError(
                f"a link of the package leaves it: {visible(found.path, 120)} -> {visible(found.target, 120)}",
                next_step="do not use this package",
            )
    for name, folder_names, _ in os.walk(tree, topdown=False):
        for one in folder_names:
            place = os.path.join(name, one)
            if not os.path.islink(place):
                os.chmod(place, _PROGRAM)
    os.chmod(tree, _PROGRAM)


def _stays(tree: Path, found: Found) -> bool:
    if os.path.isabs(found.target):
        return False
    real = os.path.realpath(tree / found.path)
    top = os.path.realpath(tree)
    return real == top or real.startswith(top + os.sep)


def quick(tree: Path, own: str, skip: Callable[[str, str], bool] | None = None) -> bytes:
    """What the check at start compares (pinned.py reads it): directories, then files of `own`, at most QUICK_ITEMS.

    `own` is a directory within the tree, or `.` for all of it.
    """
    from callgate.supply.pinned import QUICK_ITEMS, packed, stat_numbers

    folders: list[str] = [""]
    files: list[str] = []
    for name, folder_names, file_names in os.walk(tree):
        here = os.path.relpath(name, tree)
        prefix = "" if here == "." else here + "/"
        folder_names[:] = [
            one
            for one in sorted(folder_names)
            if not os.path.islink(os.path.join(name, one)) and not (skip and skip(prefix + one, one))
        ]
        folders += [prefix + one for one in folder_names]
        if own == "." or (own and (here == own or here.startswith(own + "/"))):
            files += [prefix + one for one in sorted(file_names) if not (skip and skip(prefix + one, one))]
    chosen = (folders + files)[:QUICK_ITEMS]
    return packed(chosen, stat_numbers(str(tree), chosen))


def in_use(path: Path) -> bool:
    """Whether a server was started from the tree and may run (pinned.py); also where that cannot be told."""
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def sync_directory(path: Path) -> None:
    """Make renames in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a tree although its directories are read-only."""
    for name, _, _ in os.walk(path):
        os.chmod(name, 0o700)
    shutil.rmtree(path, ignore_errors=True)
