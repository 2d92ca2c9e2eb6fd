"""docker: only for servers whose own launch line is `docker run IMAGE@sha256:…`, and only without the network.

The daemon is root's, so callgate cannot open its egress gate inside a container, and what docker binds stays
executable; podman does both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from callgate.errors import SandboxError
from callgate.sandbox.backend import Check, Prepared, Probe
from callgate.sandbox.container import Engine
from callgate.sandbox.container_backend import ask, not_enforced, prepare
from callgate.sandbox.spec import SandboxSpec

PLACES = ("/usr/bin/docker", "/usr/local/bin/docker", "/opt/homebrew/bin/docker")
_FORMAT = "{{.Server.Version}}"
_SECURITY = "{{range .SecurityOptions}}{{.}} {{end}}"


class DockerBackend:
    """The docker of this machine."""

    name = "docker"

    def probe(self) -> Probe:
        """Ask the daemon. It starts images only, so there is no self-test without one of the user's."""
        try:
            found, security = _daemon()
        except SandboxError as error:
            return Probe(self.name, usable=False, reason=f"{error.what}; {error.next_step}".rstrip("; "))
        check = Check("the daemon filters system calls", "name=seccomp" in security, security)
        return Probe(
            self.name,
            usable=check.held,
            reason="" if check.held else "its daemon was built or started without seccomp",
            version=found.version,
            checks=(check,),
            not_enforced=(
                "no escape was tried: docker starts images only, and none of yours is started to try",
                *not_enforced(found),
            ),
        )

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        return prepare(_daemon()[0], spec, argv, os.environ)


def _daemon() -> tuple[Engine, str]:
    program = next((place for place in PLACES if os.access(place, os.X_OK)), "")
    if not program:
        raise SandboxError("there is no docker", next_step="install docker, or use another sandbox")
    kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
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
