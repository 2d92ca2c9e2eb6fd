"""The last thing before the server: runs inside the sandbox, takes away what is left, proves it, becomes the server.

It is started as `python -I -S -c BOOT FD` (stub_start.py) and reads its order from a descriptor, so neither the
environment nor the arguments of the server are in any process listing before, and no variable of the server's can
act on the programs that confine it. It imports nothing but what every Python holds (`posix`, `sys`) and `_ctypes`,
the C half of ctypes: the start of the server waits for it.

Order: stray descriptors, control groups that it enters by itself, AppArmor profile, limits, no_new_privs, Landlock,
system call filter, then the proof (`/proc/self/status`, namespaces that are not the host's), then it waits to be put
into a control group of systemd's, then exec. Anything that fails ends it with status 126 and one line on stderr; the
server does not start less confined than was asked.
"""

import _ctypes
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from callgate.sandbox.stub_start import Order

REFUSED = 126

# linux/prctl.h
_PDEATHSIG, _SECCOMP, _NO_NEW_PRIVS, _SUBREAPER = 1, 22, 38, 36
# linux/landlock.h: rights to files by the ABI that brought them
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_FIRST_ABI = (1 << 13) - 1
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND, _CONNECT = 1, 2
_SCOPES = 3  # abstract unix sockets, signals
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same number on every architecture
_PATH_ONLY = 0o10000000 | 0o2000000  # O_PATH | O_CLOEXEC


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _Wide(_ctypes.CFuncPtr):
    """A function of libc that returns a long: `syscall`."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class _Narrow(_ctypes.CFuncPtr):
    """A function of libc that returns an int: read as a long, its -1 would be a large number."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


def _function(name: str) -> "Any":
    kind = _Wide if name == "syscall" else _Narrow
    return kind(_ctypes.dlsym(_ctypes.dlopen(None, 0), name))  # type: ignore[arg-type]


def _call(function: "Any", what: str, *arguments: "int | bytes | None") -> int:
    """Call into libc; integers as C longs. Raises OSError."""
    result: int = function(*[_Long(one) if isinstance(one, int) else one for one in arguments])
    if result < 0:
        error = _ctypes.get_errno()
        raise OSError(error, what + ": " + posix.strerror(error))
    return result


