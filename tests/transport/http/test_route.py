"""From a POST to a decision to the server and back: eras, sessions, refusals."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from callgate.errors import ConfigError
from callgate.gate.verdicts import Allow, Deny, Finding
from callgate.transport.http.sessions import session_label
from tests.audit.evidence import records_in
from tests.gate.fakes import control, gate_of
from tests.transport.http.harness import call, modern, post, wait_until

INITIALIZE = call(
    0, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "c", "version": "1"}
)


def sessions(request: Any, peer: Any) -> None:
    """A handshake-era server with sessions; answers each request with its session."""
    if request.method == "DELETE":
        peer.answer(b"", "200 OK")
    elif request.method == "GET":
        peer.stream()
        peer.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        peer.end()
    elif request.json().get("method") == "initialize":
        peer.result(request, {"protocolVersion": "2025-11-25"}, "Mcp-Session-Id: session-1\r\n")
    elif "id" in request.json() and "method" in request.json():
        peer.result(request, {"session": request.header("mcp-session-id")})
    else:
        peer.answer(b"", "202 Accepted")


def test_a_request_passes_unchanged_and_so_does_its_answer(serve: Any) -> None:
    gateway, upstream = serve()
    answer = gateway.ask(post(call("a", "tools/call", name="t", arguments={"x": [1, None, "ü"]})))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "jsonrpc": "2.0",
        "id": "a",
        "result": {"echo": {"name": "t", "arguments": {"x": [1, None, "ü"]}}},
    }
    assert upstream.requests[0].target == "/mcp"


def test_modern_requests_with_equal_ids_do_not_meet(serve: Any) -> None:
    release = threading.Event()

    def respond(request: Any, peer: Any) -> None:
        name = request.json()["params"]["name"]
        if name == "slow":
            release.wait(60)
        peer.result(request, {"resultType": "complete", "name": name})

    gateway, upstream = serve(respond)
    with gateway.client() as slow, gateway.client() as quick:
        slow.send(modern(1, "tools/call", name="slow", arguments={}))
        assert wait_until(lambda: upstream.requests)

        quick.send(modern(1, "tools/call", name="quick", arguments={}))
        assert quick.answer().json()["result"]["name"] == "quick"
        release.set()
        assert slow.answer().json()["result"]["name"] == "slow"


def test_a_session_has_one_channel_and_one_owner(serve: Any) -> None:
    gateway, upstream = serve(sessions)
    opened = gateway.ask(post(INITIALIZE))
    assert opened.headers["mcp-session-id"] == "session-1"
    assert len(gateway.route.sessions) == 1
    answer = gateway.ask(post(call(1), "Mcp-Session-Id: session-1", "MCP-Protocol-Version: 2025-11-25"))
    assert answer.json()["result"] == {"session": "session-1"}
    session = gateway.thread.call(lambda: gateway.route.sessions.sessions()[0])
    assert session.channel.revision == "2025-11-25"
    session.principal = "somebody else"
    before = len(upstream.requests)
    answer = gateway.ask(post(call(1), "Mcp-Session-Id: session-1"))
    assert answer.status == 404
    assert len(upstream.requests) == before


def test_evidence_names_the_session_from_the_answer_that_opens_it(serve: Any) -> None:
    gateway, _ = serve(sessions)
    gateway.ask(post(INITIALIZE))
    gateway.ask(post(call(1), "Mcp-Session-Id: session-1"))
    gateway.ask(post(call(1)))
    journal = gateway.route.gate.journal
    gateway.thread.call(journal.close)
    found = [
        (record["method"], record["direction"], record["scope"]["session"])
        for record in records_in(journal.path)
        if record["kind"] == "decision"
    ]
    label = session_label(b"session-1")
    assert found[:4] == [
        ("initialize", "client", ""),
        ("initialize", "server", label),
        ("tools/call", "client", label),
        ("tools/call", "server", label),
    ]
    assert {session for _, _, session in found[4:]} == {""}


def test_an_unknown_session_is_the_servers_to_judge(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> None:
        error = {"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32600, "message": "Session not found"}}
        peer.answer(json.dumps(error).encode(), "404 Not Found")

    gateway, upstream = serve(respond)
    answer = gateway.ask(post(call(1), "Mcp-Session-Id: nobody-knows"))
    assert answer.status == 404
    assert answer.json()["id"] == "server-error"
    assert upstream.requests[0].header("mcp-session-id") == "nobody-knows"


def test_delete_ends_a_session(serve: Any) -> None:
    gateway, upstream = serve(sessions)
    gateway.ask(post(INITIALIZE))
    answer = gateway.ask(b"DELETE /s/mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: session-1\r\n\r\n")
    assert answer.status == 200
    assert upstream.requests[-1].method == "DELETE"
    assert len(gateway.route.sessions) == 0


def test_a_repeated_session_header_is_refused(serve: Any) -> None:
    gateway, upstream = serve(sessions)
    answer = gateway.ask(post(call(), "Mcp-Session-Id: a", "Mcp-Session-Id: b"))
    assert answer.status == 400
    assert upstream.requests == []


def test_sessions_are_bounded_and_the_idle_one_makes_room(serve: Any) -> None:
    count = iter(range(100))

    def respond(request: Any, peer: Any) -> Any:
        if request.method == "GET":
            peer.stream()
            return peer.closed_within(10) and False
        return peer.result(request, {}, f"Mcp-Session-Id: s{next(count)}\r\n")

    gateway, _ = serve(respond, server={"sessions": 2})
    for _ in range(5):
        assert gateway.ask(post(INITIALIZE)).status == 200
    assert len(gateway.route.sessions) == 2
    with gateway.client() as first, gateway.client() as second:
        first.send(b"GET /s/mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: s3\r\n\r\n")
        second.send(b"GET /s/mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: s4\r\n\r\n")
        assert first.head().status == second.head().status == 200
        answer = gateway.ask(post(INITIALIZE))
        assert answer.status == 503
        assert "sessions" in answer.json()["error"]["message"]


def test_replays_after_last_event_id_pass_and_other_repeats_do_not(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> None:
        answer = {"jsonrpc": "2.0", "id": 5, "result": {"content": []}}
        if request.method == "GET":
            peer.stream()
            if request.header("last-event-id"):
                peer.event(answer, "id: e2\n")
            peer.event(answer, "id: e3\n")
            peer.end()
        elif request.json().get("method") == "tools/call":
            peer.stream()
            peer.event(answer, "id: e2\n")
            peer.event(answer, "id: e3\n")
            peer.end()
        else:
            sessions(request, peer)

    gateway, _ = serve(respond)
    gateway.ask(post(INITIALIZE))
    head = b"GET /s/mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: session-1\r\n"
    assert gateway.ask(post(call(5), "Mcp-Session-Id: session-1")).body.count(b"data:") == 1
    assert gateway.ask(head + b"\r\n").body.count(b"data:") == 0
    assert gateway.ask(head + b"Last-Event-ID: e1\r\n\r\n").body.count(b"data:") == 2
    assert gateway.ask(head + b"\r\n").body.count(b"data:") == 0


def test_a_polled_stream_of_a_server_without_sessions_is_resumed(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> None:
        peer.stream()
        if request.method == "POST":
            peer.chunk(b"id: e1\ndata: \n\n")  # the priming event; then the server hangs up
        else:
            peer.event({"jsonrpc": "2.0", "id": 5, "result": {"late": True}}, "id: e2\n")
        peer.end()

    gateway, _ = serve(respond)
    assert gateway.ask(post(call(5))).body == b"id: e1\ndata: \n\n"
    answer = gateway.ask(b"GET /s/mcp HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: e1\r\n\r\n")
    assert b'"late":true' in answer.body


def test_get_and_delete_of_a_modern_server_are_405(serve: Any) -> None:
    gateway, _ = serve()
    for method in ("GET", "DELETE"):
        answer = gateway.ask(f"{method} /s/mcp HTTP/1.1\r\nHost: h\r\n\r\n".replace("h\r", "localhost\r").encode())
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "url",
    [
        "http://", "http://u:p@h/", "http://h:99999/", "http://h:x/", "http://h/a b", "ftp://h/", "http://[::1/mcp",
        "http://a..b/", "http://\u00fc..b/", f"http://{'a' * 64}.example/",
    ],
)  # fmt: skip
def test_urls_that_cannot_be_used(serve: Any, url: str) -> None:
    from callgate.transport.http.client import Origin

    with pytest.raises(ConfigError):
        Origin(url)


def test_closing_ends_streams_and_answers_what_waits(serve: Any) -> None:
    def respond(request: Any, peer: Any) -> Any:
        if request.json()["method"] == "subscriptions/listen":
            peer.stream()
            peer.event({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}})
        return peer.closed_within(10) and False

    gateway, _ = serve(respond)
    with gateway.client() as listening, gateway.client() as calling:
        listening.send(modern(1, "subscriptions/listen", notifications={}))
        assert listening.head().status == 200
        events = listening.events()
        assert next(events)["method"] == "notifications/subscriptions/acknowledged"
        calling.send(modern(2, "tools/call", name="t", arguments={}))
        assert wait_until(lambda: len(gateway.route._relays) == 2)
        gateway.thread.run(gateway.route.close(0.1))
        last = next(events)
        assert last["id"] == 1
        assert "shutting down" in last["error"]["message"]
        assert list(events) == []
        assert calling.answer().status == 503


def test_sessions_survive_new_rules(serve: Any) -> None:
    gateway, _ = serve(sessions)
    gateway.ask(post(INITIALIZE))
    old = gateway.thread.call(lambda: gateway.route.sessions.sessions()[0].channel)
    gateway.thread.call(lambda: gateway.route.renew(gateway.route.config, gateway.route.gate))
    new = gateway.thread.call(lambda: gateway.route.sessions.sessions()[0].channel)
    assert new is not old
    assert new.revision == "2025-11-25"
    assert gateway.ask(post(call(1), "Mcp-Session-Id: session-1")).json()["result"] == {"session": "session-1"}


def _on_hit(name: str, pattern: bytes, verdict: Any) -> Any:
    return control(name, pattern, **dict.fromkeys(("call", "content", "server_request"), lambda _: verdict))


def test_what_spans_new_rules_is_judged_with_the_patterns_of_one_gate(serve: Any) -> None:
    """In the new gate the forbidden word has the number that the harmless one has in the old."""
    reloaded = threading.Event()

    def respond(request: Any, peer: Any) -> None:
        message = request.json()
        if "method" not in message:
            peer.answer(b"", "202 Accepted")
        elif message["params"]["name"] == "fails":
            reloaded.wait(60)
            error = {"code": -32603, "message": "forbidden"}
            peer.answer(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode(), "400 Bad Request")
        else:
            peer.stream()
            peer.event({"jsonrpc": "2.0", "id": 70, "method": "roots/list"})
            reloaded.wait(60)

    allows = _on_hit("allows", b"harmless", Allow())
    forbids = _on_hit("forbids", b"forbidden", Deny("no", (Finding("c/r", "tool-poisoning", "no"),)))
    gateway, upstream = serve(respond, controls=(allows, forbids))
    with gateway.client() as failing, gateway.client() as asking:
        failing.send(post(call(1, name="fails", arguments={})))
        asking.send(post(call(2, name="asks", arguments={})))
        assert asking.head().status == 200
        assert next(asking.events())["method"] == "roots/list"
        assert wait_until(lambda: len(upstream.requests) == 2)
        gate, _ = gate_of(forbids)
        gateway.thread.call(lambda: gateway.route.renew(gateway.route.config, gate))
        answer = {"jsonrpc": "2.0", "id": 70, "result": {"roots": [{"uri": "file:///forbidden"}]}}
        gateway.ask(post(answer))
        assert not any(b"forbidden" in request.body for request in upstream.requests)
        reloaded.set()
        assert b"forbidden" not in failing.answer().body


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_was_not_answered_is_no_longer_in_flight(serve: Any, stream: bool) -> None:
    """Else a server could fill the table of a session, and the client could never use the id again."""
    notice = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}

    def respond(request: Any, peer: Any) -> None:
        if request.json().get("method") == "initialize":
            sessions(request, peer)
        elif stream:
            peer.stream()
            peer.event(notice)
            peer.end()
        else:
            peer.answer(json.dumps(notice).encode())

    gateway, _ = serve(respond)
    gateway.ask(post(INITIALIZE))
    for _ in range(3):
        answer = gateway.ask(post(call(1), "Mcp-Session-Id: session-1", "MCP-Protocol-Version: 2025-11-25"))
        assert (answer.status, b"notifications/message" in answer.body) == (200, True)
        assert (b"ended its stream without an answer" in answer.body) is stream
    assert wait_until(lambda: not gateway.route.sessions.sessions()[0].channel.pending)
