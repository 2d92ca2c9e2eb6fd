"""The command line of a least-privilege container, for podman and docker alike, as a pure function.

No capability, no new privileges, a read-only root, memory for /tmp, our own system call filter, no network of its own,
nobody's shared memory, no log, no pull; limits where there is a control group. Values of variables go through the
environment of the client program, never through its arguments, which everyone on the machine can read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from callgate.errors import SandboxError
from callgate.sandbox.spec import Limits, Mount
from callgate.text import visible

EngineName: TypeAlias = Literal["podman", "docker"]

MEMORY_HOME = "/home/server"
"""Home of a server that has none on the host: in memory."""
_PLAIN = frozenset({"HOME", "PATH", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"})
"""Variables that the client program reads itself and that hold no secret: they are set by value in its arguments."""
_STEERING = (
    "LD_",
    "DOCKER_",
    "CONTAINER",
    "PODMAN_",
    "STORAGE_",
    "BUILDAH_",
    "REGISTRY_",
    "REGISTRIES_",
    "GODEBUG",
    "_",
)
"""Beginnings of names with which a server's variable would act on the client program."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine as it is on this machine."""

    name: EngineName
    program: str
    """Absolute path."""
    version: str = ""
    rootless: bool = False
    limits: bool = False
    """Whether memory, processes and processors can be limited by a control group."""
    options: tuple[str, ...] = ()
    """Options before the command, for example `--cgroup-manager=cgroupfs`."""
    processes: int = 0
    """Named as the limit of the user id where containers are not counted apart; 0: none is named."""
    init: bool = False
    """Whether there is a process 1 that reaps children."""


@dataclass(frozen=True, slots=True)
class Job:
    """One container to be started. `rootfs` or `image`; `command` is empty for the image's own."""

    name: str
    seccomp: str
    """File with the system call filter."""
    rootfs: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[str, ...] = ()
    """`name:/target`: volumes that the engine keeps."""
    limits: Limits = field(default_factory=Limits)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = ""
    user: str = ""
    apparmor: str = ""
    entrypoint: str = ""
    home_in_memory: bool = False


def arguments(engine: Engine, job: Job, command: Literal["run", "create"] = "run") -> tuple[str, ...]:
    """The whole argv. Raises SandboxError for what cannot be said to the engine safely."""
    return (engine.program, *engine.options, command, *_options(engine, job), *_what(engine, job))


def _options(engine: Engine, job: Job) -> Iterator[str]:
    podman, limits = engine.name == "podman", job.limits
    yield from ("--rm", "--interactive", f"--name={job.name}", "--pull=never")
    if engine.init:
        yield "--init"
    yield from ("--network=none", "--read-only", "--cap-drop=ALL", "--ipc=private", "--log-driver=none")
    yield from ("--security-opt=no-new-privileges", f"--security-opt=seccomp={_word(job.seccomp, 'a path')}")
    if podman:
        yield from ("--read-only-tmpfs=false", "--no-hosts", "--http-proxy=false")
    if job.apparmor:
        yield f"--security-opt=apparmor={job.apparmor}"
    if job.user:
        yield f"--user={job.user}"
    yield from _limits(engine, limits)
    for target in ("/tmp", *((MEMORY_HOME,) if job.home_in_memory else ())):  # noqa: S108 # the server's own
        size = f",size={limits.disk_bytes}" if limits.disk_bytes else ""
        yield f"--tmpfs={target}:rw,noexec,nosuid,nodev,mode=1777{size}"
    for mount in job.mounts:
        yield f"--volume={_volume(engine, mount)}"
    for volume in job.volumes:
        yield f"--volume={_word(volume, 'a volume')}"
    if job.cwd:
        yield f"--workdir={_word(job.cwd, 'the working directory')}"
    if job.entrypoint:
        yield f"--entrypoint={_word(job.entrypoint, 'the entry point')}"
    yield from _variables(job.environment)


def _limits(engine: Engine, limits: Limits) -> Iterator[str]:
    if engine.limits:
        if limits.processes:
            yield f"--pids-limit={limits.processes}"
        if limits.memory_bytes:
            yield f"--memory={limits.memory_bytes}b"
            yield f"--memory-swap={limits.memory_bytes}b"
        if limits.cpus:
            yield f"--cpus={limits.cpus:g}"
    yield "--ulimit=core=0:0"
    if limits.descriptors:
        yield f"--ulimit=nofile={limits.descriptors}:{limits.descriptors}"
    if limits.file_bytes:
        yield f"--ulimit=fsize={limits.file_bytes}:{limits.file_bytes}"
    if limits.memory_bytes:
        yield f"--ulimit=data={limits.memory_bytes}:{limits.memory_bytes}"
    # Without a user namespace of its own the count is that of the user id on the whole machine.
    if limits.processes and engine.rootless:
        yield f"--ulimit=nproc={limits.processes}:{limits.processes}"
    elif engine.processes:
        yield f"--ulimit=nproc={engine.processes}:{engine.processes}"


def _volume(engine: Engine, mount: Mount) -> str:
    source, target = _word(mount.source, "a path"), _word(mount.target or mount.source, "a path")
    if engine.name == "docker":  # has no noexec for what it binds
        return f"{source}:{target}:{'rw' if mount.writable else 'ro'}"
    return f"{source}:{target}:{'rw,noexec' if mount.writable else 'ro'},nosuid,nodev"


def _variables(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in sorted(environment.items()):
        if not (name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()):
            raise SandboxError(f"a container gets no variable named {visible(name, 80)!r}")
        if name in _PLAIN:
            yield f"--env={name}={value}"
        elif name.startswith(_STEERING):
            raise SandboxError(
                f"the variable {name} would act on the container engine itself",
                next_step="leave it out, or use the bubblewrap sandbox",
            )
        else:
            yield f"--env={name}"


def client_environment(environment: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What the client program runs with: its own few variables, and the server's by name."""
    kept = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS")
    steering = ("DOCKER_", "CONTAINERS_")
    client = {name: value for name, value in own.items() if name in kept or name.startswith(steering)}
    return {**{n: v for n, v in environment.items() if n not in _PLAIN}, **client}


def _what(engine: Engine, job: Job) -> tuple[str, ...]:
    if not job.rootfs:
        return (_word(job.image, "the image"), *job.command)
    if engine.name == "docker":
        raise SandboxError(
            "docker starts images only: it cannot run a command of this machine",
            next_step="use bubblewrap, landlock or podman for this server, or the server's own image",
        )
    return ("--rootfs", _word(job.rootfs, "a path"), *job.command)


def _word(text: str, what: str) -> str:
    """A value that the engine cannot take for two, or for an option."""
    if not text or text.startswith("-") or any(ord(char) < 32 for char in text):
        raise SandboxError(f"{what} {visible(text, 200)!r} cannot be given to a container engine")
    if ":" in text and what == "a path":
        raise SandboxError(
            f"the path {visible(text, 200)!r} has a colon in it, which divides paths for a container engine",
            next_step="rename it, or use the bubblewrap sandbox",
        )
    return text
