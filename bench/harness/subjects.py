"""What is measured: the direct connection, the floors, callgate and the peers.

A subject that is not installed says so and is left out; nothing else depends on it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.build import program
from bench.harness.paths import FLOORS, INSTALLED, PEERS

Absent = str
"""Why a subject cannot be measured; empty when it can."""


@dataclass(frozen=True, slots=True)
class StdioSubject:
    """A stdio gateway. `command` gets the server's command and a scratch directory of its own."""

    name: str
    command: Callable[[list[str], Path], list[str]]
    environment: Callable[[Path], Mapping[str, str]] = lambda _: {}
    load: tuple[str, ...] = ()
    """Options for stdio_load: how this gateway names the tool and the like."""
    absent: Callable[[], Absent] = lambda: ""
    pace_s: float = 0.0
    """Measure at least so long: slow subjects need it for enough samples."""
    peer: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """A running HTTP gateway to be: its command, and what to do once it listens."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    setup: Callable[[], tuple[str, ...]] | None = None
    """Called when the port answers; returns further options for http_load."""


@dataclass(frozen=True, slots=True)
class HttpSubject:
    """An HTTP gateway. `launch` gets its port, the server's port and a scratch directory; None: no gateway."""

    name: str
    launch: Callable[[int, int, Path], Launch] | None
    load: tuple[str, ...] = ()
    absent: Callable[[], Absent] = lambda: ""
    pace_s: float = 0.0
    start_timeout_s: float = 30.0
    workers: int = 1
    peer: bool = False


def callgate_command() -> list[str]:
    """The console script beside this interpreter, as a user starts it; else the module."""
    script = Path(sys.executable).with_name("callgate")
    return [str(script)] if script.exists() else [sys.executable, "-m", "callgate.cli.main"]


def missing(path: Path, how: str) -> Callable[[], Absent]:
    """A check that `path` is there."""
    return lambda: "" if path.exists() else f"not installed: {how}"


def _on_path(name: str, how: str) -> Callable[[], Absent]:
    return lambda: "" if _system(name) else f"not installed: {how}"


