"""A container as a sandbox: from the specification to a started container, and its end."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from callgate.errors import SandboxError, TrustError
from callgate.sandbox.apparmor import Entry, entry
from callgate.sandbox.backend import Prepared
from callgate.sandbox.backend_running import Gated
from callgate.sandbox.container import MEMORY_HOME, Engine, Job, arguments, client_environment
from callgate.sandbox.container_files import Workspace, system_mounts
from callgate.sandbox.container_line import ContainerLine, parse
from callgate.sandbox.spec import Mount, SandboxSpec
from callgate.text import visible

if TYPE_CHECKING:
    from callgate.sandbox.egress.gate import EgressGate

SECONDS = 30
"""Time for one command to the engine."""
NOBODY = 65534
_IMAGES_OWN = frozenset({"HOME", "PATH", "TMPDIR", "SHELL", "USER", "LOGNAME"})
"""Variables of this machine that mean nothing in an image, unless its line gives them."""


def prepare(
    engine: Engine, spec: SandboxSpec, argv: Sequence[str], own: Mapping[str, str], *, root: str = ""
) -> Prepared:
    """Wrap a command, or a `docker run` line (kind `container`). `own`: callgate's own environment.

    `root`: the image that a command of this machine is hung into; empty where the engine takes a directory.
    """
    line = parse(argv, own.get("HOME", "")) if spec.kind == "container" else None
    # A line that asks for no network gets none, whatever the settings allow.
    gated = bool(spec.network or spec.sentinels) and (line is None or line.network)
    if gated and not (engine.name == "podman" and os.path.exists("/proc/self/ns/net")):
        raise SandboxError(
            f"the server may use the network, and {engine.name} here has no way to the egress gate",
            next_step="use bubblewrap or podman for this server, or remove its network list",
        )
    gate = _gate(spec) if gated else None
    work: Workspace | None = None
    try:
        work = Workspace(secret=bool(spec.secret_files or spec.sentinels))
        return _prepared(engine, spec, tuple(argv), line, own, work, gate, root)
    except BaseException:
        if gate is not None:
            gate.close()
        if work is not None:
            work.remove()
        raise


def _prepared(
    engine: Engine,
    spec: SandboxSpec,
    argv: tuple[str, ...],
    line: ContainerLine | None,
    own: Mapping[str, str],
    work: Workspace,
    gate: EgressGate | None,
    root: str,
) -> Prepared:
    mounts = [*(line.mounts if line else ()), *spec.mounts]
    # An image has a home, a path and a directory of its own.
    home = Mount(spec.home, writable=True) if spec.home and line is None else None
    owner = _owner(engine, [*([home] if home else []), *mounts])
    profile = _profile(engine, spec, line)
    files = dict(work.secrets(spec.secret_files))
    if gate is not None:
        for number, (path, content) in enumerate({"/etc/hosts": gate.hosts_file, **gate.ca_files}.items()):
            files[path] = work.write(f"gate-{number}", content)
    environment = {**spec.environment, **(gate.environment if gate else {})}
    job = Job(
        name=f"callgate-{secrets.token_hex(8)}",
        seccomp=work.write("seccomp.json", _filter(spec)),
        limits=spec.limits,
        environment={"HOME": home.source if home else MEMORY_HOME, **environment},
        cwd=spec.cwd or (home.source if home else MEMORY_HOME),
        home_in_memory=home is None,
        user="" if owner is None else f"{owner[0]}:{owner[1]}",
        apparmor=profile.name,
    )
    inside = [*mounts, *([home] if home else []), *(Mount(source, target=path) for path, source in files.items())]
    if line is None:
        system = (Mount(path) for path in system_mounts())
        job = replace(job, command=argv, mounts=(*system, *_parents_first(inside)))
        job = replace(job, image=root) if root else replace(job, rootfs=work.skeleton())
    else:
        job = _of_image(job, line, inside)
    environment = client_environment(job.environment, own)
    missing = (*not_enforced(engine, profiled=bool(profile.name)), *([profile.missing] if profile.missing else []))
    if gate is None:
        call = arguments(engine, job)
        running = ContainerRunning(engine, job.name, work, environment)
        return Prepared(
            argv=call,
            environment=environment,
            cwd=work.path,  # where the engine's monitor leaves a note when it killed for memory
            backend=engine.name,
            not_enforced=missing,
            apparmor=profile.name,
            started=lambda _pid: running,
            abandon=running.close,
        )
    running = ContainerRunning(engine, job.name, work, environment, gate)
    try:
        running.create(arguments(engine, job, "create"))
    except BaseException:
        running.close()
        raise
    return Prepared(
        argv=(engine.program, *engine.options, "start", "--attach", "--interactive", job.name),
        environment=environment,
        cwd=work.path,
        backend=engine.name,
        not_enforced=missing,
        apparmor=profile.name,
        started=lambda _pid: running,
        abandon=running.close,
    )


def _of_image(job: Job, line: ContainerLine, inside: list[Mount]) -> Job:
    """The image's own programs, user (unless the line names one), directory and variables, and what the line adds."""
    given = {name: value for name, value in job.environment.items() if name not in _IMAGES_OWN}
    return replace(
        job,
        image=line.image,
        command=line.command,
        mounts=tuple(_parents_first(inside)),
        volumes=line.volumes,
        environment={**given, **line.environment},
        cwd=line.cwd,
        user=line.user or job.user,
        entrypoint=line.entrypoint,
        home_in_memory=False,
    )


