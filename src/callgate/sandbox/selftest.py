"""A backend proves itself: real escapes are tried inside it, and this side looks whether one had an effect.

One run, tens of milliseconds. The host side of each escape really exists while it runs: a secret in a file, TCP,
UDP and unix listeners, a process with a marker in its environment, an open descriptor.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from callgate.errors import SandboxError
from callgate.sandbox import stub_start
from callgate.sandbox.backend import Backend, Check, Probe
from callgate.sandbox.spec import MIB, Limits, Mount, SandboxSpec
from callgate.text import visible

SECONDS = 20.0
"""For the whole run: a machine that needs longer is not usable."""
_OUTPUT_BYTES = 65536
_CALLS = (
    "bpf clone3 io_uring_setup ioctl keyctl memfd_create mount perf_event_open prlimit64 process_vm_readv ptrace"
    " unshare userfaultfd"
)
_EFFECTS = {
    "tcp_loopback": "a connection arrived",
    "udp_loopback": "a datagram arrived",
    "unix_path": "a connection arrived",
    "unix_abstract": "a connection arrived",
    "write_outside": "the file is there",
    "signal_victim": "the process was ended",
}


@dataclass(frozen=True, slots=True)
class _World:
    """The host side of the escapes."""

    arguments: dict[str, str]
    sockets: dict[str, socket.socket]
    victim: int
    leak: int

    def effects(self) -> set[str]:
        """The escapes that had an effect here."""
        import select

        found = {name for name, one in self.sockets.items() if select.select([one], [], [], 0)[0]}
        if os.path.exists(self.arguments["outside"]):
            found.add("write_outside")
        if os.waitpid(self.victim, os.WNOHANG)[0]:
            found.add("signal_victim")
        return found


def interpreter_mounts() -> tuple[Mount, ...]:
    """What a Python program inside needs of the interpreter that runs callgate, outside /usr."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = os.path.join(sys.base_prefix, getattr(sys, "platlibdir", "lib"), version)
    files = {*stub_start.interpreter_files(), *([] if home.startswith("/usr/") else [home])}
    inner = {path for path in files if path.startswith(home + "/")}
    return tuple(Mount(path) for path in sorted(files - inner))


def probe(backend: Backend, version: str, not_promised: Iterable[str] = ()) -> Probe:
    """Run the escapes in `backend`. `not_promised`: escapes it says it does not hold."""
    beside = frozenset(not_promised)
    try:
        checks, not_enforced = run(backend)
    except SandboxError as error:
        return Probe(backend.name, usable=False, reason=_one_line(error), version=version)
    broken = [one.name for one in checks if not one.held and one.name not in beside]
    reason = f"it does not hold: {', '.join(broken)}" if broken else ""
    return Probe(backend.name, not broken, reason, version, checks, not_enforced)


def _one_line(error: SandboxError) -> str:
    return f"{error.what}; {error.next_step}" if error.next_step else error.what


def run(backend: Backend) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Every escape once. Raises SandboxError where the sandbox cannot even be started."""
    from importlib.machinery import SourceFileLoader

    path = os.path.join(os.path.dirname(__file__), "selftest_probe.py")
    source = SourceFileLoader("selftest_probe", path).get_source("selftest_probe") or ""
    with ExitStack() as stack:
        world = _world(stack)
        words = [f"{name}={value}" for name, value in world.arguments.items()]
        spec = SandboxSpec(
            "self-test",
            kind="python",
            mounts=interpreter_mounts(),
            limits=Limits(processes=64, memory_bytes=512 * MIB, disk_bytes=16 * MIB, file_bytes=16 * MIB),
            environment={"PATH": "/usr/bin:/bin"},
            apparmor=False,
        )
        argv = [stub_start.interpreter(), "-I", "-S", "-c", source, *words]
        output, not_enforced = _output(backend, spec, argv, world)
        found = _read(output)
        effects = world.effects()
    for name in effects & set(_EFFECTS):
        found[name] = Check(name, held=False, detail=_EFFECTS[name])
    return tuple(found.values()), not_enforced


def _read(output: str) -> dict[str, Check]:
    found = {}
    for line in output.splitlines():
        name, _, rest = line.partition(" ")
        state, _, detail = rest.partition(" ")
        if state in {"held", "open"}:
            found[name] = Check(name, state == "held", detail)
    if "dropped_program" not in found:  # the last one
        raise SandboxError(
            f"the self-test did not come to its end: {visible(output.strip()[-300:]) or 'no output'}",
            next_step="run: callgate sandbox doctor",
        )
    return found


def _output(backend: Backend, spec: SandboxSpec, argv: list[str], world: _World) -> tuple[str, tuple[str, ...]]:
    import subprocess

    prepared = backend.prepare(spec, argv)
    running = None
    try:
        process = subprocess.Popen(
            prepared.argv,
            env=dict(prepared.environment),
            cwd=prepared.cwd or None,
            pass_fds=(*prepared.pass_fds, world.leak),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        if prepared.abandon:
            prepared.abandon()
        raise SandboxError(f"{prepared.argv[0]} cannot be started: {error.strerror}") from error
    try:
        if prepared.started:
            running = prepared.started(process.pid)
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"the self-test took longer than {SECONDS:.0f} s") from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        if running is not None:
            running.close()
    more = prepared.settled() if prepared.settled else ()
    return output[:_OUTPUT_BYTES].decode(errors="replace"), (*prepared.not_enforced, *more)


def _world(stack: ExitStack) -> _World:
    import tempfile

    from callgate.sandbox.seccomp_numbers import NUMBERS

    machine = os.uname().machine
    if machine not in NUMBERS:
        raise SandboxError(f"there is no system call filter for the processor '{machine}'")
    place = stack.enter_context(tempfile.TemporaryDirectory(prefix="callgate-test-"))
    marker = os.urandom(12).hex()
    secret = os.path.join(place, "secret")
    with open(secret, "w") as file:
        file.write(marker)
    sockets = {
        "tcp_loopback": socket.socket(),
        "udp_loopback": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix_path": socket.socket(socket.AF_UNIX),
        "unix_abstract": socket.socket(socket.AF_UNIX),
    }
    for one in sockets.values():
        stack.enter_context(one)
    sockets["tcp_loopback"].bind(("127.0.0.1", 0))
    sockets["udp_loopback"].bind(("127.0.0.1", 0))
    sockets["unix_path"].bind(os.path.join(place, "socket"))
    sockets["unix_abstract"].bind(f"\0callgate-{marker}")
    for name in ("tcp_loopback", "unix_path", "unix_abstract"):
        sockets[name].listen()
    leak = os.open(secret, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, leak)
    victim = os.posix_spawn("/bin/sleep", ["sleep", "60"], {"MARKER": marker})
    stack.callback(_end, victim)
    arguments = {
        "secret": secret,
        "outside": os.path.join(place, "outside"),
        "marker": marker,
        "tcp": str(sockets["tcp_loopback"].getsockname()[1]),
        "udp": str(sockets["udp_loopback"].getsockname()[1]),
        "unix": os.path.join(place, "socket"),
        "abstract": f"callgate-{marker}",
        "victim": str(victim),
        **{f"nr.{name}": str(NUMBERS[machine][name]) for name in _CALLS.split()},
    }
    return _World(arguments, sockets, victim, leak)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return  # the self-test ended it, and effects() saw that
