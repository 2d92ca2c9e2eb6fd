"""What the kernel offers beyond what a server needs."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import tempfile
import time

from calls import CLONE_NEWNS, CLONE_NEWUSER, LIBC, X86, call, reached
from probes import Missing, Refused, probe, read, waited


@probe("kernel", "makes a user namespace (unshare)")
def userns_unshare(facts):
    return f"returned {call('unshare', CLONE_NEWUSER)}"


@probe("kernel", "makes a user namespace (clone)")
def userns_clone(facts):
    pid = call("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return f"exit {waited(pid)}"


@probe("kernel", "makes a user namespace (clone3, whose flags a filter cannot see)")
def userns_clone3(facts):
    arguments = (ctypes.c_uint64 * 11)(CLONE_NEWUSER | CLONE_NEWNS, 0, 0, 0, signal.SIGCHLD)
    pid = call("clone3", arguments, ctypes.sizeof(arguments))
    if pid == 0:
        os._exit(0)
    return f"exit {waited(pid)}"


@probe("kernel", "mounts a file system")
def mount(facts):
    return f"returned {call('mount', b'none', tempfile.gettempdir().encode(), b'tmpfs', 0, 0)}"


@probe("kernel", "mounts with the newer calls (fsopen)")
def fsopen(facts):
    return f"returned {call('fsopen', b'tmpfs', 0)}"


@probe("kernel", "clones a mount (open_tree)")
def open_tree(facts):
    return reached("open_tree", -100, b"/", 1)


@probe("kernel", "changes the root of its file system (pivot_root)")
def pivot_root(facts):
    return reached("pivot_root", b".", b".")


@probe("kernel", "leaves a changed root (chroot twice)")
def chroot_escape(facts):
    place = tempfile.mkdtemp()
    call("chroot", place.encode())
    for _ in range(64):
        os.chdir("..")
    call("chroot", b".")
    return "changed the root"


@probe("kernel", "makes a disk's device file (mknod)")
def mknod(facts):
    path = os.path.join(tempfile.gettempdir(), "disk").encode()
    return f"returned {call('mknodat', -100, path, 0o060600, os.makedev(8, 0))}"


@probe("kernel", "joins a namespace of the host (setns)")
def setns(facts):
    for kind in ("net", "mnt", "pid", "user"):
        with contextlib.suppress(OSError), open(f"/proc/{facts['victim']}/ns/{kind}") as file:
            call("setns", file.fileno(), 0)
            return kind
    raise Refused("none")


@probe("kernel", "has capabilities")
def capabilities(facts):
    fields = dict(line.split(":", 1) for line in read("/proc/self/status").decode().splitlines())
    held = {name: fields[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "CapAmb") if int(fields[name], 16)}
    if not held:
        raise Refused("none")
    return str(held)


@probe("kernel", "uses io_uring")
def io_uring(facts):
    return f"returned {call('io_uring_setup', 4, ctypes.create_string_buffer(120))}"


@probe("kernel", "uses bpf")
def bpf(facts):
    return reached("bpf", 0xFFFF, ctypes.create_string_buffer(128), 128)


@probe("kernel", "counts events of the processor (perf_event_open)")
def perf_event(facts):
    attributes = ctypes.create_string_buffer(128)
    struct.pack_into("IIQQQQQ", attributes, 0, 1, 128, 0, 0, 0, 0, 1 << 5 | 1 << 6)
    return f"returned {call('perf_event_open', attributes, 0, -1, -1, 0)}"


@probe("kernel", "handles its own page faults (userfaultfd)")
def userfaultfd(facts):
    return f"returned {call('userfaultfd', 1)}"


@probe("kernel", "adds a key to the kernel's keyring")
def add_key(facts):
    return f"returned {call('add_key', b'user', b'hostile', b'x', 1, -3)}"


@probe("kernel", "watches file events of whole file systems (fanotify)")
def fanotify(facts):
    return f"returned {call('fanotify_init', 0x200, 0)}"


@probe("kernel", "changes how programs are laid out in memory (personality)")
def personality(facts):
    return f"returned {call('personality', 0x0040000)}"


@probe("kernel", "talks to disk quotas (quotactl)")
def quotactl(facts):
    return f"returned {call('quotactl', 0x80000100, 0, 0, 0)}"


@probe("kernel", "loads a kernel (kexec_load)")
def kexec(facts):
    return reached("kexec_load", 0, 0, 0, 0)


@probe("kernel", "loads a kernel module")
def kernel_module(facts):
    return reached("init_module", 0, 0, b"")


@probe("kernel", "reads the kernel's log")
def kernel_log(facts):
    with contextlib.suppress(OSError):
        return f"{call('syslog', 3, ctypes.create_string_buffer(4096), 4096)} bytes"
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    return f"{len(os.read(descriptor, 8192))} bytes"


@probe("kernel", "adds swap space")
def swapon(facts):
    return reached("swapon", b"/nonexistent", 0)


@probe("kernel", "restarts the machine (with a wrong magic number: only asked)")
def reboot(facts):
    return reached("reboot", 1, 2, 3, 0)


@probe("kernel", "sets the clock")
def set_clock(facts):
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"returned {call('clock_settime', 0, (ctypes.c_long * 2)(seconds, nanoseconds))}"


@probe("kernel", "changes the host's name (to what it is)")
def set_hostname(facts):
    name = socket.gethostname().encode()
    return f"returned {call('sethostname', name, len(name))}"


@probe("kernel", "writes to /proc/sys, core_pattern first")
def proc_sys(facts):
    for name in ("kernel/core_pattern", "kernel/hostname", "kernel/modprobe", "vm/drop_caches", "net/ipv4/ip_forward"):
        with contextlib.suppress(OSError):
            os.close(os.open("/proc/sys/" + name, os.O_WRONLY))
            return name
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "sysrq-trigger"


@probe("kernel", "calls the kernel by the 32-bit entry, past filters for 64 bits")
def calls_of_32_bit(facts):
    if not X86:
        raise Missing("x86-64 only")
    # mov eax, 20 (getpid); int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if result != os.getpid():
        raise Refused(f"answered {result}")
    return "getpid answered"


@probe("kernel", "calls the kernel by the x32 numbers")
def calls_of_x32(facts):
    if not X86:
        raise Missing("x86-64 only")
    ctypes.set_errno(0)
    if LIBC.syscall(ctypes.c_long(0x40000000 | 39)) != os.getpid():
        raise OSError(ctypes.get_errno() or errno.ENOSYS, "x32")
    return "getpid answered"


@probe("kernel", "takes real-time priority from other programs")
def realtime(facts):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "first in, first out"
