"""mcp-contextforge-gateway with its plain defaults: SQLite, memory cache, one uvicorn worker, JWT bearer.

What its defaults would refuse here is said, and nothing else: rate limits off, servers on loopback allowed,
secrets made for this run.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness.subjects import Launch

ADMIN = "admin@example.com"
READY_S = 60.0


def launch(python: Path, port: int, server_port: int, scratch: Path) -> Launch:
    """Start on `port`; the setup registers the echo server and returns where to send calls."""
    environment = {
        "DATABASE_URL": f"sqlite:///{scratch / 'contextforge.db'}",
        "CACHE_TYPE": "memory",
        "RATE_LIMITING_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "JWT_SECRET_KEY": secrets.token_urlsafe(48),
        "AUTH_ENCRYPTION_SECRET": secrets.token_urlsafe(48),
        "BASIC_AUTH_PASSWORD": "Pw1-" + secrets.token_urlsafe(24),
        "PLATFORM_ADMIN_EMAIL": ADMIN,
        "PLATFORM_ADMIN_PASSWORD": "Pw1-" + secrets.token_urlsafe(24),
        "DEFAULT_USER_PASSWORD": "Pw1-" + secrets.token_urlsafe(24),
        "LOG_LEVEL": "ERROR",
        "HOST": "127.0.0.1",
        "ENVIRONMENT": "development",
    }
    command = [
        *(str(python), "-m", "uvicorn", "mcpgateway.main:app", "--host", "127.0.0.1", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"),
    ]
    return Launch(command, environment, lambda: _register(python, environment, port, server_port, scratch))


def _register(
    python: Path, environment: Mapping[str, str], port: int, server_port: int, scratch: Path
) -> tuple[str, ...]:
    import os

    create = [str(python), "-m", "mcpgateway.utils.create_jwt_token", "--username", ADMIN, "--exp", "600"]
    result = subprocess.run(
        [*create, "--secret", environment["JWT_SECRET_KEY"]],
        env={**os.environ, **environment},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=True,
    )
    admin = _Admin(port, result.stdout.strip().splitlines()[-1])
    admin.wait()
    admin.post(
        "/gateways", {"name": "echo", "url": f"http://127.0.0.1:{server_port}/mcp", "transport": "STREAMABLEHTTP"}
    )
    tool = next(tool["id"] for tool in admin.get("/tools") if tool["name"] == "echo-echo")
    server = admin.post("/servers", {"server": {"name": "bench", "associated_tools": [tool]}})
    bearer = f"Authorization: Bearer {admin.token}"
    return ("--path", f"/servers/{server['id']}/mcp", "--tool", "echo-echo", "--header", bearer)


class _Admin:
    """Its administration API."""

    def __init__(self, port: int, token: str) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.token = token

    def get(self, path: str) -> Any:
        return self._send(urllib.request.Request(self.base + path, headers=self._headers()))

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        data = json.dumps(body).encode()
        return self._send(urllib.request.Request(self.base + path, data, headers=self._headers()))

    def wait(self) -> None:
        """It listens before it is ready."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.get("/tools")
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def _send(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
