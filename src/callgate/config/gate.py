"""What may stand in the tables about the gate itself: `listen`, `limits`, `audit` and `controls`."""

from __future__ import annotations

from callgate.config import (
    CONTROL_MODES,
    DEFAULT_LISTEN,
    DETAILS,
    AuditConfig,
    ControlConfig,
    Limits,
    ListenConfig,
)
from callgate.errors import ConfigError
from callgate.frozen import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from callgate.config.document import Table

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


def listen(table: Table) -> ListenConfig:
    """`[listen]`: its address is host and port."""
    names = {f.name for f in fields(ListenConfig)} - {"host", "port"}
    table.only(names | {"address"})
    host, port = parse_address(table.typed("address", str, DEFAULT_LISTEN), "listen.address")
    default = ListenConfig()
    return ListenConfig(
        host=host,
        port=port,
        workers=table.number("workers", default.workers, 1, 64),
        allowed_hosts=table.strings("allowed_hosts"),
        allowed_origins=table.strings("allowed_origins"),
        tls_certificate=table.path("tls_certificate"),
        tls_key=table.path("tls_key"),
        token_file=table.path("token_file"),
        header_bytes=table.number("header_bytes", default.header_bytes, 1024, 1 << 20),
        header_timeout_s=table.seconds("header_timeout_s", default.header_timeout_s),
        idle_timeout_s=table.seconds("idle_timeout_s", default.idle_timeout_s),
        connections=table.number("connections", default.connections, 1, 1_000_000),
        drain_s=table.seconds("drain_s", default.drain_s),
    )


def parse_address(text: str, where: str = "listen") -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `port`, as (host, port)."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{where}: {text!r} is not an address", next_step='write it as "127.0.0.1:8484"')
    return host, int(port)


def limits(table: Table) -> Limits:
    """`[limits]`."""
    table.only({f.name for f in fields(Limits)})
    default = Limits()
    numbers = {
        name: table.number(name, getattr(default, name), low, high) for name, (low, high) in _LIMIT_RANGES.items()
    }
    return Limits(**numbers, exact_integers=table.typed("exact_integers", bool, True))


def audit(table: Table) -> AuditConfig:
    """`[audit]`."""
    table.only({f.name for f in fields(AuditConfig)})
    default = AuditConfig()
    return AuditConfig(
        content=table.choice("content", DETAILS, default.content),
        sync_ms=table.number("sync_ms", default.sync_ms, 0, 60_000),
        segment_bytes=table.number("segment_bytes", default.segment_bytes, 65536, 1 << 30),
        checkpoint_records=table.number("checkpoint_records", default.checkpoint_records, 1, 10_000_000),
        keep_days=table.number("keep_days", default.keep_days, 0, 36_500),
        keep_bytes=table.number("keep_bytes", default.keep_bytes, 0, 1 << 50),
        keep_at_least_days=table.number("keep_at_least_days", default.keep_at_least_days, 0, 36_500),
    )


def controls(table: Table) -> Mapping[str, ControlConfig]:
    """`[controls.ID]`: its mode, and options that the control itself understands."""
    found: dict[str, ControlConfig] = {}
    for name in table.data:
        entry = table.table(name)
        mode = entry.choice("mode", CONTROL_MODES, None)
        found[name] = ControlConfig(mode=mode, options={k: v for k, v in entry.data.items() if k != "mode"})
    return found


READERS: dict[str, Callable[[Table], Any]] = {"listen": listen, "limits": limits, "audit": audit, "controls": controls}
