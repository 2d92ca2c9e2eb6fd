"""`docker run …` of a client's file, read strictly: what of it is kept, what we say anyway, what is refused and why.

An option that is not in the table is refused: an engine has more ways to open a container than anyone can list.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from callgate.errors import SandboxError
from callgate.sandbox.spec import Mount
from callgate.text import visible

ENGINES = ("podman", "docker")

_FLAGS = frozenset(
    {"-i", "--interactive", "--rm", "--init", "-t", "--tty", "-q", "--quiet", "--read-only", "--no-hosts"}
)
"""Without a value: we say them anyway, or they mean nothing to a server on a pipe."""
_OURS = frozenset(
    [
        "--name",
        "--pull",
        "--hostname",
        "-h",
        "--label",
        "-l",
        "--memory",
        "-m",
        "--memory-swap",
        "--cpus",
        "--pids-limit",
        "--log-driver",
        "--log-opt",
        "--stop-timeout",
        "--stop-signal",
        "--cap-drop",
        "--annotation",
        "--shm-size",
        "--memory-reservation",
        "--cpu-shares",
        "--cidfile",
        "--restart",
    ]
)
"""With a value: our own limits and settings stand in their place."""
_KEPT = {
    "-e": "env",
    "--env": "env",
    "-v": "volume",
    "--volume": "volume",
    "--mount": "mount",
    "-w": "cwd",
    "--workdir": "cwd",
    "-u": "user",
    "--user": "user",
    "--entrypoint": "entrypoint",
    "--network": "network",
    "--net": "network",
    "--tmpfs": "tmpfs",
    "--platform": "platform",
}
_REFUSED = {
    "--privileged": "it gives the container the whole machine",
    "--pid": "it shows the container the host's processes",
    "--ipc": "it shares memory with other programs",
    "--uts": "it shares the host's name",
    "--userns": "callgate chooses the user namespace",
    "--cgroupns": "it shows the host's control groups",
    "--cgroup-parent": "it leaves the limits",
    "--cap-add": "it gives capabilities back",
    "--security-opt": "it loosens the confinement",
    "--device": "it opens a device of the host",
    "--device-cgroup-rule": "it opens devices of the host",
    "--gpus": "it opens devices of the host",
    "--group-add": "it gives access to what a group of the host may use",
    "--volumes-from": "it shares the files of another container",
    "--runtime": "it chooses another program to start containers",
    "--sysctl": "it changes the kernel's settings",
    "--ulimit": "it changes the limits",
    "--env-file": "name the variables in callgate.toml instead",
    "--add-host": "it changes what names mean, past the network list",
    "--dns": "it asks a name server of its own, past the network list",
    "--link": "it opens another container",
    "-p": "it makes the container listen on the host",
    "--publish": "it makes the container listen on the host",
    "-P": "it makes the container listen on the host",
    "--publish-all": "it makes the container listen on the host",
    "-d": "the server must stay on callgate's pipe",
    "--detach": "the server must stay on callgate's pipe",
    "--oom-kill-disable": "it takes the memory limit away",
    "--oom-score-adj": "it takes the memory limit away",
    "--rootfs": "an image with a digest is needed",
    "--tls-verify": "images are never pulled at a start",
    "--secret": "give the secret to callgate: it mounts it under /run/secrets",
}
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var")
_PRIVATE_MODE = frozenset({"z", "Z", "rw", "ro", "delegated", "cached", "consistent", "nocopy"})


@dataclass(frozen=True, slots=True)
class ContainerLine:
    """What a launch line asks for, without what is ours to say."""

    engine: str
    image: str
    """With its digest."""
    command: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Given by value on the line."""
    inherited: tuple[str, ...] = ()
    """Given by name on the line."""
    cwd: str = ""
    user: str = ""
    entrypoint: str = ""
    network: bool = False
    """Whether it did not ask for `--network none`: it gets the network list, which may be empty."""


def parse(argv: Sequence[str], home: str = "") -> ContainerLine:
    """Read `docker run [options] IMAGE@sha256:… [command]`. `home`: the user's. Raises SandboxError."""
    words = list(argv)
    engine = os.path.basename(words[0]) if words else ""
    if engine not in ENGINES:
        raise SandboxError(f"{visible(engine, 80)!r} is not a container engine this sandbox knows")
    rest = words[1:]
    if rest[:1] == ["container"]:
        rest = rest[1:]
    if rest[:1] != ["run"]:
        raise SandboxError(
            f"only `{engine} run` starts a server in a sandbox",
            next_step=f"put no options between {engine} and run, and use no compose file",
        )
    return _Reader(engine, rest[1:], home).read()


