"""Host, Origin, token and Content-Type: on every method, before anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callgate.config import ListenConfig
from callgate.errors import ConfigError
from callgate.transport.http.request_head import RequestHead
from callgate.transport.http.request_policy import Refusal, RequestPolicy, is_loopback, read_tokens
from tests.transport.http.harness import call, post

METHODS = ("POST", "GET", "DELETE", "PUT", "OPTIONS", "HEAD", "PATCH")
GOOD_HOSTS = (
    "localhost",
    "LOCALHOST:1",
    "127.0.0.1",
    "127.0.0.1:8484",
    "[::1]",
    "[::1]:8484",
    "gate.example",
    "gate.example:443",
)
BAD_HOSTS = (
    "evil.example", "evil.example:8484", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:8484.evil",
    "127.0.0.2", "0.0.0.0", "[::]", "", ":8484", "localhost:", "localhost:80a", "gate.example.", "169.254.169.254",
    "localhost@evil.example", "evil.example@localhost", "localhost/evil",
)  # fmt: skip
GOOD_ORIGINS = (
    "http://localhost",
    "http://localhost:6274",
    "https://127.0.0.1:1",
    "http://[::1]:80",
    "https://app.example",
)
BAD_ORIGINS = (
    "http://evil.example", "null", "", "http://localhost.evil.example", "http://localhost:80.evil.example", "file://",
    "https://app.example.evil.example", "http://app.example", "chrome-extension://localhost", "http://localhost@evil",
    "http://127.0.0.1.evil.example", "localhost", "https://app.example:444",
)  # fmt: skip
LISTEN = ListenConfig(allowed_hosts=("gate.example",), allowed_origins=("https://app.example",))


def judged(method: str = "POST", policy: RequestPolicy | None = None, **headers: str) -> Refusal | str:
    sent = {"host": "localhost", "content_type": "application/json", **headers}
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    return (policy or RequestPolicy(LISTEN)).check(RequestHead(method.encode(), fields))


@pytest.mark.parametrize("method", METHODS)
def test_hosts(method: str) -> None:
    policy = RequestPolicy(LISTEN)
    for _ in range(2):  # the second time from memory
        for host in GOOD_HOSTS:
            assert judged(method, policy, host=host) == "local", host
        for host in BAD_HOSTS:
            refusal = judged(method, policy, host=host)
            assert isinstance(refusal, Refusal), host
            assert refusal.status == 421


@pytest.mark.parametrize("method", METHODS)
def test_origins(method: str) -> None:
    policy = RequestPolicy(LISTEN)
    for _ in range(2):
        for origin in GOOD_ORIGINS:
            assert judged(method, policy, origin=origin) == "local", origin
        for origin in BAD_ORIGINS:
            refusal = judged(method, policy, origin=origin)
            assert isinstance(refusal, Refusal), origin
            assert refusal.status == 403


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: evil.example"], 421),
        (["Host: localhost", "Origin: http://evil.example"], 403),
        (["Host: localhost", "Host: evil.example"], 400),
        (["Host: localhost", "Origin: http://localhost", "Origin: http://evil.example"], 400),
        (["X: 1"], 400),
    ],
)
def test_on_the_wire_for_known_and_unknown_paths(serve: Any, method: str, headers: list[str], status: int) -> None:
    gateway, upstream = serve()
    for path in ("/s/mcp", "/nothing", "/healthz"):
        with gateway.client() as client:
            client.send("\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode())
            assert client.head().status == status
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("content_type", "ok"),
    [
        ("application/json", True),
        ("Application/JSON", True),
        ("application/json; charset=utf-8", True),
        ('application/json;charset="UTF-8"', True),
        ("application/json; charset=utf-16", False),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data", False),
        ("application/jsonp", False),
        ("", False),
    ],
)
def test_content_type_of_posts(content_type: str, ok: bool) -> None:
    result = judged(content_type=content_type)
    assert (result == "local") is ok
    assert ok or (isinstance(result, Refusal) and result.status == 415)
    assert judged("GET", content_type=content_type) == "local"


def token_file(tmp_path: Path, text: str) -> ListenConfig:
    path = tmp_path / "token"
    path.write_text(text)
    return ListenConfig(host="0.0.0.0", token_file=str(path))


def test_tokens(tmp_path: Path) -> None:
    policy = RequestPolicy(token_file(tmp_path, "# old and new\n" + "a" * 32 + "\n\n" + "b" * 32 + "\n"))
    first = judged(policy=policy, authorization="Bearer " + "a" * 32)
    second = judged(policy=policy, authorization="bearer  " + "b" * 32)
    assert isinstance(first, str)
    assert first.startswith("token:")
    assert isinstance(second, str)
    assert second != first
    for wrong in ("", "Bearer", "Bearer ", "Bearer " + "a" * 31, "Basic " + "a" * 32, "Bearer " + "A" * 32, "a" * 32):
        refusal = judged(policy=policy, authorization=wrong)
        assert isinstance(refusal, Refusal), wrong
        assert refusal.status == 401
        assert refusal.headers[0][1].startswith(b"Bearer")
    missing = judged(policy=policy)
    assert isinstance(missing, Refusal)
    assert b"invalid_token" not in missing.headers[0][1]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "short\n", "with space" * 4, "x" * 5000, "tok\u00e9n" * 8])
def test_bad_token_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        RequestPolicy(token_file(tmp_path, text))
    assert error.value.next_step


def test_missing_token_file() -> None:
    with pytest.raises(ConfigError):
        read_tokens("/nonexistent/token")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gate.example"])
def test_no_listening_beyond_loopback_without_a_token(host: str) -> None:
    with pytest.raises(ConfigError) as error:
        RequestPolicy(ListenConfig(host=host))
    assert "token_file" in error.value.next_step


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.5.5.5", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("localhost.example", False), ("", False)],
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_no_name_stands_for_another_one_at_the_server(serve: Any) -> None:
    """Servers that make CGI variables of names know no difference between `-` and `_`."""
    gateway, upstream = serve(server={"headers": {"X-Api-Key": "ours"}})
    dropped = (
        "Mcp_Session_Id", "mcp-session_id", "MCP_Method", "Mcp_Param_City", "X_Forwarded_For", "Content_Length",
        "Content_Type", "X_Api_Key", "x-api_key", "X-HTTP-Method-Override", "X_Http_Method_Override", "X-Original-URL",
        "_",
    )  # fmt: skip
    kept = ("Api_Key", "X-Other_Name", "McpThing")
    sent = [f"{name}: {number}" for number, name in enumerate((*dropped, *kept))]
    for wish in ([], ["Connection: upgrade", "Upgrade: websocket"]):
        assert gateway.ask(post(call(), *wish, *sent)).status == 200
        seen = dict(upstream.requests[-1].headers)
        assert {name for name in seen if "_" in name or name.startswith("mcp")} == {name.lower() for name in kept}
        assert seen["x-api-key"] == "ours"
        assert not seen.keys() & {"x-http-method-override", "x-original-url"}


def test_what_a_route_sees(serve: Any) -> None:
    gateway, upstream = serve()
    private = [
        "Authorization: Bearer secret", "Cookie: a=b", "Proxy-Authorization: Basic x", "DPoP: x",
        "X-Forwarded-For: 1.2.3.4",
        "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4", "Origin: http://localhost", "Accept-Encoding: gzip, br",
        "Connection: keep-alive, X-Mine, Mcp-Method", "X-Mine: dropped", "Keep-Alive: timeout=5", "TE: trailers",
    ]  # fmt: skip
    kept = [
        "X-Other: kept",
        "Mcp-Param-City: Vienna",
        "Mcp-Method: tools/call",
        "Traceparent: 00-1-2-03",
        "User-Agent: u",
    ]
    assert gateway.ask(post(call(), *private, *kept)).status == 200
    seen = dict(upstream.requests[0].headers)
    assert seen.pop("host") == f"127.0.0.1:{upstream.port}"
    assert seen.pop("content-length") == str(len(upstream.requests[0].body))
    assert seen == {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "x-other": "kept",
        "mcp-param-city": "Vienna",
        "mcp-method": "tools/call",
        "traceparent": "00-1-2-03",
        "user-agent": "u",
    }
