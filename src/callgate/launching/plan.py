"""From a command somebody wrote to what is really started: pinned, confined, with the secrets it may have.

This is on the start-up path of every server: what is not needed is not imported.
"""

from __future__ import annotations

import os

from callgate.config import ServerConfig
from callgate.errors import LaunchError, SandboxError, SecretError
from callgate.frozen import dataclass, field, replace
from callgate.launching.environment import by_name
from callgate.launching.launch import Launch
from callgate.launching.pinned import pinning
from callgate.vault.presence import has_credentials, has_secrets
from callgate.vault.reference import refuse_in_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from callgate.config import Config, SandboxConfig
    from callgate.launching.pinned import Pinning
    from callgate.launching.secrets import Handover
    from callgate.sandbox.choose import Chosen

_ENGINES = ("docker", "podman")
"""Those of `runners.CONTAINER_ENGINES` that are backends here."""
_NO_SERVER = ServerConfig("")


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: a command, and on whose account.

    `variables` is the environment to choose from by `names`. An unconfined server gets all of it, or
    `unconfined_names` where that is not None. `given` is what the server gets by value.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)
    names: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict, repr=False)
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    sandbox: str = ""
    cwd: str = ""
    home: str = ""
    """Whose private home it has; empty: its name's. Where a name was only guessed, two servers may have it."""
    unconfined_names: tuple[str, ...] | None = None
    configured: bool = False
    """All of it is what the operator of the gateway configured: no client's entry had a word in it."""


def plan(config: Config, wish: Wish, state: str | Path) -> Launch:
    """Decide how the command is started. Raises LaunchError, SandboxError, TrustError or SecretError: it is not."""
    if not wish.command:
        raise LaunchError("no server command", next_step="write: callgate run -- COMMAND ARGS…")
    server = config.servers.get(wish.name, _NO_SERVER)
    if server.secrets and server.command and server.command != wish.command:
        raise SecretError(
            f"the secrets of {wish.name} are for another command: the one in its settings",
            next_step=f"start it under another --name, or write this command under [servers.{wish.name}]",
        )
    own = server.sandbox.private_networks or server.sandbox.egress_proxy
    if own and server.command != wish.command:
        raise SandboxError(
            f"the private networks and the proxy of {wish.name} are for another command: the one in its settings",
            next_step=f"start it under another --name, or write this command under [servers.{wish.name}]",
        )
    asked = wish.sandbox or server.sandbox.backend or config.launch.sandbox
    pinned = pinning(config, wish.name, wish.command, state, confined=asked != "none")
    settings = server_settings(server.sandbox, pinned, wish)
    wanted = wish.sandbox or server.sandbox.backend or backend_by_lock(config, wish.name, pinned)
    if wanted != "none" and os.path.basename(pinned.argv[0]) in _ENGINES:
        wanted, settings = _in_container(pinned.argv, wanted, settings)
    environment = {**_environment(wish, settings, confined=wanted != "none"), **pinned.environment}
    wish = replace(wish, cwd=pinned.directory or wish.cwd)
    refuse_in_arguments(pinned.argv)
    if config.launch.programs or config.launch.variables:
        _settle(config, state)
    chosen = _chosen(wanted, state) if wanted != "none" else None
    handover = _handover(config, wish, environment, pinned, settings, state, chosen)
    if handover is not None:
        environment = dict(handover.environment)
    facts: dict[str, object] = {"pinned": dict(pinned.facts)}
    if handover is not None and handover.facts:
        facts["secrets"] = handover.facts
    try:
        if chosen is None:
            return _unconfined(pinned, environment, wish.cwd, facts, handover)
        named = server.sandbox.network
        return _confined(chosen, pinned, environment, wish, settings, state, facts, handover, named)
    except BaseException:
        if handover is not None:
            handover.close()
        raise


def backend_by_lock(config: Config, name: str, pinned: Pinning) -> str:
    """The backend where nobody here named one. A lock may ask for one, not for none, and not instead of a named one."""
    locked = pinned.sandbox.backend
    if locked == "none" and config.launch.sandbox != "none":
        raise SandboxError(
            f"callgate.lock asks that {name} runs unconfined, which only you can decide",
            next_step=f'if you want that: --sandbox none, or backend = "none" under [servers.{name}.sandbox]',
        )
    return locked if locked and config.launch.sandbox in {"auto", "none"} else config.launch.sandbox


def server_settings(configured: SandboxConfig, pinned: Pinning, wish: Wish) -> SandboxConfig:
    """The server's settings, what its lock entry says, and what the command line adds."""
    locked = pinned.sandbox
    return replace(
        configured,
        read=(*configured.read, *locked.read, *(os.path.abspath(one) for one in wish.read)),
        write=(*configured.write, *locked.write, *(os.path.abspath(one) for one in wish.write)),
        network=(*configured.network, *locked.network, *wish.network),
        environment=(*configured.environment, *locked.environment, *wish.names),
        processes=configured.processes or locked.processes,
        memory_mib=configured.memory_mib or locked.memory_mib,
        cpus=configured.cpus or locked.cpus,
        file_mib=configured.file_mib or locked.file_mib,
        disk_mib=configured.disk_mib or locked.disk_mib,
        descriptors=configured.descriptors or locked.descriptors,
    )