class _Reader:
    def __init__(self, engine: str, words: list[str], home: str) -> None:
        self._engine = engine
        self._words = words
        self._home = os.path.realpath(home) if home else ""
        self._environment: dict[str, str] = {}
        self._inherited: list[str] = []
        self._mounts: list[Mount] = []
        self._volumes: list[str] = []
        self._single: dict[str, str] = {}
        self._network = True

    def read(self) -> ContainerLine:
        at = 0
        while at < len(self._words) and self._words[at].startswith("-") and self._words[at] != "--":
            at += self._option(at)
        rest = self._words[at:]
        if rest[:1] == ["--"]:
            rest = rest[1:]
        if not rest:
            raise SandboxError(f"the {self._engine} line names no image")
        return ContainerLine(
            engine=self._engine,
            image=_pinned(rest[0], self._engine),
            command=tuple(rest[1:]),
            mounts=tuple(self._mounts),
            volumes=tuple(self._volumes),
            environment=self._environment,
            inherited=tuple(self._inherited),
            cwd=self._single.get("cwd", ""),
            user=self._single.get("user", ""),
            entrypoint=self._single.get("entrypoint", ""),
            network=self._network,
        )

    def _option(self, at: int) -> int:
        """Take the option at `at`; how many words it was."""
        word = self._words[at]
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(word) > 2:
            if not equals and all(f"-{char}" in _FLAGS for char in word[1:]):
                return 1  # -it
            name, value, equals = word[:2], word[2:].removeprefix("="), "="  # -eNAME=VALUE
        if name in _REFUSED:
            raise SandboxError(
                f"the {self._engine} line has {name}: {_REFUSED[name]}",
                next_step=f"remove {name} from the server's command",
            )
        if name in _FLAGS:
            if equals and value not in ("true", "false"):
                raise SandboxError(f"the {self._engine} line has {visible(word, 80)!r}, which means nothing")
            return 1
        if name not in _KEPT and name not in _OURS:
            raise SandboxError(
                f"the {self._engine} line has {visible(name, 80)!r}, which callgate does not know",
                next_step="remove it, or report it if the server needs it",
            )
        used = 1
        if not equals:
            if at + 1 >= len(self._words):
                raise SandboxError(f"the {self._engine} line ends after {name}")
            value, used = self._words[at + 1], 2
        if name in _KEPT:
            getattr(self, "_take_" + _KEPT[name])(value)
        return used

    def _take_env(self, value: str) -> None:
        name, equals, content = value.partition("=")
        if equals:
            self._environment[name] = content
        else:
            self._inherited.append(name)

    def _take_volume(self, value: str) -> None:
        source, colon, rest = value.partition(":")
        target, _, options = rest.partition(":")
        if not colon:
            return  # a volume without a name is a place to write to: memory is there anyway
        self._bind(source, target, options.split(",") if options else [])

    def _take_mount(self, value: str) -> None:
        parts = [part.partition("=") for part in value.split(",")]
        given = {key: content for key, _, content in parts}
        kind = given.pop("type", "volume")
        source = given.pop("source", "") or given.pop("src", "")
        target = given.pop("target", "") or given.pop("destination", "") or given.pop("dst", "")
        read_only = any(given.pop(key, "false") in ("", "true") for key in ("readonly", "ro"))
        if kind not in ("bind", "volume") or given or not source:
            raise SandboxError(
                f"the {self._engine} line has --mount {visible(value, 120)!r}, which callgate does not read",
                next_step="write it as -v SOURCE:TARGET:ro",
            )
        self._bind(source, target, ["ro"] if read_only else [])

    def _bind(self, source: str, target: str, options: list[str]) -> None:
        if not target.startswith("/") or not _PRIVATE_MODE.issuperset(options):
            raise SandboxError(
                f"the {self._engine} line mounts {visible(source, 120)!r} in a way callgate does not read"
            )
        if os.sep not in source and source not in (".", "..", "~"):
            self._volumes.append(f"{source}:{target}" + (":ro" if "ro" in options else ""))
            return
        reason = refused_mount(source, self._home)
        if reason:
            raise SandboxError(
                f"the {self._engine} line mounts {visible(source, 200)!r}: {reason}",
                next_step="mount only the directory the server works on",
            )
        self._mounts.append(Mount(os.path.realpath(source), writable="ro" not in options, target=target))

    def _take_cwd(self, value: str) -> None:
        self._single["cwd"] = value

    def _take_entrypoint(self, value: str) -> None:
        self._single["entrypoint"] = value

    def _take_user(self, value: str) -> None:
        user, _, group = value.partition(":")
        if not user.isdigit() or int(user) == 0 or (group and not group.isdigit()):
            raise SandboxError(
                f"the {self._engine} line runs as {visible(value, 80)!r}",
                next_step="give a number other than 0, as in --user 1000:1000, or leave it out",
            )
        self._single["user"] = value

    def _take_network(self, value: str) -> None:
        if value == "none":
            self._network = False
        elif value not in ("bridge", "default", "slirp4netns", "pasta", "private"):
            raise SandboxError(
                f"the {self._engine} line has --network {visible(value, 80)}: it leaves the sandbox's own network",
                next_step="remove it; where the server may connect is said in callgate.toml: network = [...]",
            )

    def _take_tmpfs(self, value: str) -> None:
        """Memory to write to; what is not /tmp is not made writable."""

    def _take_platform(self, value: str) -> None:
        """The image is named by its digest, which is of one platform."""


def refused_mount(source: str, home: str) -> str:
    """Why a path of the host must not be shown to a container; empty when it may."""
    if not os.path.isabs(source):
        return "the path is not absolute"
    real = os.path.realpath(source)
    try:
        mode = os.stat(real).st_mode
    except OSError:
        return "there is nothing there"
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return "it is a socket or a device of the host"
    if home and (real == home or home.startswith(real.rstrip("/") + "/")):
        return "it holds the whole home"
    if home and real.startswith(home + "/"):
        return "it holds settings or credentials" if os.path.relpath(real, home).startswith(".") else ""
    if real == "/" or any(real == place or real.startswith(place + "/") for place in _SYSTEM):
        return "it belongs to the system"
    return ""


def _pinned(image: str, engine: str) -> str:
    """`NAME@sha256:DIGEST`, or `sha256:ID` of an image that was built here and has no other digest."""
    name, at, digest = image.rpartition("@")
    word = digest.removeprefix("sha256:")
    good = (name or not at) and word != digest and len(word) == 64 and all(char in "0123456789abcdef" for char in word)
    if not good or any(ord(char) <= 32 for char in image):
        raise SandboxError(
            f"the image {visible(image, 200)!r} is not pinned: its content can change under that name",
            next_step=f"callgate trust lock pins it; by hand: `{engine} image inspect` says its RepoDigests, or its Id",
        )
    return image
