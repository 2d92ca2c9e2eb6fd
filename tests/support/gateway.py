"""The real `callgate` in front of a server, as a person would start it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import CALLGATE, free_port, running, wait_until

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Gateway:
    """A `callgate serve` that answers."""

    port: int
    state: Path
    log: Path
    config: Path
    process: subprocess.Popen[bytes]
    settings: Mapping[str, Any]

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, server: str) -> str:
        return f"http://127.0.0.1:{self.port}/{server}/mcp"

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)

    def rewrite(self, servers: Mapping[str, Table]) -> None:
        """Other servers in the configuration file, everything else as before."""
        write_config(self.config, servers, self.port, **self.settings)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `callgate` command on the same state."""
        return callgate(*arguments, state=self.state)


def toml(value: object) -> str:
    """A value as TOML; what JSON and TOML write alike, and tables inline."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write_config(path: Path, servers: Mapping[str, Table], port: int = 8484, **sections: Any) -> Path:
    """A configuration file with these servers; `sections` are further keys or tables of it. Unconfined, unless said."""
    sections = {"launch": {"sandbox": "none"}, **sections}
    lines = [f"{name} = {toml(value)}" for name, value in sections.items() if name != "listen"]
    listen = {"address": f"127.0.0.1:{port}", **sections.get("listen", {})}
    lines.append(f"listen = {toml(listen)}")
    lines.append("[servers]")
    lines += [f"{json.dumps(name)} = {toml(table)}" for name, table in servers.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def serve(
    directory: Path,
    servers: Mapping[str, Table],
    mode: str = "enforce",
    state: Path | None = None,
    **sections: Any,
) -> Iterator[Gateway]:
    """`callgate serve`, from ready to drained; its state is `state`, else fresh inside `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    port, state, log = free_port(), state or directory / "state", directory / "serve.log"
    settings = {"mode": mode, **sections}
    config = write_config(directory / "callgate.toml", servers, port, **settings)
    environment = {"CALLGATE_STATE_DIR": str(state)}
    command = [CALLGATE, "serve", "--config", str(config)]
    with running(command, port, environment=environment, log=log) as process:
        wait_until(lambda: _ready(port), 60, "readyz")
        yield Gateway(port, state, log, config, process, settings)


def callgate(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    """Run a `callgate` command to its end."""
    return subprocess.run(
        [CALLGATE, *arguments],
        env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_command(command: Sequence[str], *options: str) -> list[str]:
    """The command line that puts `callgate run` in front of `command`."""
    return [CALLGATE, "run", *options, "--", *command]


def _ready(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return get_status(port, "/readyz") == 200
    return False


def get_status(port: int, path: str) -> int:
    """The status of a GET."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status