def _parents_first(mounts: Sequence[Mount]) -> list[Mount]:
    """A mount over another one's inside must come later."""
    last = {mount.target or mount.source: mount for mount in mounts}
    return [last[target] for target in sorted(last)]


def _owner(engine: Engine, mounts: Sequence[Mount]) -> tuple[int, int] | None:
    """Who the server is. None: the caller, as the engine maps it (rootless), without any capability."""
    if engine.rootless:
        return None
    if os.getuid():
        return os.getuid(), os.getgid()
    for mount in mounts:
        if mount.writable:
            status = os.stat(mount.source)
            if status.st_uid:
                return status.st_uid, status.st_gid
            raise SandboxError(
                f"{visible(mount.source, 200)!r} belongs to root, and a server is never run as root",
                next_step="give the directory to another user, or run callgate as an ordinary user",
            )
    return NOBODY, NOBODY


def _profile(engine: Engine, spec: SandboxSpec, line: ContainerLine | None) -> Entry:
    """An image runs under the engine's own: its programs lie where only it knows."""
    found = Entry() if line else entry(spec)
    if found.name and engine.rootless:
        return Entry(missing=f"AppArmor: its profile is loaded, but {engine.name} uses none without root")
    return found


def _gate(spec: SandboxSpec) -> EgressGate:
    from callgate.sandbox.egress.gate import EgressGate

    return EgressGate.prepare(spec)


def _filter(spec: SandboxSpec) -> bytes:
    import json

    from callgate.sandbox.seccomp_profile import profile, to_oci
    from callgate.sandbox.seccomp_variant import Variant

    return json.dumps(to_oci(profile(Variant(unix_sockets=spec.unix_sockets)))).encode()


def not_enforced(engine: Engine, *, profiled: bool = False) -> tuple[str, ...]:
    """What a container of this engine does not limit here. `profiled`: under an AppArmor profile of its own."""
    missing = []
    if not engine.limits:
        missing.append("memory of all processes together: the engine has no control group here")
    if engine.name == "docker" and not profiled:
        missing.append("programs put into a written directory can be started: docker binds without noexec")
    missing.append("the total size of written directories")
    missing.append(
        f"values of variables: {engine.name} keeps them with the container while it runs; files and sentinels are not"
    )
    missing.append("a server whose callgate was killed (SIGKILL) and that ignores the end of its input lives on")
    return tuple(missing)


class ContainerRunning(Gated):
    """A started container, and its egress gate where it has one."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        work: Workspace,
        environment: Mapping[str, str],
        gate: EgressGate | None = None,
    ) -> None:
        super().__init__(gate)
        self._engine = engine
        self._name = name
        self._work = work
        self._environment = environment
        self._closed = False

    def create(self, call: Sequence[str]) -> None:
        """Make the container with its namespaces, its program not yet started, and open the gate in it."""
        self._ask(call)
        self._ask((self._engine.program, *self._engine.options, "init", self._name))
        pid = self._ask((self._engine.program, *self._engine.options, "inspect", "--format={{.State.Pid}}", self._name))
        if not pid.isdigit() or int(pid) < 2 or self._gate is None:
            raise SandboxError(f"{self._engine.name} does not say which process its container is")
        self._gate.attach(int(pid))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            # Killing the client leaves the container alive: the engine has to end it.
            command = (self._engine.program, *self._engine.options, "rm", "--force", *self._at_once(), self._name)
            subprocess.run(
                command,
                env=dict(self._environment),
                cwd=self._work.path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            pass  # `--rm` removes it when its program ends
        finally:
            if self._gate is not None:
                self._gate.close()
            self._work.remove()

    def _at_once(self) -> tuple[str, ...]:
        return ("--time=0", "--ignore") if self._engine.name == "podman" else ()

    def _ask(self, command: Sequence[str]) -> str:
        return ask(command, self._environment, self._work.path)


def own_environment(program: str) -> dict[str, str]:
    """What the engine's client program may be given of callgate's own environment. Raises SandboxError."""
    from callgate.outside import variables

    try:
        return variables.engine(program)
    except TrustError as error:
        raise SandboxError(error.what, next_step=error.next_step) from error


def ask(
    command: Sequence[str], environment: Mapping[str, str], cwd: str | None = None, *, fed: bytes | None = None
) -> str:
    """One command to the engine; its answer. Raises SandboxError with what the engine said."""
    try:
        done = subprocess.run(
            list(command),
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL if fed is None else None,
            input=fed,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"{os.path.basename(command[0])} does not answer: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SandboxError(f"{os.path.basename(command[0])} failed: {visible(said[-1] if said else 'no word', 300)}")
    return done.stdout.decode("utf-8", "replace").strip()
