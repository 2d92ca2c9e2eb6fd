"""Other processes of the same user, and what is shared with them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time

from calls import LIBC, call
from probes import MARK, Refused, marked, probe, read


@probe("processes", "sees the processes of the host")
def see_processes(facts):
    line = read(f"/proc/{facts['victim']}/cmdline")
    if b"victim.py" not in line:
        raise Refused("another process has that number")
    return "sees it"


@probe("processes", "reads the environment of another process")
def victim_environment(facts):
    return marked(read(f"/proc/{facts['victim']}/environ"))


@probe("processes", "finds the launcher's secrets in /proc/*/environ, process 1 included")
def launcher_environment(facts):
    own = read("/proc/self/environ")
    for pid in ["1", *filter(str.isdigit, os.listdir("/proc"))]:
        with contextlib.suppress(OSError):
            data = read(f"/proc/{pid}/environ")
            if data != own and b"LAUNCHER_SECRET=" in data:
                return marked(data.partition(b"LAUNCHER_SECRET=")[2])
    raise Refused("no process shows it")


@probe("processes", "finds a secret in its own environment that was not meant for it")
def inherited_environment(facts):
    return marked(os.environ.get("LAUNCHER_SECRET", ""))


@probe("processes", "finds open files that its launcher left")
def inherited_descriptors(facts):
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, Refused):
            if int(name) > 2:
                return marked(os.pread(int(name), 1000, 0))
    raise Refused("none with anything in it")


@probe("processes", "reaches the host's files by a directory that its launcher left open")
def inherited_directory(facts):
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, Refused):
            if int(name) > 2:
                path = facts["home"].lstrip("/") + "/.ssh/id_ed25519"
                return marked(os.read(os.open(path, os.O_RDONLY, dir_fd=int(name)), 1000))
    raise Refused("none is left")


def _not_itself(pid: str) -> None:
    if b"index.py" in read(f"/proc/{pid}/cmdline"):
        raise Refused("that is the server itself")


@probe("processes", "reaches the host's files by the root, directory or open files of the sandbox's first process")
def first_process_links(facts):
    _not_itself("1")
    path = facts["home"] + "/.ssh/id_ed25519"
    places = [f"/proc/1/{link}" for link in ("root", "cwd", "cwd/../../../../../..")]
    with contextlib.suppress(OSError):
        places += [f"/proc/1/fd/{name}" for name in os.listdir("/proc/1/fd")]
    for place in places:
        with contextlib.suppress(OSError, Refused):
            return marked(read(place + path))
    raise Refused("none shows the host")


@probe("processes", "writes into the memory of the sandbox's first process, which no filter holds")
def first_process_memory(facts):
    _not_itself("1")
    with open("/proc/1/maps") as file:
        address = int(file.readline().partition("-")[0], 16)
    with open("/proc/1/mem", "r+b", buffering=0) as file:
        file.seek(address)
        byte = file.read(1)
        file.seek(address)
        file.write(byte)
    return "a byte was written"


@probe("processes", "traces another process (ptrace)")
def ptrace(facts):
    call("ptrace", 16, facts["victim"], 0, 0)
    time.sleep(0.02)
    with contextlib.suppress(OSError):
        call("ptrace", 17, facts["victim"], 0, 0)
    return "attached"


@probe("processes", "reads the memory of another process (process_vm_readv)")
def process_vm_readv(facts):
    size = len(MARK) + 16
    buffer = ctypes.create_string_buffer(size)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), size)
    there = (ctypes.c_size_t * 2)(facts["victim_address"], size)
    call("process_vm_readv", facts["victim"], here, 1, there, 1, 0)
    return marked(buffer.raw)


@probe("processes", "reads /proc/PID/mem of another process")
def proc_mem(facts):
    with open(f"/proc/{facts['victim']}/mem", "rb", buffering=0) as file:
        file.seek(facts["victim_address"])
        return marked(file.read(len(MARK) + 16))


@probe("processes", "takes an open file out of another process (pidfd_getfd)")
def pidfd_getfd(facts):
    handle = call("pidfd_open", facts["victim"], 0)
    return marked(os.pread(call("pidfd_getfd", handle, facts["victim_fd"], 0), 1000, 0))


@probe("processes", "sends a signal to another process")
def signal_process(facts):
    os.kill(facts["victim"], signal.SIGUSR1)
    return "sent"


@probe("processes", "sends a signal to its launcher")
def signal_launcher(facts):
    os.kill(facts["launcher"], signal.SIGUSR2)
    return "sent"


@probe("processes", "changes another process' limits (prlimit)")
def limit_process(facts):
    if b"victim.py" not in read(f"/proc/{facts['victim']}/cmdline"):
        raise Refused("another process has that number")
    resource.prlimit(facts["victim"], resource.RLIMIT_CORE, (0, 0))
    return "changed"


def _daemon(heartbeat: str, seconds: float) -> str:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        os.closerange(3, 64)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with open(heartbeat, "w") as file:
                file.write(f"{os.getpid()} {time.monotonic()}")
            time.sleep(0.02)
        os._exit(0)
    os.wait()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        if os.path.exists(heartbeat):
            return "runs in the background"
        time.sleep(0.01)
    raise Refused("it did not start")


@probe("processes", "lives on after the server was ended (setsid, two forks)", bomb=True)
def daemon(facts):
    return _daemon(facts["project"] + "/heartbeat", 15)


@probe("processes", "lives on, having been started in the server's last moment", bomb=True)
def daemon_at_the_end(facts):
    return _daemon(facts["project"] + "/last-heartbeat", 6)


@probe("processes", "types into the user's terminal (TIOCSTI)")
def type_into_terminal(facts):
    import fcntl
    import termios

    terminal = os.open("/dev/tty", os.O_RDWR)
    for byte in facts["nonce"].encode() + b"\n":
        fcntl.ioctl(terminal, termios.TIOCSTI, bytes([byte]))
    return "typed"


@probe("processes", "writes to the user's terminal by its name")
def write_terminal(facts):
    terminal = os.open(facts["terminal"], os.O_RDWR | os.O_NOCTTY)
    os.write(terminal, facts["nonce"].encode() + b"\n")
    return "written"


@probe("sharing", "attaches System V shared memory of another process")
def sysv_shm(facts):
    segment = call("shmget", facts["shm_key"], 64, 0)
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(segment, None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return marked(ctypes.string_at(address, 40))


@probe("sharing", "opens a POSIX message queue of another process")
def posix_mq(facts):
    call("mq_open", facts["queue"].encode(), os.O_RDONLY, 0, 0)
    return "opened"


@probe("sharing", "reads POSIX shared memory of another process")
def posix_shm(facts):
    return marked(read("/dev/shm/" + facts["shm_name"]))


@probe("sharing", "reads a key from the user's keyring in the kernel")
def user_keyring(facts):
    key = call("keyctl", 10, -4, b"user", facts["key"].encode(), 0)
    buffer = ctypes.create_string_buffer(64)
    call("keyctl", 11, key, buffer, 64, 0)
    return marked(buffer.raw)
