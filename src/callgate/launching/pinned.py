"""What `callgate.lock` says about a command: the artefact that runs instead, or that nothing is known."""

from __future__ import annotations

import os

from callgate.config import SandboxConfig
from callgate.errors import TrustError
from callgate.frozen import dataclass, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from callgate.config import Config, SecretConfig

LOCK_FILE = "callgate.lock"


@dataclass(frozen=True, slots=True)
class Pinning:
    """The command to start, and what the lock adds to it. `facts` say in the evidence what it rests on."""

    argv: tuple[str, ...]
    facts: Mapping[str, object]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the command itself sets."""
    directory: str = ""
    """Where the command says that it runs."""
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    secrets: Mapping[str, SecretConfig] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def lock_files(config: Config, state: str | Path) -> tuple[str, ...]:
    """The lock files that exist: the configured one first, then the user's own."""
    places = [config.launch.lock] if config.launch.lock else []
    places.append(os.path.join(state, LOCK_FILE))
    return tuple(place for place in places if os.path.exists(place))


def pinning(
    config: Config, name: str, command: tuple[str, ...], state: str | Path, *, confined: bool = True
) -> Pinning:
    """What is pinned for `name`. Raises TrustError where the pin does not hold, or where one is required.

    A confined server whose line fetches a package is pinned at its first start (`first_run`).
    """
    if config.launch.lock and not os.path.exists(config.launch.lock):
        raise TrustError(f"there is no lock at {config.launch.lock}", next_step="correct launch.lock, or leave it out")
    locks = lock_files(config, state)
    if locks:
        found = _pinned(config, name, command, state, locks)
        if found is not None:
            return found
    if config.launch.unpinned == "refuse":
        raise TrustError(
            f"{name} is not in callgate.lock, and launch.unpinned is refuse",
            next_step=f"review it, then: callgate trust lock {name}",
        )
    if config.launch.signers:
        raise TrustError(
            f"{name} is not in a lock that the configured signers could have signed",
            next_step=f"callgate trust lock {name}, then let them sign: callgate trust sign",
        )
    if confined:
        from callgate.launching import first_run

        if first_run.fetches(command) and first_run.pin(config, name, command, state):
            found = _pinned(config, name, command, state, (os.path.join(state, LOCK_FILE),))
            if found is not None:
                return replace(found, facts={**found.facts, "state": "pinned at first use"})
    return Pinning(argv=command, facts={"state": "unpinned"})


def _pinned(
    config: Config, name: str, command: tuple[str, ...], state: str | Path, locks: tuple[str, ...]
) -> Pinning | None:
    from callgate.supply.pinned import pinned_launch

    found = pinned_launch(name, command, locks, state, signed=bool(config.launch.signers))
    if found is None:
        return None
    facts = dict(found.facts)
    if config.launch.signers:
        from pathlib import Path

        from callgate.supply.lock_signature import verify_at_launch

        keys = [Path(one) for one in config.launch.signers]
        verified = verify_at_launch(Path(found.lock), keys, config.launch.threshold, Path(state))
        if verified != found.lock_sha256:
            raise TrustError(f"{found.lock} changed while it was read", next_step="start the server again")
        facts["signed_by_at_least"] = config.launch.threshold
    server = found.server
    extras = bool(server.get("sandbox") or server.get("secrets"))
    settings, secrets = _extras(server) if extras else (SandboxConfig(), {})
    believed = bool(config.launch.signers) or found.lock == os.path.join(state, LOCK_FILE)
    notices = _given(found.lock, settings, secrets, believed=believed) if extras else ()
    if not believed:
        settings, secrets = SandboxConfig(), {}
    if found.store:
        settings = replace(settings, read=(*settings.read, found.store))
    return Pinning(
        argv=found.argv,
        facts={"state": "pinned", **facts},
        environment=found.environment,
        directory=found.directory,
        sandbox=settings,
        secrets=secrets,
        notices=notices,
    )


def _given(
    lock: str, settings: SandboxConfig, secrets: Mapping[str, SecretConfig], *, believed: bool
) -> tuple[str, ...]:
    """What a lock gives beside the command, or would give. A project's lock that nobody signed gives nothing: whoever
    may change a file of the project could otherwise open the user's files, hosts and secrets to it.
    """
    from callgate.text import visible

    lists = {name: getattr(settings, name) for name in ("read", "write", "network", "environment")}
    lists["secrets"] = tuple(f"{name} for {', '.join(one.hosts) or 'no host'}" for name, one in secrets.items())
    words = [f"{name} {', '.join(found)}" for name, found in lists.items() if found]
    limits = ("processes", "memory_mib", "cpus", "file_mib", "disk_mib", "descriptors")
    words += [f"{name} {getattr(settings, name)}" for name in limits if getattr(settings, name) is not None]
    if settings.backend:
        words.append(f"backend {settings.backend}")
    if not words:
        return ()
    told = visible("; ".join(words), 1000)
    if believed:
        return (f"{visible(lock, 200)} gives it: {told}",)
    return (f"{visible(lock, 200)} would give it, but nobody signed it, so it is not taken: {told}",)


def _extras(server: Mapping[str, Any]) -> tuple[SandboxConfig, Mapping[str, SecretConfig]]:
    from callgate.supply import lockfile_fields

    where = f"servers.{server.get('name', '')}"
    return (
        lockfile_fields.sandbox(server.get("sandbox") or {}, f"{where}.sandbox"),
        lockfile_fields.secrets(server.get("secrets") or {}, f"{where}.secrets"),
    )
