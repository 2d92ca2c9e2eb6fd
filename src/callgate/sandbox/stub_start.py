"""How the stub is started: its interpreter, its program and its order, without a file that has to be found inside."""

from __future__ import annotations

import marshal  # noqa: TID251  our own data, to a program of our own over a descriptor of our own
import os
import sys

from callgate.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict
else:
    TypedDict = dict

BOOT = (
    "import marshal,posix,sys;f=int(sys.argv[1]);d=posix.read(f,posix.fstat(f).st_size);posix.close(f);"
    "n=int.from_bytes(d[:4],'little');g={'__name__':'stub'};exec(marshal.loads(d[n:]),g);g['main'](marshal.loads(d[4:n]))"
)
"""Reads its file in one go: four bytes that say where the program begins, the order, the program."""


class Order(TypedDict):
    """What the stub does, in types that marshal knows."""

    argv: list[str]
    environment: dict[str, str]
    cwd: str
    limits: list[tuple[int, int]]
    """(RLIMIT_*, value)."""
    landlock: int
    """The ABI that was proved to be there; less is refused, 0 leaves Landlock out."""
    paths: list[tuple[str, str]]
    """(path, `read` | `execute` | `write` | `device`)."""
    ports: list[int] | None
    """TCP ports it may connect to; None leaves TCP to the network namespace."""
    filter: bytes
    """The system call filter; empty where one is in force before the stub starts."""
    outside: list[tuple[str, int]]
    """Namespaces of the host, by name and inode, that must not be its own."""
    no_capabilities: list[bytes]
    """Members of /proc/self/status that must be zero."""
    control_groups: list[int]
    """Descriptors of `cgroup.procs` files to enter."""
    meeting: int
    """A socket on which to say that it is up and to wait until it was put into its control group; -1: none."""
    same: list[tuple[str, int, int]]
    """(path, device, inode): what must be found there. Somebody may have laid a link in its place meanwhile."""
    profile: str
    """The AppArmor profile to become the server under; empty: none."""
    alone: bool
    """No process namespace: end with the parent, keep orphans."""


def interpreter() -> str:
    """The Python that runs the stub: the program of this very process, whatever its links and environments say."""
    try:
        return os.readlink("/proc/self/exe")
    except OSError as error:
        raise SandboxError("/proc is not mounted: callgate cannot tell which Python it runs on") from error


def command(order_fd: int) -> list[str]:
    """The command line of the stub. It tells nothing of the server."""
    return [interpreter(), "-I", "-S", "-c", BOOT, str(order_fd)]


def interpreter_files() -> list[str]:
    """What of the interpreter must be visible inside, beside /usr: the program, its library, its start-up modules."""
    program = interpreter()
    prefix = sys.base_prefix
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = os.path.join(prefix, getattr(sys, "platlibdir", "lib"), version)
    found = [program]
    if not program.startswith("/usr/"):
        shared = os.path.join(prefix, "lib", f"lib{version}.so.1.0")
        found += [path for path in (shared,) if os.path.exists(path)]
    if not home.startswith("/usr/"):
        found += [os.path.join(home, name) for name in ("os.py", "encodings", "lib-dynload")]
    return [path for path in found if not path.startswith("/usr/") and os.path.exists(path)]


def order_file(order: Order) -> int:
    """A descriptor from which the stub reads its order and its program. The caller closes it."""
    return program_file(dict(order), "stub")


def program_file(order: dict[str, object], module: str) -> int:
    """A file in memory with an order and the program of a module of this room, as BOOT reads them."""
    fd = os.memfd_create("order")
    try:
        told = marshal.dumps(order)
        content = (4 + len(told)).to_bytes(4, "little") + told + _program(module)
        done = 0
        while done < len(content):
            done += os.write(fd, content[done:])
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _program(module: str) -> bytes:
    """Its code, marshalled: from Python's own file of the compiled module where that is of this source (PEP 552)."""
    # As `importlib.util` has them, which takes 2 ms to import; this one is in the interpreter.
    from _frozen_importlib_external import MAGIC_NUMBER, cache_from_source

    path = os.path.join(os.path.dirname(__file__), f"{module}.py")
    try:
        source = os.stat(path)
        with open(cache_from_source(path), "rb") as file:
            kept = file.read()
    except (OSError, NotImplementedError):
        pass
    else:
        stamp = b"".join((int(one) & 0xFFFFFFFF).to_bytes(4, "little") for one in (0, source.st_mtime, source.st_size))
        if kept[:16] == MAGIC_NUMBER + stamp:
            return kept[16:]
    from importlib.machinery import SourceFileLoader

    name = f"callgate.sandbox.{module}"
    return marshal.dumps(SourceFileLoader(name, path).get_code(name))


def namespaces(names: Sequence[str]) -> list[tuple[str, int]]:
    """This process' own namespaces, which a confined server must not share."""
    return [(name, os.stat(f"/proc/self/ns/{name}").st_ino) for name in names]
