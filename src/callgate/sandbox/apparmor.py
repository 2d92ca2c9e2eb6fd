"""An AppArmor profile for one server, from its specification.

A profile only takes away: it is a layer under another sandbox, never the sandbox. It has to be loaded by root:
callgate does that where it is root, and says how where it is not. A start enters the profile that the kernel has for
exactly these settings: the stub just before it becomes the server, a container engine by its name. One of other
settings is said and not used.
"""

from __future__ import annotations

import os

from callgate.errors import SandboxError
from callgate.sandbox.spec import Mount
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.sandbox.spec import SandboxSpec

PARSERS = ("/usr/sbin/apparmor_parser", "/sbin/apparmor_parser")
POLICY = "/sys/kernel/security/apparmor/policy/profiles"
DIGEST = 12
"""Hexadecimal digits of the digest in a profile's name."""
MAX_PROFILE_BYTES = 256 * 1024
KEPT = 32
"""Profiles of one server in the kernel, beyond which root loads no more: nothing unloads them."""
BUBBLEWRAP = ("bwrap", "/usr/bin/bwrap")
"""Ubuntu's profile for bubblewrap (`bwrap-userns-restrict`) and the program under it: it lets nobody into another."""
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


class Profile:
    """Of one server. The name holds a digest of the rules: what is loaded under it says the same."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        """`callgate-SERVER-DIGEST`; other characters of the server's name than letters, digits, `.`, `-` as `_`."""
        self.text = text
        """Ready for `apparmor_parser -r`."""


class Entry:
    """What a start does with the server's profile. `name`: the one it enters; empty: none, and `missing` says why.

    Both are empty where this kernel has no AppArmor.
    """

    __slots__ = ("missing", "name")

    def __init__(self, name: str = "", missing: str = "") -> None:
        self.name = name
        self.missing = missing


def profile(spec: SandboxSpec) -> Profile:
    """The server's profile. Raises SandboxError for a path it cannot hold."""
    from hashlib import sha256

    digest = sha256("\n".join(_rules(spec)).encode()).hexdigest()[:DIGEST]
    name = f"{_family(spec.name)}-{digest}"
    lines = "\n".join(f"  {line}" if line else "" for line in _rules(spec))
    text = f"profile {name} flags=(attach_disconnected) {{\n{lines}\n}}\n"
    if len(text) > MAX_PROFILE_BYTES:
        raise SandboxError("the server's AppArmor profile would be too long", next_step="give it fewer mounts")
    return Profile(name, text)


def _family(server: str) -> str:
    plain = "".join(char if char.isascii() and (char.isalnum() or char in ".-") else "_" for char in server[:64])
    return f"callgate-{plain}"


def entry(spec: SandboxSpec, *, maker: str = "", temporary: str = "") -> Entry:
    """Whether the kernel has the server's profile, of the same rules, and in force. A few file reads; a launch waits
    for them. `maker`: the program that makes the sandbox; `temporary`: the server's own place, where that is not /tmp.
    """
    if not spec.apparmor or not kernel_has_it():
        return Entry()
    there = _loaded_of(spec.name)
    how = f"callgate sandbox explain {visible(spec.name, 64)}"
    if not there:
        return Entry(missing=f"AppArmor: no profile of this server is loaded ({how} says how)")
    try:
        name = profile(spec).name
    except SandboxError as error:
        return Entry(missing=f"AppArmor: not used: {error.what}")
    if name not in there:
        if len(there) >= KEPT:
            return Entry(missing=f"AppArmor: {len(there)} profiles of this server are loaded, none for these settings")
        return Entry(missing=f"AppArmor: the loaded profile is of other settings, and is not used ({how} says how)")
    if not _in_force(name):
        return Entry(missing="AppArmor: the loaded profile is not in enforce mode, and is not used")
    if maker == BUBBLEWRAP[1] and BUBBLEWRAP[0] in _names():
        return Entry(missing="AppArmor: the profile of bubblewrap lets no server into its own, which is not used")
    if temporary and not temporary.startswith(("/tmp/", "/dev/shm/")):  # noqa: S108 # as the rules have them
        return Entry(missing="AppArmor: the profile is not used: TMPDIR is not below /tmp")
    return Entry(name)


def _loaded_of(server: str) -> list[str]:
    family = _family(server)
    return [name for name in loaded() if name.rpartition("-")[0] == family and len(name) == len(family) + 1 + DIGEST]


def load_own(spec: SandboxSpec) -> None:
    """As root, before a start: give the kernel the server's profile, if it does not have it; what it refuses to take
    `entry` says. Half a tenth of a second, once for the same settings. Raises SandboxError for a parser that hangs.

    Older ones stay, because servers may be running under them; of very many no more are loaded.
    """
    if os.geteuid() != 0 or not kernel_has_it() or not parser():
        return
    try:
        wanted = profile(spec)
    except SandboxError:
        return  # a path that no profile can hold
    there = _loaded_of(spec.name)
    if wanted.name not in there and len(there) < KEPT:
        load(wanted.text)


def commands(words: str, server: str) -> tuple[str, str]:
    """What an ordinary user types to have it loaded. `words`: those of `callgate sandbox explain` for the server."""
    file = f"{_family(server)}.apparmor"
    return f"callgate sandbox explain --profile apparmor {words} >{file}", f"sudo apparmor_parser -r {file}"


def _rules(spec: SandboxSpec) -> Iterator[str]:
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
    yield ""
    yield "# What callgate hands over: secrets, the egress gate's authority, a container's first program."
    yield "/run/secrets/* r,"
    yield "/run/callgate/* r,"
    yield "/{dev,run,sbin}/{init,podman-init,docker-init} mrix,"
    yield ""
    yield "# The network namespace and the egress gate say where to; this says by what."
    if spec.network or spec.sentinels:
        for rule in ("inet stream", "inet6 stream", "inet dgram", "inet6 dgram"):
            yield f"network {rule},"
    yield "unix (send, receive, connect) peer=(label=@{profile_name}),"
    yield "unix (create, getattr, setattr, getopt, setopt, shutdown) type=stream,"
    yield ""
    yield "# Signals among its own processes, and from callgate, which ends it."
    yield "signal (send, receive) peer=@{profile_name},"
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
    # apparmor_parser takes a backslash at the end together with the quote after it.
    if not os.path.isabs(path) or path.endswith("\\") or any(ord(char) < 32 for char in path):
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
    """The names of callgate's profiles in the kernel; nothing where it has none or does not say.

    The list of all profiles is for root; the directory, one entry `NAME.NUMBER` a profile, for everybody.
    """
    return frozenset(name for name in _names() if name.startswith("callgate-"))


def _names() -> list[str]:
    return [one.rpartition(".")[0] for one in _entries()]


def _entries() -> list[str]:
    try:
        return os.listdir(POLICY)
    except OSError:
        return []


def _in_force(name: str) -> bool:
    """Whether it denies, and does not only complain: somebody may have set that."""
    for one in _entries():
        if one.rpartition(".")[0] == name:
            try:
                with open(os.path.join(POLICY, one, "mode"), encoding="ascii") as file:
                    return file.read(16).strip() == "enforce"
            except OSError:
                return False
    return False


def _parsed(text: str, *options: str) -> str:
    import subprocess

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
