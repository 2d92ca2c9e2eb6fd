"""`callgate.toml` as frozen dataclasses. Unknown keys and wrong types are errors with a next step.

Everything has a default: an empty file, or none, is a valid configuration. Paths in the file are
relative to the file. See docs/configuration.md.
"""

from __future__ import annotations

import os
import sys

from callgate.errors import ConfigError
from callgate.frozen import dataclass, field, fields
from callgate.protocol.limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
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


def state_directory(config: Config | None = None) -> Path:
    """`state_path` as a path object."""
    from pathlib import Path

    return Path(state_path(config))


def state_path(config: Config | None = None) -> str:
    """Where pins, keys and evidence live: `state_dir`, $CALLGATE_STATE_DIR, or the platform's user state dir.

    Created with mode 0700. Raises ConfigError for one that other users may change: what is locked, pinned and signed
    lies there.
    """
    path = _state_place(config)
    try:
        os.makedirs(path, exist_ok=True, mode=0o700)
    except OSError as error:
        from callgate.text import visible

        raise ConfigError(
            f"the state directory {visible(path, 300)} cannot be made: {error.strerror}",
            next_step="name another one (state_dir, $CALLGATE_STATE_DIR), or make room or rights for it",
        ) from error
    if hasattr(os, "geteuid"):
        status = os.stat(path)
        own = os.geteuid()  # root in a container often works in a directory that is mounted from a user
        if status.st_mode & 0o002 or (own and status.st_uid not in (own, 0)):
            from callgate.text import visible

            raise ConfigError(
                f"other users may change the state directory {visible(path, 300)}",
                next_step="name a directory of your own (state_dir, $CALLGATE_STATE_DIR), or: chmod o-w",
            )
    return path


def _state_place(config: Config | None) -> str:
    chosen = (config.state_dir if config else "") or os.environ.get("CALLGATE_STATE_DIR", "")
    return os.path.expanduser(chosen) if chosen else _user_directory("state")


def _user_directory(kind: Literal["state", "config"]) -> str:
    """The platform's per-user directory for callgate.

    On Linux this is the XDG Base Directory rule, written out: importing platformdirs would be a twentieth of
    the start-up budget of `callgate run`. A relative value in the environment is ignored, as the rule says.
    """
    if "linux" in sys.platform:
        chosen = os.environ.get(f"XDG_{kind.upper()}_HOME", "")
        default = os.path.expanduser("~/.local/state" if kind == "state" else "~/.config")
        return os.path.join(chosen if os.path.isabs(chosen) else default, "callgate")
    import platformdirs

    found = platformdirs.user_state_dir if kind == "state" else platformdirs.user_config_dir
    return found("callgate", appauthor=False)


def user_config_file() -> str:
    """`callgate.toml` in the user's configuration directory, or '' where there is none."""
    chosen = os.environ.get("CALLGATE_CONFIG", "")
    if chosen:
        return chosen
    path = os.path.join(_user_directory("config"), "callgate.toml")
    return path if os.path.isfile(path) else ""


_MOST_BYTES = 16 << 20
"""Largest configuration that is read."""


