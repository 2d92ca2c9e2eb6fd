"""The backend for hosts without user namespaces: no new root, no namespace, but Landlock, a filter and limits.

The server lives among the user's processes and sees the names, sizes and times of the user's files, never their
content. What it may read, write and execute Landlock holds; sockets other than TCP, and everything else that a
namespace would hold, the system call filter refuses. TCP goes to one port, the egress gate's, and only where
network is asked for. What this kernel cannot hold is said, not left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from callgate.errors import SandboxError
from callgate.sandbox import bubblewrap_root, stub_start
from callgate.sandbox.backend import Prepared, Probe, Running
from callgate.sandbox.backend_limits import resource_limits
from callgate.sandbox.backend_parts import Parts, kill
from callgate.sandbox.seccomp import program
from callgate.sandbox.seccomp_variant import Variant
from callgate.sandbox.spec import SandboxSpec
from callgate.text import visible

_EXECUTED = ("/usr", "/nix/store", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_READ = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates/extracted",
    "/etc/crypto-policies",
    "/etc/mime.types",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/protocols",
    "/etc/services",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/random",
    "/proc/sys/kernel/cap_last_cap",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class LandlockBackend:
    """Confine without namespaces. `abi` saves asking the kernel; `cache` is a directory of ours."""

    name = "landlock"

    def __init__(self, cache: str = "", abi: int | None = None) -> None:
        self._cache = cache
        self._abi = abi

    @property
    def abi(self) -> int:
        """The kernel's Landlock version."""
        if self._abi is None:
            from callgate.sandbox.stub import landlock_abi

            self._abi = landlock_abi()
        return self._abi

    def probe(self) -> Probe:
        """Try the escapes under it."""
        from callgate.sandbox.selftest import probe

        if not self.abi:
            return Probe(self.name, usable=False, reason="this kernel has no Landlock (Linux 5.13 with it enabled)")
        return probe(self, f"ABI {self.abi}")

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        """The command line that starts `argv` confined. Raises SandboxError."""
        return _Preparation(self.abi, self._cache, spec, argv).work()


