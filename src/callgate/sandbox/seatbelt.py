"""macOS: a Seatbelt profile for `sandbox-exec`, everything denied that the specification does not name.

The rules are written for `sandbox-exec -p`, deprecated and still what browsers and build tools of macOS use. There
are no namespaces: the way out is the egress gate on loopback, at one port, and nothing limits all processes together.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from callgate.errors import SandboxError
from callgate.sandbox.backend import Prepared, Probe
from callgate.sandbox.backend_running import Gated
from callgate.sandbox.spec import Limits, SandboxSpec
from callgate.text import visible

PROGRAM = "/usr/bin/sandbox-exec"
MAX_LITERAL = 1024
"""Bytes of a path in a profile; a longer one is refused."""
_SYSTEM = ("/System", "/usr", "/bin", "/sbin", "/Library/Apple", "/Library/Developer", "/opt/homebrew", "/opt/local")
_READ = (
    "/Library/Preferences/com.apple.networkd.plist",
    "/private/etc/hosts",
    "/private/etc/localtime",
    "/private/etc/openssl",
    "/private/etc/protocols",
    "/private/etc/services",
    "/private/etc/ssl",
    "/private/var/db/dyld",
    "/private/var/db/timezone",
    "/private/var/select",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/dtracehelper")
_SERVICES = (
    "com.apple.logd",
    "com.apple.system.logger",
    "com.apple.system.notification_center",
    "com.apple.system.opendirectoryd.libinfo",
    "com.apple.system.opendirectoryd.membership",
)
"""Not trustd: it fetches what a certificate names, which is a way out. Go programs that verify TLS need it."""
_SYSCTL = (
    "hw.",
    "kern.argmax",
    "kern.hostname",
    "kern.maxfilesperproc",
    "kern.os",
    "kern.version",
    "machdep.cpu.",
    "vm.",
)
_LIMITER = """\
import os, resource, sys
for pair in sys.argv[1].split(","):
    name, _, value = pair.partition("=")
    if value:
        resource.setrlimit(getattr(resource, name), (int(value), int(value)))
os.closerange(3, 256)
os.execv(sys.argv[2], sys.argv[2:])
"""
NOT_ENFORCED = (
    "memory and processes of all programs together: macOS has no limit for a group of processes",
    "the total size of what it writes",
    "another program's existence: process ids are shared with the host, though it cannot signal or read them",
)


def profile_text(spec: SandboxSpec, home: str, temporary: str, port: int = 0) -> str:
    """The profile. `home` and `temporary`: where the server writes; `port`: the egress gate's, 0 for none."""
    return "\n".join(_rules(spec, home, temporary, port)) + "\n"


def _rules(spec: SandboxSpec, home: str, temporary: str, port: int) -> Iterator[str]:
    written = [home, temporary, *(_real(mount.source) for mount in spec.mounts if mount.writable)]
    read = [_real(mount.source) for mount in spec.mounts if not mount.writable]
    yield "(version 1)"
    yield f"(deny default (with message {_literal('callgate ' + spec.name[:64])}))"
    yield "(allow process-fork)"
    yield "(allow process-info* (target same-sandbox))"
    yield "(allow signal (target same-sandbox))"
    yield "(allow process-exec " + " ".join(_subpath(path) for path in (*_SYSTEM, *read)) + ")"
    yield "(allow mach-lookup " + " ".join(f"(global-name {_literal(name)})" for name in _SERVICES) + ")"
    yield "(allow sysctl-read " + " ".join(f"(sysctl-name-prefix {_literal(name)})" for name in _SYSCTL) + ")"
    yield "(allow ipc-posix-sem)"
    yield "(allow file-read-metadata)"  # path resolution asks every directory on the way
    yield '(allow file-read* (literal "/") ' + " ".join(_subpath(path) for path in (*_SYSTEM, *_READ, *read)) + ")"
    yield "(allow file-read* file-write-data " + " ".join(f"(literal {_literal(path)})" for path in _DEVICES) + ")"
    yield "(allow file-read* file-write* " + " ".join(_subpath(path) for path in written) + ")"
    # The last rule that fits counts: what is written is never a program, and what is read-only stays so inside it.
    yield "(deny process-exec " + " ".join(_subpath(path) for path in written) + ")"
    yield "(deny file-map-executable " + " ".join(_subpath(path) for path in written) + ")"
    for path in read:
        above = [one for one in written if path.startswith(one + "/")]
        if above:
            yield f"(deny file-write* {_subpath(path)})"
            yield "(deny file-write-unlink " + " ".join(f"(literal {_literal(p)})" for p in _between(above, path)) + ")"
            yield f"(allow process-exec {_subpath(path)})"
    if port:
        yield f'(allow network-outbound (remote ip "localhost:{port}"))'


