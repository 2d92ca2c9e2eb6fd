"""A sensible sandbox for a server from its command line: what runs it, what it was named, and its settings.

| given | becomes |
|---|---|
| interpreter, virtual environment, package | read-only |
| a directory named in the arguments, or by a declared variable | writable |
| a file named there | read-only, unless `write` holds it |
| `read`, `write` | what they say |
| nothing | a private, persistent home under the state directory |

Never the user's home, a credential directory, a system directory or callgate's state: that is refused.
"""

from __future__ import annotations

import os

from callgate.config import valid_server_name
from callgate.errors import SandboxError
from callgate.frozen import replace
from callgate.sandbox import defaults_paths, defaults_runtime
from callgate.sandbox.defaults_paths import Fence, in_system, links_on, within
from callgate.sandbox.destinations import parse_destination, private_network, proxy_address
from callgate.sandbox.known import Needs, needs
from callgate.sandbox.project_guard import guards
from callgate.sandbox.spec import MIB, Limits, Mount, Private, SandboxSpec
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from callgate.config import SandboxConfig
    from callgate.sandbox.defaults_runtime import Runtime
    from callgate.sandbox.spec import Destination, SecretFile, Sentinel

PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs are looked for when the environment does not say."""


def spec_for(
    name: str,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: str,
    state: str | Path,
    config: SandboxConfig,
    extra_network: Sequence[str | Destination] = (),
    secret_files: Sequence[SecretFile] = (),
    sentinels: Sequence[Sentinel] = (),
    home: str = "",
    named: Sequence[str] = (),
) -> tuple[SandboxSpec, tuple[str, ...]]:
    """The spec of one server, and its command line with absolute programs.

    `environment`: the server's whole environment, as the user declared it. `cwd`: where it was started; empty: here.
    `named`: the destinations that the user's own configuration names, of which some may lie in its private networks.
    `home`: under which name its home is kept; empty: its own; it is made. Raises SandboxError with what to do.
    """
    bad = next((one for one in (name, home or name) if not valid_server_name(one)), None)
    if bad is not None:
        raise SandboxError(
            f"'{visible(bad, 80)}' cannot be a server's name",
            next_step="1 to 64 of a-z A-Z 0-9 . _ - with a letter or digit first: callgate run --name NAME",
        )
    return _Builder(name, argv, environment, os.path.realpath(cwd or os.getcwd()), state, config, home or name).build(
        extra_network, tuple(secret_files), tuple(sentinels), named
    )


class _Builder:
    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        cwd: str,
        state: str | Path,
        config: SandboxConfig,
        home: str,
    ) -> None:
        self._name = name
        self._argv = argv
        self._environment = {"PATH": PATH, **environment}
        self._cwd = cwd
        self._config = config
        self._home = os.path.join(os.path.realpath(state), "servers", home, "home")
        self._fence = Fence(str(state), self._home)
        self._mounts: dict[str, Mount] = {}
        self._notices: list[str] = []

    def build(
        self,
        extra_network: Sequence[str | Destination],
        secret_files: tuple[SecretFile, ...],
        sentinels: tuple[Sentinel, ...],
        named: Sequence[str],
    ) -> tuple[SandboxSpec, tuple[str, ...]]:
        config = self._config
        network = [parse_destination(one) for one in config.network]
        network += [parse_destination(one) if isinstance(one, str) else one for one in extra_network]
        runtime = defaults_runtime.find(self._argv, self._cwd, self._environment["PATH"], self._fence)
        if defaults_runtime.is_runner(self._argv) and not network:
            raise SandboxError(
                f"'{visible(self._argv[0], 80)}' fetches the server anew at each start, which needs the network",
                next_step="pin it once, then it runs without: callgate trust lock -- COMMAND; or allow its registry's "
                "host with --network",
            )
        self._make_home()
        for path in runtime.paths:
            if not in_system(os.path.realpath(path)):
                self._fence.check(os.path.realpath(path), "what the command needs,")
            self._add(path, writable=False)
        for path in runtime.in_place:
            self._notices.append(f"it may read {visible(path, 200)}, where a package of it is installed in place")
        known = needs(runtime.package, runtime.kind) or Needs()
        for path in config.write:
            self._configured(path, writable=True)
        self._named(runtime, known)
        for path in config.read:
            self._configured(path, writable=False)
        self._refuse_own_links()
        self._guard()
        self._known(runtime.package, known, network)
        if runtime.path_entries:
            entries = self._environment["PATH"].split(os.pathsep)
            added = [one for one in runtime.path_entries if one not in entries and not in_system(one)]
            self._environment["PATH"] = os.pathsep.join([*added, *entries])
        spec = SandboxSpec(
            name=self._name,
            kind=runtime.kind,
            mounts=tuple(self._mounts.values()),
            home=self._home,
            cwd=self._start(),
            network=tuple(dict.fromkeys(network)),
            private=self._private(named) if config.private_networks else Private(),
            egress_proxy=self._proxy() if config.egress_proxy and network else None,
            limits=limits(config),
            environment={"HOME": self._home, "TMPDIR": "/tmp", **self._environment},  # noqa: S108
            secret_files=secret_files,
            sentinels=sentinels,
            notices=tuple(self._notices),
        )
        return spec, tuple(runtime.argv)

    def _make_home(self) -> None:
        try:
            os.makedirs(self._home, mode=0o700, exist_ok=True)
        except OSError as error:
            raise SandboxError(
                f"the server's home {visible(self._home, 300)} cannot be made: {error.strerror}",
                next_step="make room or rights for it, or name another state directory (state_dir)",
            ) from error

    def _proxy(self) -> Destination:
        found = proxy_address(self._config.egress_proxy)
        self._notices.append(
            f"the proxy {visible(found.host, 120)} resolves the names it asks for: where they lead is not judged here"
        )
        return found

    def _private(self, named: Sequence[str]) -> Private:
        """A name of a lock or of a command line is not the user's own: it opens nothing there."""
        networks = tuple(dict.fromkeys(map(private_network, self._config.private_networks)))
        hosts = tuple(one for one in map(parse_destination, named) if "*" not in one.host)
        if not hosts:
            self._notices.append("private_networks opens nothing: its settings list no host by its own name")
        return Private(networks, hosts)

    def _add(self, path: str, *, writable: bool) -> None:
        """A mount at the path as it is named, from where it really is. Writable counts more than read-only."""
        target = os.path.normpath(path)
        real = os.path.realpath(path)
        if in_system(real) and not writable:
            return
        known = self._mounts.get(target)
        if known is None or (writable and not known.writable):
            self._mounts[target] = Mount(real, writable, "" if target == real else target)

    def _named(self, runtime: Runtime, known: Needs) -> None:
        own = runtime.argv[runtime.first_argument :]
        # First what it writes: a file in a directory that is given then needs no mount of its own, read-only at that.
        for value in _written(own, self._environment, known):
            self._directory_of(value)
        for path in defaults_paths.named_in(own, self._cwd):
            self._give(path, "the directory" if os.path.isdir(path) else "the file")
        for name, path in defaults_paths.named_by(self._environment):
            self._give(path, f"what the variable {visible(name, 60)} names,")

    def _give(self, path: str, what: str) -> None:
        real = os.path.realpath(path)
        visible_already = any(within(path, target) for target in self._mounts)
        if in_system(real) or (visible_already and not os.path.isdir(real)):
            return
        self._fence.check(real, what)
        self._refuse_way_out(path, real, what)
        self._add(path, writable=os.path.isdir(real))

    def _refuse_way_out(self, path: str, real: str, what: str) -> None:
        """A project may bring a link to anywhere, under the name of any argument: `serve`, `./data`."""
        if within(real, self._cwd) or self._fence.reason(self._cwd):
            return
        if any(within(place, self._cwd) for place in links_on(path)):
            raise SandboxError(
                f"{what} '{visible(path, 200)}' is reached by a link out of the working directory: "
                f"it is '{visible(real, 200)}'",
                next_step="if the server needs that place, name it itself, in the arguments or with --read or --write",
            )

    def _refuse_own_links(self) -> None:
        """What a server may write it may have replaced by a link: it does not choose what it is given next time."""
        for mount in self._mounts.values():
            for place in links_on(mount.target) if mount.target else ():
                for other in self._mounts.values():
                    if other.writable and within(place, other.source) and not within(mount.source, other.source):
                        raise SandboxError(
                            f"'{visible(mount.target, 200)}' is reached by a link in a directory that the server may "
                            f"write: it is '{visible(mount.source, 200)}'",
                            next_step="name that place itself, if the server needs it",
                        )

    def _directory_of(self, value: str) -> None:
        """A file the server writes, and makes where it is not there: its directory is given, or it alone."""
        path = os.path.normpath(os.path.join(self._cwd, value))
        directory = os.path.realpath(os.path.dirname(path))
        if within(directory, self._home) or not os.path.isdir(directory):
            return
        if not self._fence.reason(directory):
            self._refuse_way_out(os.path.dirname(path), directory, "the directory")
            self._add(os.path.dirname(path), writable=True)
            self._notices.append(f"it may write in {visible(directory, 200)}, where its file is")
        elif os.path.isfile(path):
            self._fence.check(os.path.realpath(path), "the file")
            self._add(path, writable=True)

    def _configured(self, path: str, *, writable: bool) -> None:
        absolute = os.path.normpath(os.path.join(self._cwd, os.path.expanduser(path)))
        if not os.path.exists(absolute):
            raise SandboxError(
                f"there is no '{visible(absolute, 200)}', which the server's sandbox settings name",
                next_step="create it, or take it out of read and write",
            )
        self._fence.check(os.path.realpath(absolute), "the path")
        self._add(absolute, writable=writable)

    def _guard(self) -> None:
        """Hold what starts programs in the projects it may write."""
        left = {os.path.realpath(os.path.join(self._cwd, os.path.expanduser(one))) for one in self._config.write}
        for mount in tuple(self._mounts.values()):
            if mount.writable and os.path.isdir(mount.source):
                for guard in guards(mount.source, left):
                    target = mount.target + guard.source.removeprefix(mount.source) if mount.target else ""
                    self._mounts.setdefault(target or guard.source, replace(guard, target=target))

    def _known(self, package: str, known: Needs, network: list[Destination]) -> None:
        if known.network and not network:
            network += [parse_destination(one) for one in known.network]
            hosts = "every public host" if "*:443" in known.network else ", ".join(known.network)
            self._notices.append(f"{visible(package, 100)} is known to need the network: it may reach {hosts}")
        for name, value in known.environment.items():
            if name not in self._environment:
                self._environment[name] = value.format(home=self._home)
                self._notices.append(f"{visible(package, 100)} keeps its data in its own home: {name} is set")

    def _start(self) -> str:
        """Where it starts: where it was started, as far as it can see that place; else its home."""
        for target in self._mounts:
            if within(self._cwd, target) or within(target, self._cwd):
                return self._cwd
        return self._home


def _written(arguments: Sequence[str], environment: Mapping[str, str], known: Needs) -> list[str]:
    values = []
    for name in known.writes:
        if name in environment:
            values.append(environment[name])
        for place, argument in enumerate(arguments):
            if argument == name and place + 1 < len(arguments):
                values.append(arguments[place + 1])
            elif argument.startswith(f"{name}="):
                values.append(argument.partition("=")[2])
    return [value for value in values if value and "\0" not in value]


def limits(config: SandboxConfig) -> Limits:
    """The limits of a server: its settings, else the defaults."""
    default = Limits()

    def mib(value: int | None, otherwise: int) -> int:
        return otherwise if value is None else value * MIB

    return Limits(
        processes=default.processes if config.processes is None else config.processes,
        memory_bytes=mib(config.memory_mib, default.memory_bytes),
        cpus=default.cpus if config.cpus is None else config.cpus,
        file_bytes=mib(config.file_mib, default.file_bytes),
        disk_bytes=mib(config.disk_mib, default.disk_bytes),
        descriptors=default.descriptors if config.descriptors is None else config.descriptors,
    )
