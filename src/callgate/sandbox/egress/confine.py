"""The gate's process gives away what it does not need, before it reads a byte from the sandbox.

No new privileges, no capabilities, no core dumps, memory closed to others of the same user; on kernels with
Landlock, nothing of the file system can be written or executed, and only the system's part of it read.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
_READING = _READ_FILE | _READ_DIR
_FILE_SYSTEM = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
"""Everything Landlock can handle in the file system, by ABI; 0xFFFF from 5 on."""
_READABLE = ("/etc", "/usr", "/lib", "/lib64", "/bin", "/run/systemd/resolve", "/run/nscd", "/dev", "/nix/store")
_RESOLVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
"""Often links to elsewhere, and written anew while we run."""
_BIND_TCP, _ABSTRACT_UNIX, _SIGNALS = 1, 1, 2
_CAPABILITY_VERSION_3 = 0x20080522


def confine() -> list[str]:
    """Apply what this system offers; what could not be done, in words. For a process with one thread."""
    missing: list[str] = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return ["no confinement of the gate itself on this system"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        missing.append("no_new_privs")
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, struct.pack("6I", *[0] * 6)):
        missing.append("capabilities")
    if not _landlock(libc):
        missing.append("Landlock")
    return missing


def _landlock(libc: ctypes.CDLL) -> bool:
    abi = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if abi < 1:
        return False
    # File system from ABI 1, TCP ports from 4 (it binds none), abstract sockets and signals from 6.
    handled = struct.pack("Q", _FILE_SYSTEM.get(abi, 0xFFFF))
    handled += struct.pack("Q", _BIND_TCP) if abi >= 4 else b""
    handled += struct.pack("Q", _ABSTRACT_UNIX | _SIGNALS) if abi >= 6 else b""
    ruleset = libc.syscall(_CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    try:
        resolver = (os.path.dirname(os.path.realpath(path)) for path in _RESOLVER)
        for path in dict.fromkeys((*_READABLE, *resolver, sys.prefix, sys.base_prefix, *sys.path)):
            _allow(libc, ruleset, path)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    if not path or not os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("<Qi", _READING, descriptor)
        libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
    finally:
        os.close(descriptor)