def _between(above: Sequence[str], path: str) -> list[str]:
    """The directories from a written one down to `path`: none may be moved away."""
    top = min(above, key=len)
    found, here = [], os.path.dirname(path)
    while len(here) > len(top):
        found.append(here)
        here = os.path.dirname(here)
    return [path, *found]


def _subpath(path: str) -> str:
    return f"(subpath {_literal(path)})"


def _literal(text: str) -> str:
    if any(ord(char) < 32 for char in text) or len(text.encode("utf-8", "surrogateescape")) > MAX_LITERAL:
        raise SandboxError(f"a Seatbelt profile cannot hold {visible(text, 200)!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _real(path: str) -> str:
    return os.path.realpath(path)


class SeatbeltBackend:
    """`sandbox-exec` of this Mac."""

    name = "seatbelt"

    def probe(self) -> Probe:
        """Try the escapes inside, on macOS; elsewhere say so."""
        if os.uname().sysname != "Darwin":
            return Probe(self.name, usable=False, reason="Seatbelt is a part of macOS")
        if not os.access(PROGRAM, os.X_OK):
            return Probe(self.name, usable=False, reason=f"{PROGRAM} is missing")
        from callgate.sandbox.selftest import probe

        return probe(self, os.uname().release)

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        if spec.secret_files:
            raise SandboxError(
                "macOS has no files in memory for secrets",
                next_step="let the secret be a sentinel (name its hosts), or deliver it by the environment",
            )
        temporary = os.path.realpath(tempfile.mkdtemp(prefix="callgate-"))
        running = SeatbeltRunning(temporary)
        try:
            home = os.path.realpath(spec.home) if spec.home else os.path.join(temporary, "home")
            os.makedirs(home, mode=0o700, exist_ok=True)
            environment = {"HOME": home, "TMPDIR": temporary, **spec.environment}
            port = 0
            if spec.network or spec.sentinels:
                port = running.open_gate(spec)
                environment.update(running.environment)
            profile = profile_text(spec, home, temporary, port)
        except BaseException:
            running.close()
            raise
        limiter = (sys.executable, "-I", "-S", "-c", _LIMITER, _limits(spec.limits))
        return Prepared(
            argv=(PROGRAM, "-p", profile, *limiter, *argv),
            environment=environment,
            cwd=spec.cwd or home,
            backend=self.name,
            not_enforced=NOT_ENFORCED,
            started=lambda _pid: running,
            abandon=running.close,
        )


def _limits(limits: Limits) -> str:
    """No limit of processes: macOS counts all of the user's."""
    pairs = {"RLIMIT_CORE": "0"}
    if limits.file_bytes:
        pairs["RLIMIT_FSIZE"] = str(limits.file_bytes)
    if limits.descriptors:
        pairs["RLIMIT_NOFILE"] = str(limits.descriptors)
    if limits.memory_bytes:
        pairs["RLIMIT_DATA"] = str(limits.memory_bytes)
    return ",".join(f"{name}={value}" for name, value in pairs.items())


class SeatbeltRunning(Gated):
    """The private directory of a server, and its egress gate where it has one."""

    def __init__(self, temporary: str) -> None:
        super().__init__()
        self._temporary = temporary

    def open_gate(self, spec: SandboxSpec) -> int:
        """The gate's port on loopback. The CA bundle lies in the private directory."""
        from callgate.sandbox.egress.gate import EgressGate

        bundle = os.path.join(self._temporary, "ca-bundle.pem")
        self._gate = EgressGate.prepare(spec, ca_path=bundle)
        port, _token = self._gate.listen_loopback()
        for path, content in self._gate.ca_files.items():
            with open(path, "xb") as file:
                file.write(content)
        return port

    @property
    def environment(self) -> dict[str, str]:
        return self._gate.environment if self._gate is not None else {}

    def close(self) -> None:
        import shutil

        if self._gate is not None:
            self._gate.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
