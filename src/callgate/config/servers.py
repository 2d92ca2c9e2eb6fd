"""What may stand in the tables about what is started: `launch`, and `servers` with their sandboxes and secrets."""

from __future__ import annotations

import os

from callgate.config import (
    MODES,
    SANDBOXES,
    LaunchConfig,
    SandboxConfig,
    SecretConfig,
    ServerConfig,
    valid_server_name,
)
from callgate.frozen import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from callgate.config.document import Table

_SANDBOX_RANGES = {
    "processes": (1, 100_000),
    "memory_mib": (16, 1 << 20),
    "file_mib": (1, 1 << 20),
    "disk_mib": (1, 1 << 20),
    "descriptors": (16, 1_000_000),
}


def launch(table: Table) -> LaunchConfig:
    """`[launch]`."""
    table.only({f.name for f in fields(LaunchConfig)})
    signers = table.paths("signers")
    threshold = table.number("threshold", 1, 1, 64)
    if signers and threshold > len(signers):
        raise table.error("threshold", f"there are only {len(signers)} signers")
    return LaunchConfig(
        sandbox=table.choice("sandbox", SANDBOXES, "auto"),
        unpinned=table.choice("unpinned", ("allow", "refuse"), "allow"),
        signers=signers,
        threshold=threshold,
        cooldown_days=table.number("cooldown_days", 7, 0, 365),
        lock=table.path("lock"),
        programs=_programs(table),
        variables=table.string_map("variables"),
    )


def _programs(table: Table) -> dict[str, str]:
    found = {name: os.path.expanduser(path) for name, path in table.string_map("programs").items()}
    for name, path in found.items():
        if not os.path.isabs(path):
            raise table.error(f"programs.{name}", "must be a full path")
    return found


def servers(table: Table) -> Mapping[str, ServerConfig]:
    """`[servers.NAME]`."""
    found: dict[str, ServerConfig] = {}
    for name in table.data:
        if not valid_server_name(name):
            raise table.error(name, "a server name is 1 to 64 of a-z A-Z 0-9 . _ - and starts with a letter or digit")
        found[name] = _server(name, table.table(name))
    return found


def _server(name: str, table: Table) -> ServerConfig:
    table.only({f.name for f in fields(ServerConfig)} - {"name"})
    command = table.strings("command")
    url = table.typed("url", str, "")
    if command and url:
        raise table.error(None, 'needs either command = [...] or url = "...", not both')
    if not command and not url and not table.data.keys() & {"sandbox", "secrets", "mode"}:
        raise table.error(None, 'needs command = [...] or url = "...", or settings for callgate run')
    if url and not url.startswith(("http://", "https://")):
        raise table.error("url", "must start with http:// or https://")
    sandbox = _sandbox(table.table("sandbox"))
    if (sandbox.private_networks or sandbox.egress_proxy) and not command:
        key = "private_networks" if sandbox.private_networks else "egress_proxy"
        raise table.error(
            f"sandbox.{key}",
            f"is for one command alone: write that beside it, as command = [...] under [servers.{name}], word for word "
            "as it is started; else whatever had this name could use it",
        )
    transports = ("http", "sse") if url else ("stdio",)
    return ServerConfig(
        name=name,
        command=command,
        url=url,
        transport=table.choice("transport", transports, transports[0]),
        environment=table.string_map("environment"),
        cwd=table.typed("cwd", str, ""),
        mode=table.choice("mode", MODES, None),
        headers=table.string_map("headers"),
        request_timeout_s=table.seconds("request_timeout_s", 300.0),
        sandbox=sandbox,
        secrets=_secrets(table.table("secrets")),
        sessions=table.number("sessions", 64, 1, 100_000),
    )


def _sandbox(table: Table) -> SandboxConfig:
    table.only({f.name for f in fields(SandboxConfig)})
    numbers = {
        name: table.number(name, 0, low, high) if name in table.data else None
        for name, (low, high) in _SANDBOX_RANGES.items()
    }
    return SandboxConfig(
        backend=table.choice("backend", SANDBOXES, None),
        read=table.paths("read"),
        write=table.paths("write"),
        network=table.strings("network"),
        private_networks=table.strings("private_networks"),
        egress_proxy=table.typed("egress_proxy", str, ""),
        environment=table.strings("environment"),
        cpus=table.seconds("cpus", 1.0) if "cpus" in table.data else None,
        **numbers,
    )


def _secrets(table: Table) -> dict[str, SecretConfig]:
    secrets: dict[str, SecretConfig] = {}
    for name in table.data:
        entry = table.table(name)
        entry.only({f.name for f in fields(SecretConfig)})
        ref = entry.typed("ref", str, "")
        if not ref:
            raise entry.error("ref", 'is missing: write ref = "keyring://service/user"')
        secrets[name] = SecretConfig(
            ref=ref,
            deliver=entry.choice("deliver", ("auto", "sentinel", "file", "environment"), "auto"),
            hosts=entry.strings("hosts"),
        )
    return secrets


READERS: dict[str, Callable[[Table], Any]] = {"servers": servers, "launch": launch}
