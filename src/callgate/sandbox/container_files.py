"""What a container needs beside the server: files in memory, and a root to hang the machine's own programs into.

podman takes that root as a directory. Docker starts images only, so there it is the one layer of an image.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping

from callgate.errors import SandboxError
from callgate.sandbox.spec import SecretFile

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_PLACES = ("dev", "etc", "home", "proc", "run", "sys", "tmp", "usr", "var")
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/:/sbin/nologin\nserver:x:65534:65534::/:/sbin/nologin\n",
    "etc/group": "root:x:0:\nserver:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": "",
}

SYSTEM = (
    "/usr",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust",
    "/etc/pki/tls",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
"""What every program of this machine needs to run, read-only; nothing of it is a user's."""


class Workspace:
    """A directory in memory, mode 0700, gone with `remove`."""

    def __init__(self, *, secret: bool) -> None:
        self.path = tempfile.mkdtemp(prefix="callgate-", dir=_memory(secret=secret))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def write(self, name: str, content: bytes) -> str:
        """A file for the server, whoever it is there: on the host the directory keeps everyone else out."""
        path = os.path.join(self.path, name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o444)
        return path

    def secrets(self, files: tuple[SecretFile, ...]) -> Mapping[str, str]:
        """Path in the container of each secret → its file here."""
        return {one.path: self.write(f"secret-{number}", one.value) for number, one in enumerate(files)}

    def skeleton(self) -> str:
        """A root with nothing in it but the names that mounts need. The engine makes the others itself."""
        root = os.path.join(self.path, "root")
        os.mkdir(root, 0o755)
        for name in _PLACES:
            os.mkdir(os.path.join(root, name), 0o755)
        for name, target in _links().items():
            os.symlink(target, os.path.join(root, name))
        for name, content in _ACCOUNTS.items():
            with open(os.path.join(root, name), "w", encoding="ascii") as file:
                file.write(content)
        return root


def layer() -> bytes:
    """The same root as an archive, the same bytes every time. `/sbin` is a directory: Docker puts its init there."""
    import io
    import tarfile

    pack = io.BytesIO()
    with tarfile.open(fileobj=pack, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, kind: bytes, *, content: bytes = b"", link: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, len(content)
            entry.mode = 0o644 if kind == tarfile.REGTYPE else 0o755
            tar.addfile(entry, io.BytesIO(content))

        for name in (*_PLACES, "sbin"):
            add(name, tarfile.DIRTYPE)
        for name, target in _links().items():
            if name != "sbin":
                add(name, tarfile.SYMTYPE, link=target)
        for name, text in _ACCOUNTS.items():
            add(name, tarfile.REGTYPE, content=text.encode())
    return pack.getvalue()


def _links() -> dict[str, str]:
    """Names in the root of this machine that lead into /usr."""
    return {name: os.readlink("/" + name) for name in _LINKS if os.path.islink("/" + name)}


def system_mounts() -> tuple[str, ...]:
    """Those of `SYSTEM` that are here, and what of the root is a directory of its own (no merged /usr)."""
    own = tuple("/" + name for name in _LINKS if os.path.isdir("/" + name) and not os.path.islink("/" + name))
    return (*(path for path in SYSTEM if os.path.exists(path)), *own)


def _memory(*, secret: bool) -> str:
    """A directory that lies in memory. Raises SandboxError where there is none and a secret needs one."""
    kinds = _file_systems()
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}", "/dev/shm"):  # noqa: S108
        if place and os.path.isdir(place) and os.access(place, os.W_OK) and _kind(place, kinds) in _IN_MEMORY:
            return place
    if secret:
        raise SandboxError(
            "there is no directory in memory for the server's secrets, and they are not written to a disk",
            next_step="set XDG_RUNTIME_DIR to a directory on tmpfs",
        )
    return tempfile.gettempdir()


def _file_systems() -> dict[str, str]:
    """Mount point → kind of file system; the last one counts."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            return {fields[1]: fields[2] for line in file if len(fields := line.split()) > 2}
    except OSError:
        return {}


def _kind(path: str, kinds: dict[str, str]) -> str:
    real = os.path.realpath(path)
    while real not in kinds and real != "/":
        real = os.path.dirname(real)
    return kinds.get(real, "")
