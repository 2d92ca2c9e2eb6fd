"""From a configured server to the route that reaches it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from callgate.config import ServerConfig
from callgate.config.places import state_directory
from callgate.launching.headers import LiveHeaders
from callgate.transport.http.exchange import Route
from callgate.transport.sse_beside import SseBesideHttp

if TYPE_CHECKING:
    from callgate.gate.engine import Gate
    from callgate.transport.stdio_upstream import StdioRoute


def build_route(server: ServerConfig, gate: Gate) -> Route:
    """The route for `server`, by its transport. Call it on the running loop. Raises ConfigError, SecretError.

    Nothing is asked of any store here: references are resolved when the first request comes.
    """
    state = state_directory(gate.config)
    if not server.headers or LiveHeaders(server.headers, state, server.name).fixed:
        return _plain(server, gate)
    from callgate.transport.remote_headers import ReferencedRoute

    return ReferencedRoute(_plain(replace(server, headers={}), gate), server, gate, state)


def _plain(server: ServerConfig, gate: Gate) -> SseBesideHttp | StdioRoute:
    if server.transport == "http":
        return SseBesideHttp(server, gate)
    from callgate.transport.stdio_upstream import StdioRoute

    return StdioRoute(server, gate, asyncio.get_running_loop())