def _system(name: str) -> str | None:
    """Also where Debian puts daemons, which is not on every user's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def template(name: str, target: Path, **values: object) -> Path:
    """A configuration file from `bench/peers/`, with its @NAMES@ replaced."""
    text = (PEERS / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", str(value))
    target.write_text(text)
    return target


# ---- callgate ----

WITHOUT = {"CALLGATE_NATIVE": "off"}
NOTHING: Mapping[str, str] = {}


def _callgate_run(server: list[str], _: Path) -> list[str]:
    # The gate's own cost: what the sandbox adds is measured by bench/sandbox.py.
    return [*callgate_command(), "run", "--sandbox", "none", "--", *server]


def _state(scratch: Path) -> dict[str, str]:
    return {"CALLGATE_STATE_DIR": str(scratch / "state")}


def _callgate_serve(
    workers: int, tls: bool, environment: Mapping[str, str] = NOTHING
) -> Callable[[int, int, Path], Launch]:
    def launch(port: int, server_port: int, scratch: Path) -> Launch:
        lines = [
            f'state_dir = "{scratch / "state"}"',
            "[listen]",
            f'address = "127.0.0.1:{port}"',
            f"workers = {workers}",
        ]
        if tls:
            from bench.harness.tls import self_signed

            certificate, key = self_signed(scratch)
            lines += [f'tls_certificate = "{certificate}"', f'tls_key = "{key}"']
        lines += ["[servers.echo]", f'url = "http://127.0.0.1:{server_port}/mcp"']
        config = scratch / "callgate.toml"
        config.write_text("\n".join(lines) + "\n")
        return Launch([*callgate_command(), "serve", "--config", str(config)], environment)

    return launch


# ---- floors, and proxies that look at nothing ----

INSPECTS = str(FLOORS / "stdio_inspecting_relay.py")


def _tcp_relay(port: int, server_port: int, _: Path) -> Launch:
    return Launch([sys.executable, str(FLOORS / "tcp_relay.py"), str(port), str(server_port)])


def _nginx(port: int, server_port: int, scratch: Path) -> Launch:
    config = template("nginx.conf", scratch / "nginx.conf", port=port, server_port=server_port, scratch=scratch)
    return Launch([_system("nginx") or "nginx", "-c", str(config), "-e", str(scratch / "error.log")])


def _envoy(port: int, server_port: int, scratch: Path) -> Launch:
    config = template("envoy.yaml", scratch / "envoy.yaml", port=port, server_port=server_port)
    return Launch(
        [str(ENVOY), "-c", str(config), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]
    )


ENVOY = INSTALLED / "envoy" / "bin" / "envoy"


# ---- peers ----


def _peer_python(name: str) -> Path:
    return INSTALLED / name / "bin" / "python"


INSTALL = "bench/peers/install.py "


def _fastmcp_stdio(server: list[str], _: Path) -> list[str]:
    return [str(_peer_python("fastmcp")), str(PEERS / "fastmcp_proxy.py"), "stdio", *server]


def _fastmcp_http(port: int, server_port: int, _: Path) -> Launch:
    url = f"http://127.0.0.1:{server_port}/mcp"
    return Launch([str(_peer_python("fastmcp")), str(PEERS / "fastmcp_proxy.py"), "http", str(port), url])


def _lasso(server: list[str], scratch: Path) -> list[str]:
    import json

    config = template(
        "lasso.json",
        scratch / "lasso.json",
        command=json.dumps(server[0])[1:-1],
        arguments=json.dumps(server[1:]),
    )
    return [str(INSTALLED / "lasso" / "bin" / "mcp-gateway"), "--mcp-json-path", str(config)]


def _context_protector(server: list[str], scratch: Path) -> list[str]:
    import shlex

    checkout = Path(os.environ["BENCH_CONTEXT_PROTECTOR"])
    return [str(checkout / "mcp-context-protector.sh"), "--command", shlex.join(server), "--server-config-file",
            str(scratch / "servers.json")]  # fmt: skip


def _no_context_protector() -> Absent:
    checkout = os.environ.get("BENCH_CONTEXT_PROTECTOR", "")
    if checkout and (Path(checkout) / "mcp-context-protector.sh").exists():
        return ""
    return "not installed: it is on no package registry; name a checkout in BENCH_CONTEXT_PROTECTOR"


def _mcp_proxy_http(port: int, _: int, scratch: Path) -> Launch:
    command = [str(INSTALLED / "mcp-proxy" / "bin" / "mcp-proxy"), "--port", str(port), "--log-level", "ERROR"]
    return Launch([*command, "--", program("stdio_echo")])


def _contextforge(port: int, server_port: int, scratch: Path) -> Launch:
    from bench.harness.contextforge import launch

    return launch(_peer_python("contextforge"), port, server_port, scratch)


STDIO = {
    subject.name: subject
    for subject in (
        StdioSubject("direct", lambda server, _: server),
        StdioSubject("c-pump", lambda server, _: [program("stdio_pump"), "threads", *server]),
        StdioSubject("c-pump-splice", lambda server, _: [program("stdio_pump"), "splice", *server]),
        StdioSubject("py-relay", lambda server, _: [sys.executable, str(FLOORS / "stdio_relay.py"), *server]),
        StdioSubject("py-inspects", lambda server, _: [sys.executable, INSPECTS, "inspect", *server]),
        StdioSubject("py-records", lambda server, _: [sys.executable, INSPECTS, "record", *server]),
        StdioSubject("callgate", _callgate_run, environment=_state),
        StdioSubject("callgate-python", _callgate_run, environment=lambda scratch: {**_state(scratch), **WITHOUT}),
        StdioSubject(
            "fastmcp",
            _fastmcp_stdio,
            absent=missing(_peer_python("fastmcp"), INSTALL + "fastmcp"),
            pace_s=1.5,
            peer=True,
        ),
        StdioSubject(
            "lasso",
            _lasso,
            load=("--tool", "echo_echo", "--settle-ms", "500"),
            absent=missing(INSTALLED / "lasso" / "bin" / "mcp-gateway", INSTALL + "lasso"),
            environment=lambda _: {"LOGLEVEL": "ERROR"},
            pace_s=1.5,
            peer=True,
        ),
        StdioSubject("mcp-context-protector", _context_protector, absent=_no_context_protector, pace_s=1.5, peer=True),
    )
}

HTTP = {
    subject.name: subject
    for subject in (
        HttpSubject("direct", None),
        HttpSubject("l4-pump", lambda port, server, _: Launch([program("l4_pump"), str(port), str(server)])),
        HttpSubject("py-relay", _tcp_relay),
        HttpSubject("nginx", _nginx, absent=_on_path("nginx", "Debian's nginx")),
        HttpSubject("envoy", _envoy, absent=missing(ENVOY, INSTALL + "envoy")),
        HttpSubject("callgate", _callgate_serve(1, False), load=("--path", "/echo/mcp")),
        HttpSubject("callgate-python", _callgate_serve(1, False, WITHOUT), load=("--path", "/echo/mcp")),
        HttpSubject("callgate-2-workers", _callgate_serve(2, False), load=("--path", "/echo/mcp"), workers=2),
        HttpSubject("callgate-tls", _callgate_serve(1, True), load=("--path", "/echo/mcp", "--tls")),
        HttpSubject(
            "mcp-proxy",
            _mcp_proxy_http,
            absent=missing(INSTALLED / "mcp-proxy" / "bin" / "mcp-proxy", INSTALL + "mcp-proxy"),
            pace_s=1.5,
            peer=True,
        ),
        HttpSubject(
            "fastmcp",
            _fastmcp_http,
            absent=missing(_peer_python("fastmcp"), INSTALL + "fastmcp"),
            pace_s=4.0,
            peer=True,
        ),
        HttpSubject(
            "contextforge",
            _contextforge,
            absent=missing(_peer_python("contextforge"), INSTALL + "contextforge"),
            pace_s=4.0,
            start_timeout_s=120,
            peer=True,
        ),
    )
}
