"""Evidence of what the gate refuses at its door."""

from __future__ import annotations

from typing import Any

import pytest

from callgate.transport.http import refusals
from tests.transport.http.harness import HEAD, call, post, wait_until


def refused(gateway: Any) -> list[dict[str, Any]]:
    return [fields for kind, fields in gateway.notes if kind == "http-refused"]


def test_refusals_are_evidence_and_a_flood_of_them_is_counted(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "SUMMARY_S", 0.5)
    gateway, _ = serve()
    for _ in range(50):
        gateway.ask(post(call(), "Authorization: Bearer 0123456789abcdef", host="evil\u202e.example"))
    assert wait_until(lambda: sum(fields["count"] for fields in refused(gateway)) == 50)
    first, *_, last = refused(gateway)
    port = first.pop("port")
    assert isinstance(port, int)
    assert first == {
        "status": 421, "rule": "http-host", "route": "s", "method": "POST", "peer": "127.0.0.1",
        "host": "evil\\u202e.example", "authorization": "sent", "count": 1,
    }  # fmt: skip
    assert last.keys() == {"status", "rule", "route", "peers", "count"}
    assert last["peers"] == ["127.0.0.1"]
    assert len(refused(gateway)) <= 14
    assert "0123456789abcdef" not in repr(gateway.notes)


AT_THE_DOOR = {
    "origin": (post(call(), "Origin: https://evil.example"), "http-origin", {"origin": "https://evil.example"}),
    "user in origin": (
        post(call(), "Origin: https://me:hush@evil.example"),
        "http-origin",
        {"origin": "https://…@evil.example"},
    ),
    "user in host": (post(call(), host="me:hu@hush@evil.example"), "http-host", {"host": "…@evil.example"}),
    "type": (b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", "http-content-type", {}),
    "method": (b"PUT /s/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n", "http-method", {"method": "PUT", "route": "s"}),
    "head": (
        b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nA: b\r\nX : 1\r\n\r\n",
        "http-malformed",
        {"host": "localhost"},
    ),
    "no head at all": (b"\x16\x03\x01\x02\x00\x01", "http-method", {"peer": "127.0.0.1"}),
    "length": (HEAD + b"Content-Length: 99999999\r\n\r\n", "http-body-size", {"route": "s", "method": "POST"}),
    "target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", "http-target-size", {}),
    "session": (post(call(), "Mcp-Session-Id: a", "Mcp-Session-Id: b"), "header-repeated", {"principal": "local"}),
    "path": (b"GET /.env?token=hush HTTP/1.1\r\nHost: localhost\r\n\r\n", "http-path", {"path": "/.env"}),
    "strange path": (
        b"GET /a/%e2%80%ae/%7e/550e8400-e29b-41d4-a716-446655440000/b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "http-path",
        {"path": "/a/…/…/…/b"},
    ),
    "key in a path": (
        b"GET /sse/ghp_16C7e42F292c6912E7710c838347Ae178B4a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "http-path",
        {"path": "/sse/…"},
    ),
}


@pytest.mark.parametrize(("data", "rule", "facts"), AT_THE_DOOR.values(), ids=AT_THE_DOOR)
def test_each_refusal_at_the_door_says_why_and_who(serve: Any, data: bytes, rule: str, facts: dict[str, Any]) -> None:
    gateway, _ = serve()
    assert gateway.ask(data).status >= 400
    assert wait_until(lambda: refused(gateway))
    (told,) = refused(gateway)
    assert told["rule"] == rule
    assert told.items() >= facts.items()
    assert "hush" not in repr(told)
    assert "ghp_" not in repr(told)
