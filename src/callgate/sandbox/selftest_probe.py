"""The escapes of the self-test, as a program that runs inside a sandbox and says how each went.

Started as `python -I -S -c SOURCE ARGUMENTS`; it reads no file of callgate's. One line an escape: name, `held` or
`open`, detail. `held` means the attempt failed, as it should; an attempt that cannot be made at all is `open`,
so a sandbox never passes because its test did not run.
"""

# ruff: noqa: D103, S606  an escape's name says what it is, and starting programs is what some of them do

import ctypes
import errno
import os
import signal
import socket
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_ARGUMENTS = dict(one.split("=", 1) for one in sys.argv[1:])
_SECONDS = 2.0


class Held(Exception):
    """The attempt was refused."""


def _call(name: str, *arguments: "int | bytes | None", reached: "tuple[int, ...]" = ()) -> int:
    """A system call by name; raises Held when it is refused. An errno in `reached` shows that it was not."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    ctypes.set_errno(0)
    result = _LIBC.syscall(ctypes.c_long(int(_ARGUMENTS["nr." + name])), *words)
    if result < 0 and ctypes.get_errno() not in reached:
        raise Held(errno.errorcode.get(ctypes.get_errno(), "?"))
    return int(result)


def read_secret() -> None:
    with open(_ARGUMENTS["secret"], "rb") as file:
        file.read()


def list_directory() -> None:
    if "secret" not in os.listdir(os.path.dirname(_ARGUMENTS["secret"])):
        raise Held("another directory")


def write_outside() -> None:
    with open(_ARGUMENTS["outside"], "w") as file:
        file.write("x")


def tcp_loopback() -> None:
    with socket.create_connection(("127.0.0.1", int(_ARGUMENTS["tcp"])), _SECONDS):
        pass


def udp_loopback() -> None:
    """Held when it cannot be sent; whether it arrived, the other side knows (selftest.py)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", int(_ARGUMENTS["udp"])))
    raise Held("sent to nobody")


def unix_path() -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(_ARGUMENTS["unix"])


def unix_abstract() -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + _ARGUMENTS["abstract"])


def netlink_socket() -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def vsock_socket() -> None:
    socket.socket(40, socket.SOCK_STREAM).close()


def raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()


def environ_of_others() -> None:
    marker = _ARGUMENTS["marker"].encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    found = marker in file.read()
            except OSError:
                continue
            if found:
                return
    raise Held("not readable")


def own_environment() -> None:
    if _ARGUMENTS["marker"] not in "".join(os.environ.values()):
        raise Held("not inherited")


def leaked_descriptor() -> None:
    """Whether a descriptor of the starting process is still open: looked at by number, without /proc."""
    for fd in range(3, 1024):
        try:
            os.fstat(fd)
        except OSError:
            continue
        return
    raise Held("none")


def signal_victim() -> None:
    os.kill(_victim(), signal.SIGKILL)


def ptrace_victim() -> None:
    _call("ptrace", 16, _victim(), 0, 0)


def read_memory() -> None:
    target = ctypes.create_string_buffer(8)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(target), 8)
    _call("process_vm_readv", _victim(), bytes(vector), 1, bytes(vector), 1, 0, reached=(errno.EFAULT,))


def _victim() -> int:
    pid = int(_ARGUMENTS["victim"])
    if pid == os.getpid():
        raise Held("that number is its own here")
    return pid


def user_namespace() -> None:
    _call("unshare", 0x10000000)


def user_namespace_clone3() -> None:
    arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
    if _call("clone3", bytes(arguments), 88) == 0:
        os._exit(0)


def mount() -> None:
    _call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, 0)


def kernel_keyring() -> None:
    _call("keyctl", 0, -3, 0, 0, 0)


def bpf() -> None:
    _call("bpf", 0, bytes(128), 128, reached=(errno.EINVAL,))


def io_uring() -> None:
    _call("io_uring_setup", 4, bytes(120))


def perf_events() -> None:
    _call("perf_event_open", bytes(128), 0, -1, -1, 0, reached=(errno.EINVAL, errno.ENOENT))


def userfaultfd() -> None:
    _call("userfaultfd", 1)


def memory_file() -> None:
    _call("memfd_create", b"x", 0)


def terminal_input() -> None:
    _call("ioctl", 0, 0x5412, b"x", reached=(errno.ENOTTY, errno.EIO, errno.EBADF))


def terminal_input_wide() -> None:
    """The kernel looks at half the register; so must the filter."""
    _call("ioctl", 0, 0x1_0000_5412, b"x", reached=(errno.ENOTTY, errno.EIO, errno.EBADF))


def limits_of_others() -> None:
    _call("prlimit64", _victim(), 7, None, bytes(16), reached=(errno.ESRCH,))


def setuid_programs() -> None:
    if _LIBC.prctl(39, 0, 0, 0, 0) == 1:
        raise Held("no_new_privs")


def dropped_program() -> None:
    path = os.path.join(os.environ["HOME"], "dropped")
    with open("/usr/bin/env", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
        os.fchmod(target.fileno(), 0o755)
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path])
        except OSError:
            os._exit(113)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 113:
        raise Held("does not start")


def works_home() -> None:
    """Not an escape: a sandbox in which nothing works would hold everything else."""
    with open(os.path.join(os.environ["HOME"], "own"), "w") as file:
        file.write("x")
    raise Held("writable")


def works_programs() -> None:
    """Not an escape either."""
    child = os.fork()
    if child == 0:
        os.execv("/usr/bin/env", ["/usr/bin/env", "true"])
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        raise Held("start")


ESCAPES = (
    works_home,
    works_programs,
    read_secret,
    list_directory,
    write_outside,
    tcp_loopback,
    udp_loopback,
    unix_path,
    unix_abstract,
    netlink_socket,
    vsock_socket,
    raw_socket,
    environ_of_others,
    own_environment,
    leaked_descriptor,
    ptrace_victim,
    read_memory,
    limits_of_others,
    signal_victim,
    user_namespace,
    user_namespace_clone3,
    mount,
    kernel_keyring,
    bpf,
    io_uring,
    perf_events,
    userfaultfd,
    memory_file,
    terminal_input,
    terminal_input_wide,
    setuid_programs,
    dropped_program,
)


def main() -> None:
    """Try all, one line each."""
    for escape in ESCAPES:
        try:
            escape()
            state, detail = "open", ""
        except Held as refused:
            state, detail = "held", str(refused)
        except OSError as error:
            state, detail = "held", errno.errorcode.get(error.errno or 0, type(error).__name__)
        except Exception as error:  # noqa: BLE001  what could not be tried proves nothing
            state, detail = "open", type(error).__name__
        sys.stdout.write(f"{escape.__name__} {state} {detail}\n")


if __name__ == "__main__":
    main()
