"""docker: servers that are images, and commands of this machine, only without the network.

It starts images only: a command of this machine is hung into an image of callgate's own that has nothing in it but
the names that mounts need. The daemon is root's, so callgate cannot open its egress gate inside a container, and what
docker binds stays executable; podman does both.
"""

from __future__ import annotations

import os
from _thread import get_ident
from collections.abc import Mapping, Sequence
from contextlib import suppress

from callgate.errors import SandboxError
from callgate.sandbox.backend import Check, Prepared, Probe
from callgate.sandbox.container import Engine
from callgate.sandbox.container_backend import ask, not_enforced, own_environment, prepare
from callgate.sandbox.spec import SandboxSpec

PLACES = ("/usr/bin/docker", "/usr/local/bin/docker", "/opt/homebrew/bin/docker")
ROOT = "callgate-root"
"""Name of the image of callgate's own, for people and so that no pruning takes it. Nothing is started by it: whoever
may speak to the daemon can give the name to another image."""
_ID = "sha256:"
_KEPT_BYTES = 256
_ON_LINUX = os.uname().sysname == "Linux"
_FACTS = "{{.ServerVersion}}|{{range .SecurityOptions}}{{.}} {{end}}"


class DockerBackend:
    """The docker of this machine."""

    name = "docker"

    def __init__(self, cache: str = "") -> None:
        self._made = Made(cache)

    def probe(self) -> Probe:
        """Start one container of this machine's programs and let it try to get out; on Linux, seconds.

        Elsewhere containers run in a machine of their own, which these programs do not fit: there only the daemon is
        asked, and the report says that no escape was tried.
        """
        try:
            found, security = _daemon()
        except SandboxError as error:
            return Probe(self.name, usable=False, reason=f"{error.what}; {error.next_step}".rstrip("; "))
        check = Check("the daemon filters system calls", "name=seccomp" in security, security)
        if not check.held:
            reason = "its daemon was built or started without seccomp"
            return Probe(self.name, usable=False, reason=reason, version=found.version, checks=(check,))
        if _ON_LINUX:
            from callgate.sandbox.selftest import probe

            return probe(self, found.version)
        missing = ("no escape was tried: its containers run in another machine", *not_enforced(found))
        return Probe(self.name, usable=True, version=found.version, checks=(check,), not_enforced=missing)

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        engine = _daemon()[0]
        root = "" if spec.kind == "container" else self._root(engine)
        return prepare(engine, spec, argv, own_environment(engine.program), root=root)

    def _root(self, engine: Engine) -> str:
        """The image a command is hung into, by its id: what callgate itself made; anew where the daemon has it not."""
        if not _ON_LINUX:
            raise SandboxError(
                "docker starts no command of this machine here: its containers run in another machine",
                next_step="use another sandbox for this server, or the server's own image",
            )
        from callgate.sandbox.container_files import layer

        content = layer()
        environment = _environment(engine.program)
        name = self._made.name(content, environment)
        known = self._made.known(name)
        if known:
            try:
                if ask((engine.program, "image", "inspect", "--format={{.Id}}", known), environment) == known:
                    return known
            except SandboxError:
                pass  # it was removed, or this is another daemon
        words = (engine.program, "import", "--message=a root for callgate", "-", f"{ROOT}:{name}")
        made = ask(words, environment, fed=content)
        if not is_id(made):
            raise SandboxError("docker does not say which image it keeps")
        self._made.remember(name, made)
        return made


class Made:
    """Ids of the images that callgate made, a file each in its state directory, which is the user's alone."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._here: dict[str, str] = {}

    def name(self, content: bytes, environment: Mapping[str, str]) -> str:
        """For one content, one daemon and one state directory: nobody's image loses its name to another's."""
        import hashlib

        found = hashlib.sha256(content + b"\0" + os.fsencode(os.path.abspath(self._directory or ".")))
        for one in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
            found.update(b"\0" + os.fsencode(environment.get(one, "")))
        return found.hexdigest()[:16]

    def known(self, name: str) -> str:
        """The id, or empty."""
        if not self._directory:
            return self._here.get(name, "")
        try:
            with open(self._path(name), encoding="ascii", errors="replace") as file:
                text = file.read(_KEPT_BYTES).strip()
        except OSError:
            return ""
        return text if is_id(text) else ""

    def remember(self, name: str, made: str) -> None:
        """Keep it for the next start; where that cannot be written, the next one makes another."""
        self._here[name] = made
        if not self._directory:
            return
        path = self._path(name)
        beside = f"{path}.{os.getpid()}.{get_ident()}"  # servers are started side by side
        with suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(beside, "w", encoding="ascii") as file:
                file.write(made + "\n")
            os.replace(beside, path)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, f"docker-root-{name}")


def is_id(text: str) -> bool:
    """Whether it is an image's id: a digest of what the image is."""
    digits = text.removeprefix(_ID)
    return digits != text and len(digits) == 64 and all(char in "0123456789abcdef" for char in digits)


def _environment(program: str) -> Mapping[str, str]:
    """What the client program needs of ours. Raises SandboxError where a client's entry leads to another daemon."""
    kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
    given = own_environment(program)
    return {name: given[name] for name in kept if name in given}


def _daemon() -> tuple[Engine, str]:
    program = next((place for place in PLACES if os.access(place, os.X_OK)), "")
    if not program:
        raise SandboxError("there is no docker", next_step="install docker, or use another sandbox")
    environment = _environment(program)
    try:
        version, _, security = ask((program, "info", f"--format={_FACTS}"), environment).partition("|")
        if not version:  # the client may succeed with nothing to say
            raise SandboxError("docker info names no version of it")
    except SandboxError as error:
        raise SandboxError(
            f"no docker daemon answers ({error.what})", next_step="start it, or use another sandbox"
        ) from error
    rootless = "name=rootless" in security
    return Engine(
        name="docker", program=program, version=version, rootless=rootless, limits=not rootless, init=True
    ), security
