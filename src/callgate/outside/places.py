"""Who else can have put a file where it is: its owner, and everybody who may write to it or to a directory above it."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator

from callgate.text import visible

_LINKS = 40
_MACOS_ADMIN = 80
"""The group of administrators of macOS, who are root when they like; Homebrew's directories are theirs."""
_ROOTS_OWN = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/etc", "/nix", "/snap", "/gnu", "/run/current-system"),
    *("/home/linuxbrew/.linuxbrew", "/System", "/Library", "/Applications"),
)
"""Where root keeps programs. Asked only for root itself, in whose name everything else lies about too."""
_NOT_INSTALLED = ("/usr/src", "/usr/local/src")
_VERSION_CONTROL = (".git", ".hg", ".svn", ".jj")
_PROJECT_FILES = ("package.json", "pyproject.toml", ".mcp.json", "callgate.lock", ".vscode", ".cursor", ".envrc")


def others(path: str, owners: Collection[int] | None = None) -> str:
    """Who beside root and this user (else: `owners`) may change the program at `path`, in words; '' for nobody."""
    return _changed_by(path, {0, os.getuid()} if owners is None else owners, strict=True)


def everybody(path: str) -> str:
    """In words where every user of the machine may change the program, or have put it there; else ''."""
    return _changed_by(path, {0, os.getuid()}, strict=False)


def _changed_by(path: str, trusted: Collection[int], *, strict: bool) -> str:
    common = False
    for step, found, last in _steps(path):
        shown = visible(step, 200)
        if found is None:
            return f"{shown} cannot be looked at"
        if found.st_uid not in trusted and (strict or common):
            return f"{shown} belongs to another user"
        if stat.S_ISLNK(found.st_mode):
            continue
        # In a directory like /tmp others add files, but do not rename those that are not theirs.
        shared = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX) and not last
        if found.st_mode & 0o002 and not shared:
            return f"{shown} can be changed by every user"
        if strict and found.st_mode & 0o020 and not shared and not _harmless_group(found.st_gid):
            return f"{shown} can be changed by its group"
        common = bool(found.st_mode & 0o002)
    return ""


def installed_by_root(path: str) -> bool:
    """Whether only root can have put the program there."""
    if others(path, {0}):
        return False
    below = (os.path.normpath(path), os.path.realpath(path))
    if is_temporary(path) or any(within(one, place) for one in below for place in _NOT_INSTALLED):
        return False
    if in_project(path):
        return False
    return os.getuid() != 0 or all(any(within(one, place) for place in _ROOTS_OWN) for one in below)


def in_project(path: str) -> bool:
    """Whether a path lies in the project of the working directory."""
    try:
        project = _project(os.getcwd())
    except OSError:  # somebody removed it
        return False
    return bool(project) and any(within(one, project) for one in (os.path.normpath(path), os.path.realpath(path)))


def is_temporary(path: str) -> bool:
    """Whether a path lies in a directory for temporary files."""
    return any(within(one, place) for one in (os.path.normpath(path), os.path.realpath(path)) for place in _temporary())


def within(path: str, folder: str) -> bool:
    """Whether a path is a directory, or below it. Both are absolute and normal."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _steps(path: str) -> Iterator[tuple[str, os.stat_result | None, bool]]:
    """Every directory, link and file on the way to what `path` names, and whether it is the last."""
    parts = [one for one in path.split("/") if one]
    at, links = "/", 0
    yield at, _status(at), not parts
    while parts:
        name = parts.pop(0)
        if name in (".", ".."):
            at = os.path.dirname(at) if name == ".." else at
            continue
        full = os.path.join(at, name)
        found = _status(full)
        if found is None or not stat.S_ISLNK(found.st_mode):
            at = full
            yield full, found, not parts
            continue
        links += 1
        yield full, found if links < _LINKS else None, False
        try:
            target = os.readlink(full)
        except OSError:
            return
        at = "/" if target.startswith("/") else at
        parts = [one for one in target.split("/") if one] + parts
        if links >= _LINKS:
            return


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _harmless_group(number: int) -> bool:
    """Whether a group has nobody in it but root and this user."""
    if number == 0 or (sys.platform == "darwin" and number == _MACOS_ADMIN):
        return True
    import grp
    import pwd

    try:
        me = pwd.getpwuid(os.getuid()).pw_name
        members = set(grp.getgrgid(number).gr_mem)
    except KeyError:
        return False
    if not members <= {me, "root"}:
        return False
    return all(one.pw_name in (me, "root") for one in pwd.getpwall() if one.pw_gid == number)


def _temporary() -> tuple[str, ...]:
    places = ("/tmp", "/var/tmp", "/dev/shm", os.environ.get("TMPDIR", ""), tempfile.gettempdir())  # noqa: S108
    found = [
        one for place in places if os.path.isabs(place) for one in (os.path.normpath(place), os.path.realpath(place))
    ]
    return tuple(one for one in dict.fromkeys(found) if one != "/")


def _project(cwd: str) -> str:
    """The project a directory belongs to; '' for a home, and what lies above one."""
    import pwd

    try:
        account = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        account = ""
    homes = {os.path.realpath(one) for one in (account, os.path.expanduser("~")) if os.path.isabs(one)}
    folder = os.path.realpath(cwd)
    above = [folder]
    while above[-1] != "/":
        above.append(os.path.dirname(above[-1]))
    inside = [one for one in above if one != "/" and not any(within(home, one) for home in homes)]
    versioned = [one for one in inside if any(os.path.lexists(f"{one}/{name}") for name in _VERSION_CONTROL)]
    named = [one for one in inside if any(os.path.lexists(f"{one}/{name}") for name in _PROJECT_FILES)]
    # A client that starts servers in /usr/local does not make a project of what is installed there.
    plain = [one for one in inside[:1] if one not in _ROOTS_OWN and os.path.dirname(one) not in ("/usr", "/usr/local")]
    return next(reversed(versioned or named or plain), "")
