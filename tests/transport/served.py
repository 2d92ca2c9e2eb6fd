"""A route behind the real HTTP server, on a free port of 127.0.0.1, in the test's own event loop."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from callgate.config import Limits, ListenConfig
from callgate.transport.http.exchange import Route
from callgate.transport.http.request_policy import RequestPolicy
from callgate.transport.http.server import Endpoint, HttpServer, Site


@asynccontextmanager
async def served(route: Route) -> AsyncIterator[str]:
    """The base URL; the route is at /x/mcp, /x/sse and /x/messages."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    listen = replace(ListenConfig(), port=sock.getsockname()[1])
    policy = RequestPolicy(listen)
    endpoints = {path.encode(): Endpoint("x", route, path) for path in ("/x/mcp", "/x/sse", "/x/messages")}
    site = Site(listen, Limits(), policy, policy, endpoints)
    server = HttpServer(site, lambda kind, fields: None)
    await server.listen(sock)
    try:
        yield f"http://127.0.0.1:{listen.port}/x"
    finally:
        await server.drain(0.2)
