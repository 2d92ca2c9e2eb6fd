"""What a server may touch, in one value that every backend understands.

Nothing is allowed that is not named here: no file, no host, no variable. A backend that cannot enforce a part
says so (`Prepared.not_enforced`); it never leaves it out in silence.
"""

from __future__ import annotations

from callgate.frozen import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, TypeAlias

    ServerKind: TypeAlias = Literal["node", "python", "binary", "container"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host that the server sees, at the same path unless `target` says another.

    What is writable is never executable: a dropped program does not start.
    """

    source: str
    writable: bool = False
    target: str = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """A host and port the server may connect to, through the egress gate only.

    `host` is a lower-case DNS name of letters, digits and hyphens, `*.NAME` for every name below NAME, or `*` for
    every public host. Addresses of private, loopback, link-local and metadata ranges are refused whatever the name,
    but for what `Private` opens.
    """

    host: str
    port: int = 443


@dataclass(frozen=True, slots=True)
class Private:
    """Private networks that the user opened, and the exact names, each with its port, that alone may lie there."""

    networks: tuple[str, ...] = ()
    """In RFC 1918, 4193 or 6598 space, as `10.20.0.0/16`."""
    hosts: tuple[Destination, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may use up. Zero means: no limit of ours."""

    processes: int = 128
    """Processes and threads of all its programs."""
    memory_bytes: int = 2048 * MIB
    """Memory of all its programs together (a control group or a watchdog), and data of each one (RLIMIT_DATA)."""
    cpus: float = 0.0
    """Processors' worth of time; enforced where there is a control group."""
    file_bytes: int = 512 * MIB
    """The largest file it may write."""
    disk_bytes: int = 256 * MIB
    """Its private /tmp and home; written mounts have no total."""
    descriptors: int = 1024


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret that the server reads from a file in memory, under /run/secrets: never on a disk."""

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"SecretFile({self.name!r})"

    @property
    def path(self) -> str:
        """Where the server finds it."""
        return f"/run/secrets/{self.name}"


@dataclass(frozen=True, slots=True)
class Sentinel:
    """A stand-in the server gets for a secret; the egress gate puts the secret in its place towards `hosts` only."""

    name: str
    """Of the variable or reference: what evidence calls it."""
    placeholder: str
    value: bytes
    hosts: tuple[str, ...] = ()
    """Where the secret may go, as in `Destination.host` without wildcards for everything."""

    def __repr__(self) -> str:
        return f"Sentinel({self.name!r}, {self.placeholder!r}, hosts={self.hosts!r})"


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Everything one server may touch. `mounts` beside the system's own read-only runtime."""

    name: str
    """The server's, for messages and evidence."""
    kind: ServerKind = "binary"
    mounts: tuple[Mount, ...] = ()
    home: str = ""
    """A directory of the host that is the server's private, persistent home (writable); empty: one in memory."""
    cwd: str = ""
    """Where it starts; empty: its home."""
    network: tuple[Destination, ...] = ()
    egress_proxy: Destination | None = None
    """Another proxy through which the egress gate connects; its host may be an address. That one resolves the names."""
    private: Private = Private()
    unix_sockets: bool = False
    """Whether it may make AF_UNIX sockets (pairs it always may). Those of the host stay out of reach."""
    limits: Limits = Limits()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The whole environment, by value: nothing is inherited."""
    secret_files: tuple[SecretFile, ...] = ()
    sentinels: tuple[Sentinel, ...] = ()
    apparmor: bool = True
    """Whether an AppArmor profile of its own is used, where the kernel has one: not while a sandbox proves itself."""
    notices: tuple[str, ...] = ()
    """What was added that nobody asked for by name, a line each, for the person who starts it."""