def set_limits(limits: "list[tuple[int, int]]") -> None:
    """Soft and hard, never above what is already in force."""
    prlimit = _function("prlimit")
    for resource, value in limits:
        now = bytearray(16)
        block = (_Byte * 16).from_buffer(now)
        if prlimit(_Long(0), _Long(resource), None, block) < 0:
            raise OSError(_ctypes.get_errno(), "prlimit")
        hard = int.from_bytes(now[8:], sys.byteorder)
        wanted = min(value, hard)
        both = wanted.to_bytes(8, sys.byteorder) * 2
        _call(prlimit, "prlimit", 0, resource, both, None)


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "B"


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    try:
        return _call(_function("syscall"), "landlock", _CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def rights(abi: int) -> "dict[str, int]":
    """What each kind of path gets, as far as this kernel knows the right; `all` is what is held at all."""
    held = _FIRST_ABI
    if abi >= 2:
        held |= _REFER
    if abi >= 3:
        held |= _TRUNCATE
    if abi >= 5:
        held |= _IOCTL_DEV
    read = _READ_FILE | _READ_DIR
    return {
        "all": held,
        "read": read,
        "execute": read | _EXECUTE,
        "write": held & ~(_EXECUTE | _MAKE_CHAR | _MAKE_BLOCK),
        "device": held & (read | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV),
    }


def restrict(order: "Order") -> None:
    """Put this process, and all it becomes and starts, under Landlock."""
    abi = landlock_abi()
    if abi < order["landlock"]:
        raise OSError(38, "Landlock was version " + str(order["landlock"]) + " and is " + str(abi))
    if not order["landlock"]:
        return
    syscall = _function("syscall")
    kinds = rights(abi)
    ports = order["ports"]
    network = _BIND | _CONNECT if abi >= 4 and ports is not None else 0
    scopes = _SCOPES if abi >= 6 else 0
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = b"".join(one.to_bytes(8, sys.byteorder) for one in (kinds["all"], network, scopes))
    ruleset = _call(syscall, "landlock_create_ruleset", _CREATE_RULESET, attributes, size, 0)
    judged = {path: (device, inode) for path, device, inode in order["same"]}
    for path, kind in order["paths"]:
        try:
            at = posix.open(path, _PATH_ONLY)
        except FileNotFoundError:
            continue  # nothing there: nothing to allow
        allowed = kinds[kind]
        found = posix.fstat(at)
        if judged.get(path, (found.st_dev, found.st_ino)) != (found.st_dev, found.st_ino):
            raise OSError(1, path + " is not what was named")
        if found.st_mode & 0o170000 != 0o040000:
            allowed &= _ON_FILES
        beneath = allowed.to_bytes(8, sys.byteorder) + at.to_bytes(4, sys.byteorder)
        _call(syscall, "landlock_add_rule " + path, _ADD_RULE, ruleset, 1, beneath, 0)
        posix.close(at)
    if network:
        for port in ports or ():
            rule = _CONNECT.to_bytes(8, sys.byteorder) + port.to_bytes(8, sys.byteorder)
            _call(syscall, "landlock_add_rule", _ADD_RULE, ruleset, 2, rule, 0)
    _call(syscall, "landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    posix.close(ruleset)


def filter_calls(program: bytes) -> None:
    """Install the system call filter."""
    held = bytearray(program)
    block = (_Byte * len(held)).from_buffer(held)
    address = _ctypes.addressof(block)
    both = (len(held) // 8).to_bytes(8, sys.byteorder) + address.to_bytes(8, sys.byteorder)
    _call(_function("prctl"), "seccomp", _SECCOMP, 2, both, 0, 0)


def enter_profile(name: str) -> None:
    """At the next exec, become confined by an AppArmor profile, beside the one that is in force already."""
    place = "/proc/self/attr/apparmor/"
    try:
        posix.stat(place)
    except OSError:  # before Linux 5.1
        place = "/proc/self/attr/"
    with open(place + "current") as file:
        word = "exec " if file.read().startswith("unconfined") else "stack "
    fd = posix.open(place + "exec", posix.O_WRONLY)
    try:
        posix.write(fd, (word + name).encode())
    except OSError as error:
        raise OSError(
            error.errno, "the AppArmor profile " + name + " cannot be entered from the one in force"
        ) from error
    posix.close(fd)
    with open(place + "exec") as file:
        said = file.read()
    if name not in said.replace("//&", " ").split():
        raise OSError(1, "the AppArmor profile " + name + " was not taken")


def prove(order: "Order") -> None:
    """Raise OSError unless the kernel says that this process is confined."""
    with open("/proc/self/status", "rb") as file:
        status = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    expected = {b"NoNewPrivs": 1, b"Seccomp": 2, **dict.fromkeys(order["no_capabilities"], 0)}
    for member, value in expected.items():
        if int(status.get(member, b"-1"), 16) != value:
            raise OSError(1, member.decode() + " is not " + str(value))
    for name, number in order["outside"]:
        if posix.stat("/proc/self/ns/" + name).st_ino == number:
            raise OSError(1, "the " + name + " namespace is the host's")
    for path, device, inode in order["same"]:
        found = posix.stat(path)
        if (found.st_dev, found.st_ino) != (device, inode):
            raise OSError(1, path + " is not what was named")


def main(order: "Order") -> None:
    """Confine this process as ordered and become the server."""
    try:
        groups, meeting = order["control_groups"], order["meeting"]
        first = 3
        for fd in sorted([*groups, meeting] if meeting >= 0 else groups):
            posix.closerange(first, fd)
            first = fd + 1
        posix.closerange(first, 1 << 20)
        for fd in groups:
            posix.write(fd, b"0")
            posix.close(fd)
        prctl = _function("prctl")
        if order["alone"]:  # there is no process namespace to end with the server
            _call(prctl, "prctl", _PDEATHSIG, 9, 0, 0, 0)
            _call(prctl, "prctl", _SUBREAPER, 1, 0, 0, 0)
        posix.chdir(order["cwd"])
        if order["profile"]:
            enter_profile(order["profile"])
        set_limits(order["limits"])
        _call(prctl, "prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
        restrict(order)
        if order["filter"]:
            filter_calls(order["filter"])
        prove(order)
        if meeting >= 0:  # last: a control group takes the kernel about as long as all of this
            posix.write(meeting, b"r")
            if posix.read(meeting, 1) != b"g":
                raise OSError(3, "callgate did not put it into its control group")
            posix.close(meeting)
        argv = order["argv"]
        posix.execve(argv[0], argv, order["environment"])
    except Exception as error:  # noqa: BLE001  whatever it is, the server must not start
        posix.write(
            2, ("callgate: the server was not started, its sandbox does not hold: " + str(error) + "\n").encode()
        )
        posix._exit(REFUSED)
