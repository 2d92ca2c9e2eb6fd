"""docker: servers that are images, and commands of this machine, only without the network.

It starts images only: a command of this machine is hung into an image of callgate's own that has nothing in it but
the names that mounts need. The daemon is root's, so callgate cannot open its egress gate inside a container, and what
docker binds stays executable; podman does both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from callgate.errors import SandboxError
from callgate.sandbox.backend import Check, Prepared, Probe
from callgate.sandbox.container import Engine
from callgate.sandbox.container_backend import ask, not_enforced, prepare
from callgate.sandbox.spec import SandboxSpec

PLACES = ("/usr/bin/docker", "/usr/local/bin/docker", "/opt/homebrew/bin/docker")
ROOT = "callgate-root"
"""Name of the image of callgate's own; its tag is a digest of what is in it."""
_ON_LINUX = os.uname().sysname == "Linux"
_FORMAT = "{{.Server.Version}}"
_SECURITY = "{{range .SecurityOptions}}{{.}} {{end}}"


class DockerBackend:
    """The docker of this machine."""

    name = "docker"

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
        root = "" if spec.kind == "container" else _root(engine)
        return prepare(engine, spec, argv, os.environ, root=root)


def _root(engine: Engine) -> str:
    """The image a command is hung into, by its id; made where the daemon has it not."""
    if not _ON_LINUX:
        raise SandboxError(
            "docker starts no command of this machine here: its containers run in another machine",
            next_step="use another sandbox for this server, or the server's own image",
        )
    import hashlib

    from callgate.sandbox.container_files import layer

    content = layer()
    name = f"{ROOT}:{hashlib.sha256(content).hexdigest()[:16]}"
    environment = _environment()
    try:
        found = ask((engine.program, "image", "inspect", "--format={{.Id}}", name), environment)
    except SandboxError:
        found = ask((engine.program, "import", "--message=a root for callgate", "-", name), environment, fed=content)
    if not found.startswith("sha256:"):
        raise SandboxError("docker does not say which image it keeps")
    return found


def _environment() -> Mapping[str, str]:
    """What the client program needs of ours."""
    kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _daemon() -> tuple[Engine, str]:
    program = next((place for place in PLACES if os.access(place, os.X_OK)), "")
    if not program:
        raise SandboxError("there is no docker", next_step="install docker, or use another sandbox")
    environment = _environment()
    try:
        version = ask((program, "version", f"--format={_FORMAT}"), environment)
        security = ask((program, "info", f"--format={_SECURITY}"), environment)
    except SandboxError as error:
        raise SandboxError(
            f"no docker daemon answers ({error.what})", next_step="start it, or use another sandbox"
        ) from error
    rootless = "name=rootless" in security
    return Engine(
        name="docker", program=program, version=version, rootless=rootless, limits=not rootless, init=True
    ), security
