"""Listening sockets inside another process's network namespace, made from outside, without privileges.

A forked helper enters the user namespace that *owns* the network namespace (the sandbox may already have gone one
deeper) and then the network namespace, binds, and sends the sockets back (SCM_RIGHTS). A socket stays in the
namespace it was made in; the helper lives for about a millisecond. Joining a user namespace needs a process with
one thread: that is why there is a fork.

`_socket` is the C half of `socket`: the other half costs five milliseconds at start-up and adds nothing here.
"""

from __future__ import annotations

import _socket
import os
import sys
from _thread import allocate_lock

from callgate.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NS_GET_USERNS = 0xB701
_IP_FREEBIND = 15
_SOL_IP = 0
_TIMEOUT_S = 5.0
_CLOEXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
BACKLOG = 128
_FORKING = allocate_lock()
"""Servers are started in threads, and what silences the warning about that is the whole process' (before 3.14)."""
MAX_LISTENERS = 64

SOCKET = _socket.SOCK_STREAM | getattr(_socket, "SOCK_CLOEXEC", 0)


def listen_inside(pid: int, addresses: Sequence[tuple[str, int]]) -> list[int]:
    """Descriptors that listen on `addresses` in the network namespace of `pid`. Raises SandboxError."""
    import fcntl  # noqa: F401 # imported before the fork: no import lock is taken after it
    import warnings

    if len(addresses) > MAX_LISTENERS:
        raise SandboxError(f"the network list names more than {MAX_LISTENERS - 1} different ports")
    join = _joining()
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, SOCKET)
    with _FORKING, warnings.catch_warnings():
        # The helper touches no lock of another thread: it makes system calls and ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        helper = os.fork()
        if helper == 0:  # at once, whatever another thread holds: it never comes out of here
            _help(join, theirs, pid, addresses)
    theirs.close()
    return _take(ours, helper, len(addresses))


def _joining() -> Callable[[int, int], None]:
    """setns(2). Raises OSError."""
    if sys.version_info >= (3, 12):
        return os.setns
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def setns(space: int, kind: int) -> None:
        if libc.setns(space, kind):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return setns


def _help(
    join: Callable[[int, int], None], channel: _socket.socket, pid: int, addresses: Sequence[tuple[str, int]]
) -> None:
    """In the helper: never returns."""
    try:
        _enter(join, pid)
        made = []
        for address in addresses:
            one = _socket.socket(_socket.AF_INET, SOCKET)
            one.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            one.setsockopt(_SOL_IP, _IP_FREEBIND, 1)
            one.bind(address)
            one.listen(BACKLOG)
            made.append(one)
        numbers = b"".join(one.fileno().to_bytes(4, sys.byteorder) for one in made)
        channel.sendmsg([b"+"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
    except OSError as error:
        channel.send(b"-" + str(error.strerror).encode())
    finally:
        os._exit(0)


def _enter(join: Callable[[int, int], None], pid: int) -> None:
    import fcntl

    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(network, _NS_GET_USERNS)
    own = os.stat("/proc/self/ns/user")
    there = os.fstat(owner)
    spaces = [(network, _CLONE_NEWNET)]
    if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino):  # one's own cannot be joined again
        spaces.insert(0, (owner, _CLONE_NEWUSER))
    for space, kind in spaces:
        join(space, kind)


def _take(channel: _socket.socket, helper: int, count: int) -> list[int]:
    """What the helper sent, and the helper waited for."""
    channel.settimeout(_TIMEOUT_S)
    try:
        message, control, _flags, _from = channel.recvmsg(256, _socket.CMSG_SPACE(4 * MAX_LISTENERS), _CLOEXEC)
    except OSError:
        message, control = b"", []
        os.kill(helper, 9)
    finally:
        channel.close()
        try:
            os.waitpid(helper, 0)
        except ChildProcessError:
            pass  # somebody else reaps our children
    found = [
        int.from_bytes(data[at : at + 4], sys.byteorder)
        for level, kind, data in control
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for at in range(0, len(data) - len(data) % 4, 4)
    ]
    if message != b"+" or len(found) != count:
        for number in found:
            os.close(number)
        why = message[1:].decode("utf-8", "replace") if message[:1] == b"-" else "the helper gave no answer"
        raise SandboxError(
            f"cannot open the egress gate in the sandbox's network namespace: {why}",
            next_step="run `callgate sandbox doctor`, or remove the server's network list",
        )
    return found


def listen_on_loopback() -> tuple[int, int]:
    """A descriptor that listens on 127.0.0.1, at a random high port, and that port. Raises SandboxError."""
    try:
        one = _socket.socket(_socket.AF_INET, SOCKET)
        one.bind(("127.0.0.1", 0))
        one.listen(BACKLOG)
    except OSError as error:
        raise SandboxError(f"cannot open the egress gate on loopback: {error.strerror}") from error
    port: int = one.getsockname()[1]
    return one.detach(), port
