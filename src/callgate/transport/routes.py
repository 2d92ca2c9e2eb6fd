"""From a configured server to the route that reaches it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from callgate.config import ServerConfig, state_directory
from callgate.launching.headers import resolved_headers
from callgate.transport.http.exchange import Route
from callgate.transport.http.route import HttpRoute

if TYPE_CHECKING:
    from callgate.gate.engine import Gate


def build_route(server: ServerConfig, gate: Gate) -> Route:
    """The route for `server`, by its transport. Call it on the running loop. Raises ConfigError, SecretError."""
    if server.url and server.headers:
        headers = resolved_headers(server.headers, state_directory(gate.config), server.name)
        server = replace(server, headers=headers)
    if server.transport == "http":
        return HttpRoute(server, gate)
    from callgate.transport.stdio_upstream import StdioRoute

    return StdioRoute(server, gate, asyncio.get_running_loop())
