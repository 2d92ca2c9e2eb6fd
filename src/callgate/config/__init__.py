"""The settings of `callgate.toml`, as frozen dataclasses. Everything has a default: an empty file, or none, is valid.

    places    where the user's configuration and callgate's state are
    reader    a file's text to a document, parsed or as an earlier start kept it
    document  a document to a `Config`, with errors that name the key
    gate      its tables about the gate itself
    servers   its tables about what is started

A launch imports what its configuration has tables for, and without one only `places`. See docs/configuration.md.
"""

from __future__ import annotations

from callgate.frozen import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypeAlias

    Mode: TypeAlias = Literal["enforce", "observe"]
    ContentDetail: TypeAlias = Literal["digest", "shape", "full"]
    ServerTransport: TypeAlias = Literal["stdio", "http", "sse"]
    SandboxChoice: TypeAlias = Literal["auto", "bubblewrap", "landlock", "podman", "docker", "seatbelt", "none"]

SANDBOXES = ("auto", "bubblewrap", "landlock", "podman", "docker", "seatbelt", "none")
MODES = ("enforce", "observe")
CONTROL_MODES = ("enforce", "observe", "off")
DETAILS = ("digest", "shape", "full")
DEFAULT_LISTEN = "127.0.0.1:8484"


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest message the gate accepts. All numbers are inclusive.

    The defaults let every message of the official servers pass and keep one message from exhausting
    a peer: 200 levels is where the parser of the official Python SDK stops, 4 MiB is the body limit
    of the official SDK servers.
    """

    request_bytes: int = 4 * 1024 * 1024
    """Bytes of one message from a client."""
    response_bytes: int = 32 * 1024 * 1024
    """Bytes of one message from a server."""
    depth: int = 200
    """Nested arrays and objects; more than 200 cannot be configured."""
    nodes: int = 200_000
    """Values in one message, containers included."""
    keys: int = 100_000
    """Members of one object."""
    string_bytes: int = 16 * 1024 * 1024
    """Bytes of one string in UTF-8."""
    name_bytes: int = 1024
    """Bytes of a method, tool, prompt or argument name, and of a string id."""
    batch: int = 100
    """Messages in one batch (revision 2025-03-26)."""
    in_flight: int = 20_000
    """Requests without an answer on one channel."""
    exact_integers: bool = True
    """Refuse integers that a double cannot hold exactly (JavaScript would round them)."""


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """The evidence log.

    `content`: `digest` keeps SHA-256 and size of arguments and results; `shape` (default) also the names
    and types of their members; `full` also the values: use it only where the log may hold secrets.
    `sync_ms`: at most this long until a record is on disk (0: fsync each record).
    `keep_days`, `keep_bytes`: what is older, or beyond so many bytes, is removed (0: nothing for that reason);
    `keep_bytes` removes nothing of the last `keep_at_least_days`.
    """

    content: ContentDetail = "shape"
    sync_ms: int = 1000
    segment_bytes: int = 8 * 1024 * 1024
    checkpoint_records: int = 10_000
    keep_days: int = 0
    keep_bytes: int = 2 * 1024 * 1024 * 1024
    keep_at_least_days: int = 7


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """What must hold before a server's command is started.

    `sandbox`: `auto` (default) takes the first backend that proves itself on this machine; a name takes that one or
    refuses; `none` starts servers unconfined, and evidence says so. `unpinned`: what happens to a command that
    `callgate.lock` does not hold: `allow` (default: it starts sandboxed and is recorded as unpinned) or `refuse`.
    `signers`: files with public keys of which `threshold` must have signed the lock; empty: no signature is asked for.
    """

    sandbox: SandboxChoice = "auto"
    unpinned: Literal["allow", "refuse"] = "allow"
    signers: tuple[str, ...] = ()
    threshold: int = 1
    cooldown_days: int = 7
    lock: str = ""
    """A `callgate.lock` beside the user's own, for example a project's or a team's."""
    programs: Mapping[str, str] = field(default_factory=dict)
    """Programs that callgate starts outside of the sandbox, by name: absolute paths."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that these get, whatever the environment says."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """One server's sandbox: what it gets beside the defaults of its kind. Limits: None takes the default."""

    backend: SandboxChoice | None = None
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    """`host`, `host:port`, `*.domain` or `*` (every public host); the port is 443 where none is given."""
    private_networks: tuple[str, ...] = ()
    """Private networks in which hosts of `network` that are listed by their own name may lie, as `10.20.0.0/16`."""
    egress_proxy: str = ""
    """`http://host:port`: the egress gate connects through this proxy, which then resolves the names."""
    environment: tuple[str, ...] = ()
    """Names of variables it gets from callgate's own environment."""
    processes: int | None = None
    memory_mib: int | None = None
    cpus: float | None = None
    file_mib: int | None = None
    disk_mib: int | None = None
    descriptors: int | None = None


@dataclass(frozen=True, slots=True)
class SecretConfig:
    """One secret of a server: where it is kept and how it reaches the server, under a variable's name."""

    ref: str
    deliver: Literal["auto", "sentinel", "file", "environment"] = "auto"
    """`auto`: a sentinel where `hosts` are named and the sandbox has an egress gate, else the environment."""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One upstream server: a command (stdio) or a URL (Streamable HTTP; `transport = "sse"` for 2024-11-05).

    With neither it only holds settings for `callgate run --name NAME`, and `callgate serve` leaves it out.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    transport: ServerTransport = "stdio"
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    mode: Mode | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_timeout_s: float = 300.0
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    secrets: Mapping[str, SecretConfig] = field(default_factory=dict)
    sessions: int = 64
    """Handshake-era sessions (stdio: processes) at once."""


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """The HTTP side of `callgate serve`."""

    host: str = "127.0.0.1"
    port: int = 8484
    workers: int = 1
    allowed_hosts: tuple[str, ...] = ()
    """Further values of the Host header, beside the loopback names and the address listened on."""
    allowed_origins: tuple[str, ...] = ()
    """Further origins of browsers, beside loopback origins. Empty means none, never all."""
    tls_certificate: str = ""
    tls_key: str = ""
    token_file: str = ""
    """File with the bearer token clients must send; required to listen beyond loopback."""
    header_bytes: int = 32 * 1024
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    connections: int = 4096
    drain_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """One control's mode (None: the server's or the gate's) and its own options."""

    mode: Literal["enforce", "observe", "off"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. `source` is the file it came from, or empty."""

    mode: Mode = "enforce"
    listen: ListenConfig = field(default_factory=ListenConfig)
    limits: Limits = field(default_factory=Limits)
    audit: AuditConfig = field(default_factory=AuditConfig)
    controls: Mapping[str, ControlConfig] = field(default_factory=dict)
    servers: Mapping[str, ServerConfig] = field(default_factory=dict)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    state_dir: str = ""
    source: str = ""

    @property
    def served(self) -> dict[str, ServerConfig]:
        """The servers that `callgate serve` offers: those with a command or a URL."""
        return {name: server for name, server in self.servers.items() if server.command or server.url}

    def mode_of(self, server: str) -> Mode:
        """The mode for one server: its own, else the gate's."""
        entry = self.servers.get(server)
        return (entry.mode if entry else None) or self.mode


def valid_server_name(name: str) -> bool:
    """Whether `name` can be a route and a key: 1-64 of [A-Za-z0-9._-], first one alphanumeric."""
    return 0 < len(name) <= 64 and name.isascii() and name[0].isalnum() and all(c.isalnum() or c in "._-" for c in name)
