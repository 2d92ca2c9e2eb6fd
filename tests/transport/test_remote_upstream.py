"""A Streamable HTTP server as a stream of messages; most of it is tested with the face in front, in test_sse_beside."""

from __future__ import annotations

import asyncio
import threading

from callgate.config import Limits, ServerConfig
from callgate.transport.routes import build_route
from callgate.transport.sse_beside import SseBesideHttp
from tests.gate.fakes import gate_of
from tests.transport.http.harness import Peer, Request, Upstream
from tests.transport.test_sse_legacy import SseClient


async def test_what_was_negotiated_and_allowed_while_the_gate_was_reloaded_is_known_afterwards() -> None:
    """Without its header a server takes another revision for the negotiated one."""
    asked, reloaded = threading.Event(), threading.Event()
    shown: list[str | None] = []

    def respond(request: Request, peer: Peer) -> None:
        message = request.json() if request.method == "POST" else {}
        if message.get("method") == "initialize":
            asked.set()
            reloaded.wait(60)
            result = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "s", "version": "0"}}
            peer.result(request, result)
        elif "id" in message:
            shown.append(request.header("mcp-protocol-version"))
            peer.answer(b"", "500 Internal Server Error")
        else:
            peer.answer(b"", "202 Accepted" if message else "405 Method Not Allowed")

    upstream = Upstream(respond)
    server = ServerConfig("x", url=f"http://127.0.0.1:{upstream.port}/mcp", transport="http")
    before, _ = gate_of(limits=Limits(request_bytes=1024))
    gate, _ = gate_of()
    route = build_route(server, before)
    assert isinstance(route, SseBesideHttp)
    try:
        client = SseClient(route)
        await client.open()
        start = asyncio.create_task(client.start())
        await asyncio.to_thread(asked.wait, 30)
        route.renew(server, gate)
        reloaded.set()
        await start
        client.say({"id": 1, "method": "x", "params": {"text": "longer than the gate from before allowed" * 50}})
        assert "HTTP 500" in (await client.told(1))["error"]["message"]
        assert shown == ["2024-11-05"]
    finally:
        reloaded.set()
        await route.close(1.0)
        before.close()
        gate.close()
        upstream.close()