def _in_container(argv: tuple[str, ...], wanted: str, settings: SandboxConfig) -> tuple[str, SandboxConfig]:
    """A container line goes to its own engine, which has its images, with the variables it names."""
    from callgate.sandbox.container_line import parse

    line = parse(argv)
    engine = line.engine if wanted == "auto" else wanted
    return engine, replace(settings, environment=(*settings.environment, *line.inherited))


def _environment(wish: Wish, settings: SandboxConfig, *, confined: bool) -> dict[str, str]:
    if confined:
        return {**by_name(wish.variables, settings.environment), **wish.given}
    names = wish.unconfined_names
    chosen = wish.variables if names is None else by_name(wish.variables, (*names, *settings.environment))
    return {**chosen, **wish.given}


def _chosen(wanted: str, state: str | Path) -> Chosen:
    """The backend that will confine it. Raises SandboxError."""
    from callgate.sandbox.choose import choose

    return choose(wanted, state)


def _settle(config: Config, state: str | Path) -> None:
    """For what is started outside the sandbox on the way: a version manager, an engine, a store's own program."""
    from callgate.outside import caller

    caller.settle(config, state)


def _handover(
    config: Config,
    wish: Wish,
    environment: Mapping[str, str],
    pinned: Pinning,
    settings: SandboxConfig,
    state: str | Path,
    chosen: Chosen | None,
) -> Handover | None:
    """The secrets it gets, where there are any and they were granted to it."""
    declared = {**pinned.secrets, **config.servers.get(wish.name, _NO_SERVER).secrets}
    if not has_credentials(environment, declared):
        return None
    from pathlib import Path

    from callgate.launching.secrets import hand_over

    if any("op://" in text for text in (*environment.values(), *(one.ref for one in declared.values()))):
        _settle(config, state)
    # An unconfined server may have been given a whole environment; a reference in it need not be meant for it.
    named = None if chosen is not None else {*wish.given, *settings.environment}
    if not wish.configured and has_secrets(environment, declared):
        from callgate.launching.granted import check_command

        check_command(config, wish, pinned, environment, named, state, unconfined=chosen is None)
    backend = "none" if chosen is None else chosen.name
    return hand_over(environment, declared, Path(state), server=wish.name, backend=backend, only=named)


def _unconfined(
    pinned: Pinning, environment: Mapping[str, str], cwd: str, facts: dict[str, object], handover: Handover | None
) -> Launch:
    facts["sandbox"] = {"backend": "none", "not_enforced": ["everything: the server has all the rights of this user"]}
    return Launch(
        argv=pinned.argv,
        environment=environment,
        cwd=cwd,
        facts=facts,
        notices=(*_notices(pinned, handover), "not sandboxed: the server has all the rights of this user"),
        handover=handover,
    )


def _confined(
    chosen: Chosen,
    pinned: Pinning,
    environment: Mapping[str, str],
    wish: Wish,
    settings: SandboxConfig,
    state: str | Path,
    facts: dict[str, object],
    handover: Handover | None,
    named: tuple[str, ...],
) -> Launch:
    from callgate.sandbox.defaults import spec_for

    spec, argv = spec_for(
        wish.name,
        pinned.argv,
        environment=environment,
        cwd=wish.cwd,
        state=state,
        config=settings,
        extra_network=handover.hosts if handover else (),
        secret_files=handover.secret_files if handover else (),
        sentinels=handover.sentinels if handover else (),
        home=wish.home,
        named=named,
    )
    if os.geteuid() == 0 and os.path.exists("/sys/module/apparmor"):
        from callgate.sandbox.apparmor import load_own

        load_own(spec)
    prepared = chosen.prepare(spec, argv)
    sandbox: dict[str, object] = {
        "backend": prepared.backend,
        "network": [f"{one.host}:{one.port}" for one in spec.network],
        "not_enforced": list(prepared.not_enforced),
        "write": sum(mount.writable for mount in spec.mounts),
    }
    if spec.private.networks:
        sandbox["private_networks"] = list(spec.private.networks)
    if spec.egress_proxy:
        sandbox["egress_proxy"] = f"{spec.egress_proxy.host}:{spec.egress_proxy.port}"
        sandbox["not_enforced"] = [*prepared.not_enforced, "where names lead: another proxy resolves them"]
    if prepared.apparmor:
        sandbox["apparmor"] = prepared.apparmor
    facts["sandbox"] = sandbox
    facts["environment"] = sorted(spec.environment)
    return Launch(
        argv=prepared.argv,
        environment=prepared.environment,
        cwd=prepared.cwd,
        pass_fds=prepared.pass_fds,
        facts=facts,
        notices=(*_notices(pinned, handover), *spec.notices, *chosen.notices),
        prepared=prepared,
        handover=handover,
    )


def _notices(pinned: Pinning, handover: Handover | None) -> tuple[str, ...]:
    return (*pinned.notices, *(handover.notices if handover else ()))
