"""Starting what must not start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time

from calls import call
from probes import Refused, executed, probe, program, read


def _dropped(folder: str) -> str:
    """A program made executable as it is created: a sandbox that refuses chmod has not refused the program."""
    path = os.path.join(folder, f"dropped-{os.getpid()}")
    os.umask(0)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755), "wb") as file:
        file.write(read(program("true", "/usr/bin/true", "/bin/true")))
    return path


@probe("programs", "starts a program it put into the project")
def drop_exec(facts):
    path = _dropped(facts["project"])
    return executed(lambda: os.execv(path, [path]))


@probe("programs", "starts a program it put into its temporary directory")
def tmp_exec(facts):
    path = _dropped(tempfile.gettempdir())
    return executed(lambda: os.execv(path, [path]))


@probe("programs", "starts a program it put into its home")
def home_exec(facts):
    path = _dropped(os.environ.get("HOME", "/"))
    return executed(lambda: os.execv(path, [path]))


@probe("programs", "starts a program it put into /dev/shm")
def shm_exec(facts):
    path = _dropped("/dev/shm")
    return executed(lambda: os.execv(path, [path]))


@probe("programs", "starts a program from memory (memfd)")
def memfd_exec(facts):
    descriptor = call("memfd_create", b"x", 0)
    os.write(descriptor, read(program("true", "/usr/bin/true", "/bin/true")))
    return executed(lambda: os.execve(descriptor, ["true"], {}))


@probe("programs", "starts a dropped program through the dynamic loader")
def loader_exec(facts):
    loader = program("loader", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    path = _dropped(facts["project"])
    return executed(lambda: os.execv(loader, [loader, path]))


@probe("programs", "starts a set-user-ID program and becomes root in it")
def setuid_program(facts):
    su = program("su", "/usr/bin/su", "/bin/su")
    process = subprocess.Popen([su], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline and process.poll() is None:
            with open(f"/proc/{process.pid}/status") as file:
                lines = file.read().splitlines()
            uid = next(line.split() for line in lines if line.startswith("Uid:"))
            if uid[2] == "0" != uid[1]:
                return "effective user 0"
            time.sleep(0.005)
    finally:
        with contextlib.suppress(OSError):
            process.kill()
        if process.stdin:
            process.stdin.close()
        process.wait()
    raise Refused("started without root")


@probe("programs", "finds variables of the launcher that make programs load its code")
def loader_variables(facts):
    names = [
        n for n in ("LD_PRELOAD", "LD_LIBRARY_PATH", "NODE_OPTIONS", "PYTHONSTARTUP", "BASH_ENV") if n in os.environ
    ]
    if not names:
        raise Refused("none is set")
    return ",".join(names)