class _Preparation:
    def __init__(self, abi: int, cache: str, spec: SandboxSpec, argv: Sequence[str]) -> None:
        self._abi = abi
        self._cache = cache
        self._spec = spec
        self._argv = list(argv)
        self._parts = Parts(spec, argv, alone=True)
        self._port = 0
        self._own = ""

    def work(self) -> Prepared:
        parts = self._parts
        if not self._abi:
            raise SandboxError("this kernel has no Landlock", next_step="run: callgate sandbox doctor")
        if parts.gated and self._abi < 4:
            raise SandboxError(
                "this kernel's Landlock cannot limit where a server connects to",
                next_step="use Linux 6.7 or later, bubblewrap or a container, or take the server's network away",
            )
        try:
            parts.open_group()
            self._make_own()
            parts.open_profile(temporary=self._own)
            if parts.gated:
                gate = parts.open_gate(ca_path=os.path.join(self._own, "ca-bundle.pem"))
                self._port = gate.listen_loopback()[0]
            groups, meeting = parts.for_stub()
            order_fd = parts.opened.add(stub_start.order_file(self._order(groups, meeting)))
        except BaseException:
            self._abandon()
            raise
        return Prepared(
            argv=tuple(stub_start.command(order_fd)),
            environment={},
            cwd="/",
            pass_fds=(*groups, *([meeting] if meeting >= 0 else []), order_fd),
            backend=LandlockBackend.name,
            not_enforced=tuple(self._not_enforced()),
            apparmor=parts.profile,
            settled=parts.settled,
            started=self._started,
            abandon=self._abandon,
        )

    def _make_own(self) -> None:
        """A directory for this run: its /tmp, its secrets and, where the spec names none, its home."""
        place = os.path.realpath(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108
        own = os.path.join(place, f"callgate-{os.urandom(12).hex()}")
        try:
            os.mkdir(own, 0o700)
        except OSError as error:
            raise SandboxError(
                f"no directory for temporary files can be made in {visible(place, 200)}: {error.strerror}",
                next_step="set TMPDIR to a directory that can be written",
            ) from error
        self._own = own
        for name in ("tmp", "home", "secrets"):
            os.mkdir(os.path.join(self._own, name), 0o700)

    def _order(self, groups: list[int], meeting: int) -> stub_start.Order:
        spec, own, gate = self._spec, self._own, self._parts.gate
        home = spec.home or os.path.join(own, "home")
        temporary = os.path.join(own, "tmp")
        environment = {"HOME": home, **spec.environment, "TMPDIR": temporary}
        paths = [(path, "execute") for path in _EXECUTED if os.path.isdir(path)]
        paths += [(path, "read") for path in _READ]
        paths += [(path, "device") for path in _DEVICES]
        paths += [(path, "write") for path in (home, temporary)]
        paths += self._mounts(home)
        self._secrets(environment)
        paths.append((os.path.join(own, "secrets"), "read"))
        if gate:
            environment.update(gate.environment)
            for path, content in gate.ca_files.items():
                _write(path, content)
                paths.append((path, "read"))
        variant = Variant(
            unix_sockets=spec.unix_sockets, alone=True, internet=bool(self._port), truncate=self._abi >= 3
        )
        return stub_start.Order(
            argv=self._argv,
            environment=environment,
            cwd=spec.cwd or home,
            limits=resource_limits(spec.limits, own_count=False),
            landlock=self._abi,
            paths=paths,
            ports=[self._port] if self._port else [],
            filter=program(variant, self._cache),
            outside=[],
            no_capabilities=[],
            control_groups=groups,
            meeting=meeting,
            profile=self._parts.profile,
            same=bubblewrap_root.judged(spec),
            alone=True,
        )

    def _mounts(self, home: str) -> list[tuple[str, str]]:
        from callgate.sandbox.bubblewrap_root import check, executable, where

        written = [mount.source for mount in self._spec.mounts if mount.writable] + [home]
        rules: list[tuple[str, str]] = []
        for mount in self._spec.mounts:
            check(mount)
            if os.path.realpath(where(mount)) != os.path.realpath(mount.source):
                raise SandboxError(
                    "the landlock sandbox shows files only where they are",
                    next_step="give the server the real path, or use bubblewrap",
                )
            if mount.writable:
                rules.append((mount.source, "write"))
            else:
                rules.append((mount.source, "read"))
                rules += [(path, "execute") for path in executable(mount.source, mount.source, written)]
        return rules

    def _secrets(self, environment: dict[str, str]) -> None:
        """No private /run here: the files lie in the run's own directory, and variables that name them follow."""
        for secret in self._spec.secret_files:
            path = os.path.join(self._own, "secrets", os.path.basename(secret.name))
            _write(path, secret.value)
            for name, value in environment.items():
                if value == secret.path:
                    environment[name] = path

    def _kept(self) -> str:
        """Read-only places inside writable ones: Landlock has no rule that takes away."""
        mounts = self._spec.mounts
        written = [mount.source + os.sep for mount in mounts if mount.writable]
        inner = [one.source for one in mounts if not one.writable and one.source.startswith(tuple(written))]
        return ", ".join(os.path.basename(path) for path in inner[:8])

    def _not_enforced(self) -> list[str]:
        words = self._parts.not_held()
        words.append("names, sizes and times of all your files can be seen, not their content")
        words.append("its files in memory and in its temporary directory are counted, not held")
        if self._spec.secret_files:
            words.append(
                "secret files lie in a private temporary directory, and stay where callgate is killed (SIGKILL)"
            )
        if self._port:
            words.append(f"connections to port {self._port} of other hosts are possible beside the egress gate")
        kept = self._kept()
        if kept:
            words.append(f"{kept} in directories it may write can be written too")
        if self._abi < 6:
            words.append("signals to your other programs are possible (Linux 6.12 holds them)")
        return words

    def _started(self, pid: int) -> Running:
        parts = self._parts
        try:
            return parts.running(pid, [parts.gate] if parts.gate else [], [self._remove_own], [self._own])
        except BaseException:
            kill(pid)
            self._abandon()
            raise

    def _abandon(self) -> None:
        self._parts.abandon()
        self._remove_own()

    def _remove_own(self) -> None:
        import shutil

        if not self._own:
            return
        try:
            shutil.rmtree(self._own, ignore_errors=True)
        except RecursionError:  # a server may nest directories deeper than Python follows (before 3.13)
            import subprocess

            quiet = subprocess.DEVNULL
            command = ["/bin/rm", "-rf", "--", self._own]
            subprocess.run(command, env={}, stdin=quiet, stdout=quiet, stderr=quiet, check=False)


class NoBackend:
    """No confinement, for who asks for exactly that (`none`): the server starts as it is, and evidence says so."""

    name = "none"

    def probe(self) -> Probe:
        """Nothing to prove: nothing is held."""
        return Probe(self.name, usable=True, not_enforced=_NOTHING_HELD)

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        """`argv` as it is, with the environment of the spec. Raises SandboxError where that needs a sandbox."""
        if spec.sentinels or spec.secret_files:
            raise SandboxError(
                "secrets that the server must not see cannot be kept from it without a sandbox",
                next_step='choose a sandbox, or deliver = "environment" for its secrets',
            )
        if not argv or not os.path.isabs(argv[0]):
            raise SandboxError("the program of a server must be an absolute path")
        return Prepared(
            argv=tuple(argv),
            environment=dict(spec.environment),
            cwd=spec.cwd or spec.home,
            backend=self.name,
            not_enforced=_NOTHING_HELD,
        )


_NOTHING_HELD = (
    "files: it reads and writes all that you can",
    "network: it connects anywhere",
    "processes: it sees, signals and traces your programs",
    "system calls: none is refused",
    "memory, processes, processors, disk: nothing is limited",
)


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with open(fd, "wb") as file:
        file.write(content)
