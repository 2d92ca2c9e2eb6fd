"""What clients POST: decided before it goes on."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.transport.http.harness import META, call, post
from tests.transport.http.test_route import INITIALIZE, sessions


def test_notifications_are_202(serve: Any) -> None:
    gateway, _ = serve()
    answer = gateway.ask(post({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "json-syntax"),
        (b"{", "json-syntax"),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', "json-duplicate-key"),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', "jsonrpc-id"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}', "jsonrpc-hybrid"),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}', "json-bom"),
        (b'{"jsonrpc":"2.0","id":9,"result":{}}', "response-unknown-id"),
    ],
)
def test_what_breaks_the_protocol_is_400_and_goes_nowhere(serve: Any, body: bytes, rule: str) -> None:
    gateway, upstream = serve()
    answer = gateway.ask(post(body))
    assert answer.status == 400
    assert answer.json()["error"]["data"]["rule"] == rule
    assert upstream.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        ["MCP-Protocol-Version: 2026-07-28"],
        ["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/list"],
        ["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: other"],
        ["MCP-Protocol-Version: 2025-11-25", "Mcp-Method: tools/call", "Mcp-Name: t"],
        [
            "MCP-Protocol-Version: 2026-07-28",
            "MCP-Protocol-Version: 2026-07-28",
            "Mcp-Method: tools/call",
            "Mcp-Name: t",
        ],
        ["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: t", "Mcp-Name: t"],
        [],
    ],
)
def test_headers_that_contradict_the_body_are_refused_before_any_decision(serve: Any, headers: list[str]) -> None:
    gateway, upstream = serve()
    body = {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "t", "arguments": {}, "_meta": META}}
    answer = gateway.ask(post(body, *headers))
    assert answer.status == 400
    assert "header" in answer.json()["error"]["data"]["rule"]
    assert upstream.requests == []


def test_answers_to_server_requests_in_a_session(serve: Any) -> None:
    answered = threading.Event()

    def respond(request: Any, peer: Any) -> None:
        message = request.json()
        if message.get("method") == "tools/call":
            peer.stream()
            peer.event({"jsonrpc": "2.0", "id": 70, "method": "roots/list"})
            answered.wait(60)
            peer.event({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
            peer.end()
        elif "result" in message:
            answered.set()
            peer.answer(b"", "202 Accepted")
        else:
            sessions(request, peer)

    for header in (["Mcp-Session-Id: session-1"], []):  # with a session, and for a server that gives none
        gateway, _ = serve(respond)
        answered.clear()
        if header:
            gateway.ask(post(INITIALIZE))
        with gateway.client() as client:
            client.send(post(call(1), *header))
            assert client.head().status == 200
            events = client.events()
            first = next(events)
            assert first.get("method") == "roots/list", first
            assert gateway.ask(post({"jsonrpc": "2.0", "id": 71, "result": {"roots": []}}, *header)).status == 400
            assert gateway.ask(post({"jsonrpc": "2.0", "id": 70, "result": {"roots": []}}, *header)).status == 202
            assert next(events)["id"] == 1


def test_batches_of_2025_03_26_pass(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> None:
        answers = [{"jsonrpc": "2.0", "id": m["id"], "result": {}} for m in request.json() if "id" in m]
        peer.answer(json.dumps(answers).encode())

    gateway, upstream = serve(respond)
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    answer = gateway.ask(post([call(1), note, call(2)]))
    assert [one["id"] for one in answer.json()] == [1, 2]
    assert len(upstream.requests[0].json()) == 3
    refused = gateway.ask(post([call(1), call(1)]))
    assert sorted("error" in one for one in refused.json()) == [False, True], (
        "the reused id, and the answer to the other"
    )
    later = gateway.ask(post([call(1)], "MCP-Protocol-Version: 2025-06-18"))
    assert later.status == 400
    assert later.json()["error"]["data"]["rule"] == "jsonrpc-batch"
