"""An AppArmor profile for one server, from its specification.

A profile only takes away: it is a layer under another sandbox, never the sandbox. It has to be loaded by root, so
callgate writes it, checks it with `apparmor_parser` where that is installed, and names it to the container engine
once the kernel has it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from callgate.errors import SandboxError
from callgate.sandbox.spec import Mount, SandboxSpec
from callgate.text import visible

PARSERS = ("/usr/sbin/apparmor_parser", "/sbin/apparmor_parser")
PROFILES = "/sys/kernel/security/apparmor/profiles"
MAX_PROFILE_BYTES = 256 * 1024
SECONDS = 20
_RUNTIME = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_SETTINGS = (
    "/etc/alternatives/**",
    "/etc/ca-certificates/**",
    "/etc/crypto-policies/**",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/**",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/**",
)
_OWN_PROCESS = (
    "{,fd/,fd/*,task/,task/**,stat,statm,status,maps,smaps_rollup,cmdline,comm,mounts,mountinfo,cgroup,limits}"
)
_ABOUT_MACHINE = "/proc/{cpuinfo,filesystems,loadavg,meminfo,stat,uptime,version}"
_GLOB = frozenset('*?[]{}^\\"@')


def profile_name(spec: SandboxSpec) -> str:
    """The profile's name: `callgate-` and the server's, other characters than letters, digits, `.` and `-` as `_`."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in ".-") else "_" for char in spec.name[:64])
    return f"callgate-{plain}"


def profile_text(spec: SandboxSpec) -> str:
    """The profile, ready for `apparmor_parser -r`. Raises SandboxError for a path it cannot hold."""
    name = profile_name(spec)
    lines = "\n".join(f"  {line}" if line else "" for line in _rules(spec, name))
    text = f"profile {name} flags=(attach_disconnected) {{\n{lines}\n}}\n"
    if len(text) > MAX_PROFILE_BYTES:
        raise SandboxError("the server's AppArmor profile would be too long", next_step="give it fewer mounts")
    return text


def _rules(spec: SandboxSpec, name: str) -> Iterator[str]:
    yield "# The system's own programs and libraries."
    for path in _RUNTIME:
        yield f"{path}/ r,"
        yield f"{path}/** mrix,"
    for path in _SETTINGS:
        yield f"{path} r,"
    yield "/ r,"
    yield ""
    yield "# Itself, and what is public of the machine."
    yield f"owner /proc/[0-9]*/{_OWN_PROCESS} r,"
    yield f"{_ABOUT_MACHINE} r,"
    yield "/proc/ r,"
    yield "/proc/sys/{kernel/{ngroups_max,cap_last_cap,osrelease},vm/overcommit_memory} r,"
    yield "/sys/devices/system/cpu/** r,"
    yield "/dev/{null,zero,full,random,urandom} rw,"
    yield ""
    yield "# Written, therefore never started or mapped as a program."
    for path in ("/tmp", "/dev/shm"):  # noqa: S108 # the server's own
        yield f"{path}/ rw,"
        yield f"owner {path}/** rwlk,"
    home = Mount(spec.home or "/home/server", writable=True)
    mounts = {mount.target or mount.source: mount for mount in (home, *spec.mounts)}
    for path in sorted(mounts):
        yield from _mount(path, writable=mounts[path].writable)
    for secret in spec.secret_files:
        yield f"{_quoted(secret.path)} r,"
    yield ""
    yield "# The network namespace and the egress gate say where to; this says by what."
    if spec.network or spec.sentinels:
        for rule in ("inet stream", "inet6 stream", "inet dgram", "inet6 dgram"):
            yield f"network {rule},"
    yield f"unix (send, receive, connect) peer=(label={name}),"
    yield "unix (create, getattr, setattr, getopt, setopt, shutdown) type=stream,"
    yield ""
    yield "# Signals among its own processes, and from callgate, which ends it."
    yield f"signal (send, receive) peer={name},"
    yield "signal (receive) peer=unconfined,"


def _mount(path: str, *, writable: bool) -> Iterator[str]:
    file, folder, below = _quoted(path), _quoted(path + "/"), _quoted(path + "/", "**")
    if writable:
        yield f"{file} rwk,"
        yield f"{folder} rw,"
        yield f"{below} rwlk,"
    else:
        yield f"{file} mrix,"
        yield f"{folder} r,"
        yield f"{below} mrix,"


def _quoted(path: str, pattern: str = "") -> str:
    """A path as AppArmor reads it literally, with `pattern` after it."""
    if not os.path.isabs(path) or any(ord(char) < 32 for char in path):
        raise SandboxError(f"an AppArmor profile cannot hold the path {visible(path, 200)!r}")
    escaped = "".join("\\" + char if char in _GLOB else char for char in path)
    return f'"{escaped}{pattern}"'


def parser() -> str:
    """The program that reads profiles; empty where it is not installed."""
    return next((path for path in PARSERS if os.access(path, os.X_OK)), "")


def check(text: str) -> str:
    """What is wrong with a profile; empty when it compiles. Raises SandboxError where nothing can tell."""
    return _parsed(text, "-Q", "-K")


def load(text: str) -> str:
    """Give the profile to the kernel, which takes root. What went wrong, or empty. Raises SandboxError."""
    if not kernel_has_it():
        raise SandboxError("this kernel has no AppArmor", next_step="nothing: the other layers hold without it")
    if os.geteuid() != 0:
        raise SandboxError(
            "loading an AppArmor profile takes root",
            next_step="callgate sandbox explain --profile apparmor NAME | sudo apparmor_parser -r",
        )
    return _parsed(text, "-r", "-K")


def kernel_has_it() -> bool:
    """Whether AppArmor is on in this kernel."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def loaded() -> frozenset[str]:
    """The names of the profiles the kernel enforces; nothing where it has none or does not say."""
    try:
        with open(PROFILES, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.rpartition(" ")[0] for line in lines if line.endswith("(enforce)"))


def _parsed(text: str, *options: str) -> str:
    program = parser()
    if not program:
        raise SandboxError("there is no apparmor_parser", next_step="install the package apparmor")
    try:
        done = subprocess.run(
            [program, *options], input=text.encode(), capture_output=True, timeout=SECONDS, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"apparmor_parser does not run: {error}") from error
    return visible(done.stderr.decode("utf-8", "replace").strip(), 500) if done.returncode else ""
