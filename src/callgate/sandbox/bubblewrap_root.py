"""The file system a server finds inside bubblewrap: the system's runtime read-only, and what its spec names.

Nothing of the host is there that is not listed here or in the spec. /etc holds generated files and the few of the
host that programs need to run; /tmp and the home are in memory unless the spec gives a home.
"""

from __future__ import annotations

import os

from callgate.errors import SandboxError
from callgate.sandbox.spec import MIB, Mount
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from callgate.sandbox.backend_running import Opened
    from callgate.sandbox.spec import SandboxSpec

HOME = "/home/server"
"""Where the home is when the spec names none."""
SHARED_MEMORY_BYTES = 64 * MIB
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_PROGRAMS = ("/usr", "/nix/store")
_SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates/extracted",
    "/etc/crypto-policies/back-ends",
    "/etc/mime.types",
)
_SPLIT_LIMIT = 4096


def system(opened: Opened, hosts: bytes, home: str, *, size: bool, disk_bytes: int) -> list[str]:
    """The bubblewrap options for everything that does not come from the spec."""
    options: list[str] = []
    for path in _PROGRAMS:
        if os.path.isdir(path):
            options += ["--ro-bind", path, path]
    for name in _SYSTEM:
        path = f"/{name}"
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    for path in _SETTINGS:
        if os.path.exists(path):
            options += ["--ro-bind", path, path]
    if os.path.islink("/etc/localtime"):
        options += ["--symlink", os.readlink("/etc/localtime"), "/etc/localtime"]
    for path, content in generated(hosts, home).items():
        options += ["--perms", "0444", "--file", str(opened.memory(content)), path]
    options += ["--proc", "/proc", "--dev", "/dev"]
    options += [*_memory("/dev/shm", "1777", SHARED_MEMORY_BYTES if size else 0)]  # noqa: S108
    options += [*_memory("/tmp", "1777", disk_bytes if size else 0)]  # noqa: S108
    return options


def _memory(path: str, mode: str, size: int) -> list[str]:
    return ["--perms", mode, *(["--size", str(size)] if size else []), "--tmpfs", path]


def generated(hosts: bytes, home: str) -> Mapping[str, bytes]:
    """The files of /etc that tell of this machine's users and network: made up, so that they tell nothing."""
    user, group = os.getuid(), os.getgid()
    users = f"server:x:{user}:{group}::{home}:/bin/false\n"
    groups = f"server:x:{group}:\n"
    if user:
        users = "root:x:0:0::/nonexistent:/bin/false\n" + users
    if group:
        groups = "root:x:0:\n" + groups
    return {
        "/etc/passwd": users.encode(errors="surrogateescape"),
        "/etc/group": groups.encode(),
        "/etc/hosts": hosts or b"127.0.0.1 localhost\n::1 localhost\n",
        "/etc/resolv.conf": b"",
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    }


def from_spec(spec: SandboxSpec, home: str, files: Sequence[str], *, size: bool) -> list[str]:
    """The options for the home and the mounts of the spec, outer ones first, and `files` of ours, read-only."""
    options: list[str] = []
    if spec.home:
        if not os.path.isdir(spec.home):
            raise SandboxError(f"the server's home '{visible(spec.home)}' is not a directory")
        wanted = [Mount(spec.home, writable=True)]
    else:
        options += _memory(home, "0700", spec.limits.disk_bytes if size else 0)
        wanted = []
    wanted += [*spec.mounts, *(Mount(path) for path in files)]
    at_target: dict[str, Mount] = {}
    for mount in wanted:
        target = where(mount)
        check(mount)
        known = at_target.get(target)
        at_target[target] = mount if known is None or mount.writable else known
    for target in sorted(at_target, key=lambda path: (path.count("/"), path)):
        mount = at_target[target]
        options += ["--bind" if mount.writable else "--ro-bind", mount.source, target]
    return options


def where(mount: Mount) -> str:
    """The path inside."""
    return os.path.normpath(mount.target or mount.source)


def check(mount: Mount) -> None:
    """Raise SandboxError for a mount that cannot be made or would undo what the root holds."""
    target = where(mount)
    if not os.path.isabs(mount.source) or not os.path.isabs(target):
        raise SandboxError(f"the mount '{visible(mount.source)}' is not an absolute path")
    if not os.path.exists(mount.source):
        raise SandboxError(
            f"there is no '{visible(mount.source)}' to show to the server",
            next_step="create it, or take it out of the server's arguments or settings",
        )
    taken = ("/proc", "/dev", "/sys")
    if target == "/" or any(target == one or target.startswith(one + "/") for one in taken):
        raise SandboxError(
            f"'{visible(target)}' cannot be given to a server", next_step="name the directories it needs instead"
        )


def judged(spec: SandboxSpec) -> list[tuple[str, int, int]]:
    """(path inside, device, inode) of what was judged, for the stub to find there. Raises SandboxError.

    Between the judgement and the mount another server may exchange a directory for a link. `source` was resolved when
    it was judged, so a source that is reached through a link now is another place.
    """
    found: dict[str, tuple[str, int, int]] = {}
    for mount in (*([Mount(spec.home, writable=True)] if spec.home else ()), *spec.mounts):
        try:
            fd = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise SandboxError(f"'{visible(mount.source, 200)}' cannot be shown: {error.strerror}") from error
        try:
            if os.readlink(f"/proc/self/fd/{fd}") != mount.source:
                raise SandboxError(
                    f"'{visible(mount.source, 200)}' was exchanged while the server was started",
                    next_step="start it again; if it stays, another program changes that place",
                )
            seen = os.fstat(fd)
        finally:
            os.close(fd)
        target = where(mount)
        if mount.writable or target not in found:
            found[target] = (target, seen.st_dev, seen.st_ino)
    return list(found.values())


def landlock_paths(spec: SandboxSpec, home: str, files: Sequence[str]) -> list[tuple[str, str]]:
    """What Landlock allows inside: read all that is there, execute only where nothing can be written."""
    written = [where(mount) for mount in spec.mounts if mount.writable] + [home]
    rules = [("/", "read"), ("/dev", "device")]
    rules += [(path, "write") for path in ("/tmp", "/dev/shm", *written)]  # noqa: S108
    roots = [path for path in (*_PROGRAMS, *(f"/{name}" for name in _SYSTEM)) if os.path.isdir(path)]
    rules += [(path, "execute") for path in roots]
    for mount in spec.mounts:
        if not mount.writable and where(mount) not in written:
            rules += [(path, "execute") for path in executable(where(mount), mount.source, written)]
    rules += [(path, "execute") for path in files]
    return rules


def executable(target: str, source: str, written: Sequence[str]) -> Iterator[str]:
    """The parts of a read-only mount below which nothing is writable: Landlock has no rule that takes away."""
    inner = [path for path in written if path.startswith(target + "/")]
    if not inner:
        yield target
        return
    try:
        names = os.listdir(source)
    except OSError:
        return
    if len(names) > _SPLIT_LIMIT:
        raise SandboxError(
            f"'{visible(target)}' has a writable directory in it and too many entries beside",
            next_step="give the server the writable directory under another path",
        )
    for name in names:
        below = f"{target}/{name}"
        if below not in written:
            yield from executable(below, f"{source}/{name}", inner)
