"""podman: containers without a daemon, as root or rootless.

A command of this machine runs over an empty root with the machine's own /usr read-only in it; an image runs when it
is pinned by digest and already there. Rootless, the server is the caller without any capability.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence

from callgate.errors import SandboxError
from callgate.sandbox.backend import Prepared, Probe
from callgate.sandbox.container import Engine
from callgate.sandbox.container_backend import ask, own_environment, prepare
from callgate.sandbox.spec import SandboxSpec

PLACES = ("/usr/bin/podman", "/usr/local/bin/podman", "/opt/podman/bin/podman", "/opt/homebrew/bin/podman")
_INIT = ("/usr/libexec/podman/catatonit", "/usr/bin/catatonit", "/usr/local/libexec/podman/catatonit")
_ENOUGH = 32768
_CGROUP = "/sys/fs/cgroup"


class PodmanBackend:
    """The podman of this machine."""

    name = "podman"

    def probe(self) -> Probe:
        """Start one container of this machine's programs and let it try to get out. One to three seconds."""
        try:
            found = engine(ask_version=True)
        except SandboxError as error:
            return Probe(self.name, usable=False, reason=_reason(error))
        from callgate.sandbox.selftest import probe

        return probe(self, found.version)

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        found = engine()
        return prepare(found, spec, argv, own_environment(found.program))


def engine(*, ask_version: bool = False) -> Engine:
    """What podman is here. Raises SandboxError where there is none that can be used."""
    program = next((place for place in PLACES if os.access(place, os.X_OK)), "")
    if not program:
        raise SandboxError("there is no podman", next_step="install podman, or use another sandbox")
    given = own_environment(program)
    environment: dict[str, str] = {name: given[name] for name in ("PATH", "HOME", "XDG_RUNTIME_DIR") if name in given}
    version = ask((program, "--version"), environment).rpartition(" ")[2] if ask_version else ""
    rootless = os.getuid() != 0
    return Engine(
        name="podman",
        program=program,
        version=version,
        rootless=rootless,
        limits=_limited(rootless=rootless),
        processes=_processes(),
        options=() if os.path.isdir("/run/systemd/system") else ("--cgroup-manager=cgroupfs",),
        init=any(os.access(place, os.X_OK) for place in _INIT),
    )


def _processes() -> int:
    """Of the user id, on the whole machine: it only has to be named, or podman asks for more than it may give."""
    own = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return _ENOUGH if own == resource.RLIM_INFINITY else min(own, _ENOUGH)


def _limited(*, rootless: bool) -> bool:
    """Whether containers get control groups: for root in version 1 and 2, for others where 2 was delegated."""
    if not rootless:
        return True
    user = os.getuid()
    path = f"{_CGROUP}/user.slice/user-{user}.slice/user@{user}.service/cgroup.controllers"
    try:
        with open(path, encoding="ascii") as file:
            return {"memory", "pids"} <= set(file.read().split())
    except OSError:
        return False


def _reason(error: SandboxError) -> str:
    return f"{error.what}; {error.next_step}" if error.next_step else error.what
