"""A signal reaches the server behind its sandbox, and a plain server as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callgate.transport.signals import inner_processes, signal_server

BWRAP = "/usr/bin/bwrap"
POLITE = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"polite\\n"), sys.exit(7)))
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


def start(*prefix: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-I", "-S", "-c", POLITE], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_plain_server_gets_the_signal() -> None:
    process = start()
    signal_server(process.pid, signal.SIGTERM, confined=False)
    assert process.communicate(timeout=60)[0] == b"polite\n"
    assert process.returncode == 7


def test_a_confined_process_without_a_wrapper_gets_it_too() -> None:
    process = start()
    assert inner_processes(process.pid) == []
    signal_server(process.pid, signal.SIGTERM, confined=True)
    assert process.communicate(timeout=60)[0] == b"polite\n"


@pytest.mark.skipif(not os.access(BWRAP, os.X_OK), reason="no bubblewrap here")
def test_a_server_in_bubblewrap_may_put_its_things_in_order() -> None:
    process = start(BWRAP, "--dev-bind", "/", "/", "--unshare-pid", "--die-with-parent")
    assert len(inner_processes(process.pid)) == 1
    signal_server(process.pid, signal.SIGTERM, confined=True)
    assert process.communicate(timeout=60)[0] == b"polite\n"
    assert process.returncode == 7


@pytest.mark.skipif(not os.access(BWRAP, os.X_OK), reason="no bubblewrap here")
def test_sigkill_ends_sandbox_and_server(tmp_path: Path) -> None:
    process = start(BWRAP, "--dev-bind", "/", "/", "--unshare-pid", "--die-with-parent")
    (inner,) = inner_processes(process.pid)
    signal_server(process.pid, signal.SIGKILL, confined=True)
    assert process.communicate(timeout=60)[0] == b""
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{inner}/exe") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{inner}/cwd") or _is_zombie(inner)


def _is_zombie(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_nobody_there_is_no_error() -> None:
    process = start()
    process.kill()
    process.communicate()
    signal_server(process.pid, signal.SIGTERM, confined=True)