def load(path: str | os.PathLike[str], *, kept: bool = False, state: str = "") -> Config:
    """Read a configuration file. Raises ConfigError with the place and what to do.

    `kept`: for a start, which must be quick: what was parsed is kept in the state directory (`state`, else the usual
    one), unless the file names another.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            f"no configuration at {path}", next_step="name a file that exists, or leave --config out"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", next_step="check the file's permissions") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES} bytes", next_step="name a callgate.toml")
    document = _parsed(os.fspath(path), content, Config(state_dir=state)) if kept else _from_toml(path, content)
    return parse(document, source=str(path))


def _parsed(path: str, content: bytes, at: Config) -> Mapping[str, Any]:
    """As `_from_toml`, from what an earlier start kept where that is the same text."""
    from callgate import parsed

    document = parsed.read(_state_place(at), path, content)
    if document is None or "state_dir" in document:
        document = _from_toml(path, content)
        if "state_dir" not in document:
            parsed.write(state_path(at), path, content, document)
    return document


def _from_toml(path: str | os.PathLike[str], content: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # TOML's, those of characters, and numbers of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}", next_step="correct the line named above") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply", next_step="correct its lists and tables") from error


def parse(document: Mapping[str, Any], source: str = "") -> Config:
    """A configuration from a TOML document."""
    reader = _Reader(source or "configuration")
    known = {"mode", "state_dir", "listen", "limits", "audit", "controls", "servers", "launch"}
    reader.only(document, known, "")
    base = os.path.dirname(source)
    return Config(
        mode=reader.choice(document, "mode", MODES, "enforce", ""),
        listen=_listen(reader, reader.table(document, "listen", ""), base),
        limits=_limits(reader, reader.table(document, "limits", "")),
        audit=_audit(reader, reader.table(document, "audit", "")),
        controls=_controls(reader, reader.table(document, "controls", "")),
        servers=_servers(reader, reader.table(document, "servers", ""), base),
        launch=_launch(reader, reader.table(document, "launch", ""), base),
        state_dir=_path(base, reader.typed(document, "state_dir", str, "", "")),
        source=source,
    )


def parse_address(text: str, where: str = "listen") -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `port`, as (host, port)."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{where}: {text!r} is not an address", next_step='write it as "127.0.0.1:8484"')
    return host, int(port)


def _path(base: str, value: str) -> str:
    return os.path.join(base, os.path.expanduser(value)) if value else ""


def _listen(reader: _Reader, table: Mapping[str, Any], base: str) -> ListenConfig:
    where = "listen."
    names = {f.name for f in fields(ListenConfig)} - {"host", "port"}
    reader.only(table, names | {"address"}, where)
    host, port = parse_address(reader.typed(table, "address", str, DEFAULT_LISTEN, where), "listen.address")
    default = ListenConfig()
    return ListenConfig(
        host=host,
        port=port,
        workers=reader.number(table, "workers", default.workers, 1, 64, where),
        allowed_hosts=reader.strings(table, "allowed_hosts", where),
        allowed_origins=reader.strings(table, "allowed_origins", where),
        tls_certificate=_path(base, reader.typed(table, "tls_certificate", str, "", where)),
        tls_key=_path(base, reader.typed(table, "tls_key", str, "", where)),
        token_file=_path(base, reader.typed(table, "token_file", str, "", where)),
        header_bytes=reader.number(table, "header_bytes", default.header_bytes, 1024, 1 << 20, where),
        header_timeout_s=reader.seconds(table, "header_timeout_s", default.header_timeout_s, where),
        idle_timeout_s=reader.seconds(table, "idle_timeout_s", default.idle_timeout_s, where),
        connections=reader.number(table, "connections", default.connections, 1, 1_000_000, where),
        drain_s=reader.seconds(table, "drain_s", default.drain_s, where),
    )


_LIMIT_RANGES = {
    "request_bytes": (1024, 1 << 30),
    "response_bytes": (1024, 1 << 30),
    "depth": (4, 200),
    "nodes": (100, 100_000_000),
    "keys": (10, 10_000_000),
    "string_bytes": (100, 1 << 30),
    "name_bytes": (16, 65536),
    "batch": (1, 10_000),
    "in_flight": (1, 1_000_000),
}


def _limits(reader: _Reader, table: Mapping[str, Any]) -> Limits:
    where = "limits."
    reader.only(table, {f.name for f in fields(Limits)}, where)
    default = Limits()
    numbers = {
        name: reader.number(table, name, getattr(default, name), low, high, where)
        for name, (low, high) in _LIMIT_RANGES.items()
    }
    return Limits(**numbers, exact_integers=reader.typed(table, "exact_integers", bool, True, where))


def _audit(reader: _Reader, table: Mapping[str, Any]) -> AuditConfig:
    where = "audit."
    reader.only(table, {f.name for f in fields(AuditConfig)}, where)
    default = AuditConfig()
    return AuditConfig(
        content=reader.choice(table, "content", DETAILS, default.content, where),
        sync_ms=reader.number(table, "sync_ms", default.sync_ms, 0, 60_000, where),
        segment_bytes=reader.number(table, "segment_bytes", default.segment_bytes, 65536, 1 << 30, where),
        checkpoint_records=reader.number(table, "checkpoint_records", default.checkpoint_records, 1, 10_000_000, where),
        keep_days=reader.number(table, "keep_days", default.keep_days, 0, 36_500, where),
        keep_bytes=reader.number(table, "keep_bytes", default.keep_bytes, 0, 1 << 50, where),
        keep_at_least_days=reader.number(table, "keep_at_least_days", default.keep_at_least_days, 0, 36_500, where),
    )


def _controls(reader: _Reader, table: Mapping[str, Any]) -> Mapping[str, ControlConfig]:
    controls: dict[str, ControlConfig] = {}
    for name in table:
        entry = reader.table(table, name, "controls.")
        where = f"controls.{name}."
        mode = reader.choice(entry, "mode", CONTROL_MODES, None, where)
        controls[name] = ControlConfig(mode=mode, options={k: v for k, v in entry.items() if k != "mode"})
    return controls


def _launch(reader: _Reader, table: Mapping[str, Any], base: str) -> LaunchConfig:
    where = "launch."
    reader.only(table, {f.name for f in fields(LaunchConfig)}, where)
    signers = tuple(_path(base, one) for one in reader.strings(table, "signers", where))
    threshold = reader.number(table, "threshold", 1, 1, 64, where)
    if signers and threshold > len(signers):
        raise reader.error("launch.threshold", f"there are only {len(signers)} signers")
    return LaunchConfig(
        sandbox=reader.choice(table, "sandbox", SANDBOXES, "auto", where),
        unpinned=reader.choice(table, "unpinned", ("allow", "refuse"), "allow", where),
        signers=signers,
        threshold=threshold,
        cooldown_days=reader.number(table, "cooldown_days", 7, 0, 365, where),
        lock=_path(base, reader.typed(table, "lock", str, "", where)),
        programs=_programs(reader, table, where),
        variables=reader.string_map(table, "variables", where),
    )


def _programs(reader: _Reader, table: Mapping[str, Any], where: str) -> dict[str, str]:
    found = {name: os.path.expanduser(path) for name, path in reader.string_map(table, "programs", where).items()}
    for name, path in found.items():
        if not os.path.isabs(path):
            raise reader.error(f"{where}programs.{name}", "must be a full path")
    return found


_SANDBOX_RANGES = {
    "processes": (1, 100_000),
    "memory_mib": (16, 1 << 20),
    "file_mib": (1, 1 << 20),
    "disk_mib": (1, 1 << 20),
    "descriptors": (16, 1_000_000),
}


def _sandbox(reader: _Reader, table: Mapping[str, Any], where: str, base: str) -> SandboxConfig:
    reader.only(table, {f.name for f in fields(SandboxConfig)}, where)
    numbers = {
        name: reader.number(table, name, 0, low, high, where) if name in table else None
        for name, (low, high) in _SANDBOX_RANGES.items()
    }
    return SandboxConfig(
        backend=reader.choice(table, "backend", SANDBOXES, None, where),
        read=tuple(_path(base, one) for one in reader.strings(table, "read", where)),
        write=tuple(_path(base, one) for one in reader.strings(table, "write", where)),
        network=reader.strings(table, "network", where),
        private_networks=reader.strings(table, "private_networks", where),
        egress_proxy=reader.typed(table, "egress_proxy", str, "", where),
        environment=reader.strings(table, "environment", where),
        cpus=reader.seconds(table, "cpus", 1.0, where) if "cpus" in table else None,
        **numbers,
    )


def _secrets(reader: _Reader, table: Mapping[str, Any], where: str) -> dict[str, SecretConfig]:
    secrets: dict[str, SecretConfig] = {}
    for name in table:
        inner = f"{where}{name}."
        entry = reader.table(table, name, where)
        reader.only(entry, {f.name for f in fields(SecretConfig)}, inner)
        ref = reader.typed(entry, "ref", str, "", inner)
        if not ref:
            raise reader.error(inner + "ref", 'is missing: write ref = "keyring://service/user"')
        secrets[name] = SecretConfig(
            ref=ref,
            deliver=reader.choice(entry, "deliver", ("auto", "sentinel", "file", "environment"), "auto", inner),
            hosts=reader.strings(entry, "hosts", inner),
        )
    return secrets


def _servers(reader: _Reader, table: Mapping[str, Any], base: str) -> Mapping[str, ServerConfig]:
    servers: dict[str, ServerConfig] = {}
    for name in table:
        if not valid_server_name(name):
            raise reader.error(
                f"servers.{name}", "a server name is 1 to 64 of a-z A-Z 0-9 . _ - and starts with a letter or digit"
            )
        servers[name] = _server(reader, name, reader.table(table, name, "servers."), base)
    return servers


def valid_server_name(name: str) -> bool:
    """Whether `name` can be a route and a key: 1-64 of [A-Za-z0-9._-], first one alphanumeric."""
    return 0 < len(name) <= 64 and name.isascii() and name[0].isalnum() and all(c.isalnum() or c in "._-" for c in name)


def _server(reader: _Reader, name: str, entry: Mapping[str, Any], base: str) -> ServerConfig:
    where = f"servers.{name}."
    reader.only(entry, {f.name for f in fields(ServerConfig)} - {"name"}, where)
    command = reader.strings(entry, "command", where)
    url = reader.typed(entry, "url", str, "", where)
    if command and url:
        raise reader.error(where.rstrip("."), 'needs either command = [...] or url = "...", not both')
    if not command and not url and not entry.keys() & {"sandbox", "secrets", "mode"}:
        raise reader.error(where.rstrip("."), 'needs command = [...] or url = "...", or settings for callgate run')
    if url and not url.startswith(("http://", "https://")):
        raise reader.error(where + "url", "must start with http:// or https://")
    sandbox = _sandbox(reader, reader.table(entry, "sandbox", where), where + "sandbox.", base)
    if (sandbox.private_networks or sandbox.egress_proxy) and not command:
        key = "private_networks" if sandbox.private_networks else "egress_proxy"
        raise reader.error(
            f"{where}sandbox.{key}",
            f"is for one command alone: write that beside it, as command = [...] under [servers.{name}], word for word "
            "as it is started; else whatever had this name could use it",
        )
    transports = ("http", "sse") if url else ("stdio",)
    return ServerConfig(
        name=name,
        command=command,
        url=url,
        transport=reader.choice(entry, "transport", transports, transports[0], where),
        environment=reader.string_map(entry, "environment", where),
        cwd=reader.typed(entry, "cwd", str, "", where),
        mode=reader.choice(entry, "mode", MODES, None, where),
        headers=reader.string_map(entry, "headers", where),
        request_timeout_s=reader.seconds(entry, "request_timeout_s", 300.0, where),
        sandbox=sandbox,
        secrets=_secrets(reader, reader.table(entry, "secrets", where), where + "secrets."),
        sessions=reader.number(entry, "sessions", 64, 1, 100_000, where),
    )


class _Reader:
    """Typed access to a TOML table, with errors that name the key."""

    def __init__(self, source: str) -> None:
        self.source = source

    def error(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.source}: {key}: {message}", next_step="see docs/configuration.md")

    def only(self, table: Mapping[str, Any], known: set[str], where: str) -> None:
        for key in table:
            if key not in known:
                raise self.error(f"{where}{key}", f"unknown key; known here: {', '.join(sorted(known))}")

    def typed(self, table: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
        value = table.get(key, default)
        if value is not default and type(value) is not kind:
            raise self.error(where + key, f"must be a {kind.__name__}, not {type(value).__name__}")
        return value

    def table(self, table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
        value = table.get(key, {})
        if not isinstance(value, dict):
            raise self.error(where + key, "must be a table")
        found: Mapping[str, Any] = value
        return found

    def choice(self, table: Mapping[str, Any], key: str, choices: tuple[str, ...], default: Any, where: str) -> Any:
        value = table.get(key, default)
        if value != default and value not in choices:
            raise self.error(where + key, f"must be one of {', '.join(choices)}")
        return value

    def number(self, table: Mapping[str, Any], key: str, default: int, low: int, high: int, where: str) -> int:
        value: int = self.typed(table, key, int, default, where)
        if not low <= value <= high:
            raise self.error(where + key, f"must be between {low} and {high}")
        return value

    def seconds(self, table: Mapping[str, Any], key: str, default: float, where: str) -> float:
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
            raise self.error(where + key, "must be a number of seconds, more than 0, at most 86400")
        return float(value)

    def strings(self, table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
            raise self.error(where + key, "must be a list of strings")
        return tuple(value)

    def string_map(self, table: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
        value = self.table(table, key, where)
        for name, item in value.items():
            if not isinstance(item, str) or "\0" in item:
                raise self.error(f"{where}{key}.{name}", "must be a string")
        return dict(value)
