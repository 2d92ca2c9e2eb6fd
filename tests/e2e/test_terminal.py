"""`callgate serve` in a terminal: it ends when the terminal is closed, and reads its configuration on a SIGHUP else."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.gateway import get_status, write_config
from tests.support.processes import CALLGATE, free_port, wait_until

pytestmark = pytest.mark.timeout(240)


def listens(port: int) -> bool:
    try:
        return get_status(port, "/readyz") == 200
    except OSError:
        return False


@pytest.mark.skipif(not shutil.which("setsid"), reason="needs setsid (util-linux)")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_ends_with_its_terminal(workers: str, tmp_path: Path) -> None:
    port = free_port()
    config = write_config(tmp_path / "callgate.toml", {}, port, state_dir=str(tmp_path / "state"))
    terminal, inside = pty.openpty()
    command = ["setsid", "--ctty", CALLGATE, "serve", "--config", str(config), "--workers", workers]
    gateway = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    said: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            if select.select([terminal], [], [], 0.1)[0]:
                said.append(os.read(terminal, 65536))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(lambda: listens(port), 60, "readyz")
        gateway.send_signal(signal.SIGHUP)
        wait_until(lambda: b"was read again" in b"".join(said), 60, "the reload")
        assert gateway.poll() is None
        assert listens(port)
        done.set()
        reader.join()
        os.close(terminal)
        assert gateway.wait(60) == 0, "it outlived its terminal"
        assert not listens(port)
    finally:
        done.set()
        gateway.kill()
        gateway.wait()
