"""The quick way of a call over HTTP, and without it: the same bytes each way, evidence, sessions and connections."""

from __future__ import annotations

import asyncio
import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from callgate import native
from tests.transport.http.gated import INITIALIZE, MODERN, TIMEOUT_S, WAYS, Event, Gated, post

pytestmark = pytest.mark.skipif(native.core is None, reason="the native lane was not built for this platform")


def called(choose: random.Random) -> tuple[int, str, str, dict[str, Any]]:
    """A plain call: its id, method, name, arguments."""
    values = ["c", 2, "a", "b", "ü", "x" * 200, True]
    names = ["tools/call"] * 3 + ["prompts/get"]
    return (
        choose.randrange(1, 5),
        choose.choice(names),
        choose.choice("tu"),
        {"q": choose.choice(values[2:4] * 12 + values)},
    )


def legacy_call(choose: random.Random, sessions: list[str]) -> bytes:
    number, method, name, arguments = called(choose)
    principal = choose.choice(["alice"] * 6 + ["bob"])
    headers = [f"X-Callgate-Principal: {principal}"]
    session = choose.choice([*sessions[-2:] * 3, *sessions[-2:], "unknown", ""])
    headers += [f"Mcp-Session-Id: {session}"] if session else []
    headers += choose.choice([[], [], ["MCP-Protocol-Version: 2025-11-25"]])
    params = {"name": name, "arguments": arguments}
    return post({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, *headers)


def modern_call(choose: random.Random) -> bytes:
    number, method, name, arguments = called(choose)
    claimed = choose.choice([MODERN] * 20 + ["2027-01-01", "x" * 40, "", None])
    meta = {} if claimed is None else {"io.modelcontextprotocol/protocolVersion": claimed}
    version = choose.choice([claimed or MODERN] * 25 + ["", "=?x", "\xe9", "2025-11-25"])
    principal = choose.choice(["alice"] * 6 + ["bob"])
    headers = [f"X-Callgate-Principal: {principal}", f"MCP-Protocol-Version: {version}"]
    headers += [f"Mcp-Method: {choose.choice([method] * 30 + ['tools/list'])}"] if choose.random() < 0.97 else []
    headers += [f"Mcp-Name: {choose.choice([name] * 30 + ['other', '=?base64?dA==?='])}"]
    headers += ["Mcp-Session-Id: session-1"] if choose.random() < 0.03 else []
    headers += ["Connection: close"] if choose.random() < 0.01 else []
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    if meta or choose.random() < 0.5:
        params["_meta"] = meta
    return post({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, *headers)


def usual_call(choose: random.Random, client: int, session: str) -> bytes:
    """What clients do nearly always: two in one session, the others with requests that stand alone."""
    number, method, name, arguments = called(choose)
    name = choose.choice(["t"] * 7 + ["u"])
    method = "prompts/get" if name == "u" else "tools/call"
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    headers = ["X-Callgate-Principal: alice"]
    if client < 2:
        headers += [f"Mcp-Session-Id: {session}", "MCP-Protocol-Version: 2025-11-25"]
    else:
        headers += [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {method}", f"Mcp-Name: {name}"]
        params["_meta"] = {"io.modelcontextprotocol/protocolVersion": MODERN}
    return post({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, *headers)


def other_request(choose: random.Random, sessions: list[str]) -> bytes:
    session = choose.choice([*sessions * 3, "unknown"])
    headers = ["X-Callgate-Principal: alice", f"Mcp-Session-Id: {session}"]
    kind = choose.choice([0] * 12 + [3] * 6 + [4, 5, 6, 6])
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": choose.randrange(1, 5)}}
    if kind < 3:
        return post(cancel, *headers)
    if kind == 3:
        return post({"jsonrpc": "2.0", "id": choose.randrange(1, 5), "method": "tools/list"}, *headers)
    if kind == 4:
        return post([cancel], *headers, "MCP-Protocol-Version: 2025-03-26")
    method = "DELETE" if kind == 5 else "GET"
    return "\r\n".join([f"{method} /s/mcp HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def asked_on(out: bytes) -> list[Any]:
    """The requests written to a server, as far as they have an id."""
    found = [json.loads(body) for body in re.findall(rb"\r\n\r\n(\{[^\n]*?\})(?=POST |GET |DELETE |\Z)", out)]
    return [message for message in found if "id" in message]


def result(request_id: Any, choose: random.Random) -> bytes:
    found: dict[str, Any] = {"content": [{"type": "text", "text": choose.choice(["a", "b", "ü", "y" * 300])}]}
    members: list[dict[str, Any]] = [{}] * 12
    members += [{"resultType": "complete"}, {"isError": False}, {"structuredContent": {"a": 1}}]
    found.update(choose.choice(members))
    odd = choose.random()
    if odd < 0.03:
        found = {"isError": True, **found}
    elif odd < 0.05:
        found["resultType"] = "input_required"
    elif odd < 0.07:
        found["content"].append({"type": "text", "text": "z" * 900})
    message = {"jsonrpc": "2.0", "id": request_id, "result": found}
    if 0.07 < odd < 0.1:
        message = {"jsonrpc": "2.0", "id": request_id, "error": {"code": -1, "message": "no"}}
    return json.dumps(message, separators=(",", ":")).encode()


def replied(choose: random.Random, asked: list[Any], sessions: int) -> tuple[list[bytes], bool]:
    """What a server says to the last of these: pieces, and whether it hangs up then."""
    last = asked[-1]["id"] if asked else 1
    if asked and asked[-1]["method"] == "initialize":
        body = b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'
        head = f"Mcp-Session-Id: session-{sessions + 1}\r\n".encode()
    else:
        body = result(choose.choice([last] * 20 + [1, 2, "1"]), choose)
        head = b""
    odd = choose.randrange(60)
    kind = b"application/json"
    status = b"200 OK"
    if odd == 0:
        head += b"Connection: close\r\n"
    elif odd == 1:
        head += b"X-New: %d\r\n" % choose.randrange(9)
    elif odd == 2:
        status = choose.choice([b"404 Not Found", b"500 No", b"202 Accepted", b"302 Found", b"204 No Content"])
    elif odd == 3:
        body = choose.choice([b"", b"{", b"[]", b"[" + body + b"]", b'{"jsonrpc":"2.0","method":"n"}', body + b" "])
    elif odd in (4, 5):
        kind, body = b"text/event-stream", b"data: " + body + b"\n\n"
        head += b"X-Id: 1\r\n"
        if odd == 4:
            return [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body], choose.random() < 0.8
        body = b"id: 7\n" + body if choose.random() < 0.2 else body
    elif odd == 6:
        return [b"HTTP/1.1 103 Early Hints\r\n\r\n"], False
    elif odd == 7:
        return [], True
    data = b"HTTP/1.1 %b\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, kind, head, len(body), body)
    if status.startswith(b"204"):
        data = b"HTTP/1.1 204 No Content\r\n\r\n"
    if odd == 8:
        return [data[: choose.randrange(len(data))]], True
    if odd == 9:
        return [data + choose.choice([b"x", b"\r\n", data])], False
    if odd == 10:
        return [data, data], False
    if odd in (11, 12, 13):
        at = choose.randrange(1, len(data))
        return [data[:at], data[at:]], False
    return [data], odd == 14


def chosen(choose: random.Random, site: Gated) -> Event:
    """What happens next, drawn from what can: a function of one site."""
    opened = [key.decode() for key in site.route.sessions._sessions] or ["session-1"]
    sessions = [site.session(one) for one in opened]
    waiting = [n for n, (one, wire) in enumerate(site.pool.ends) if not wire.closed and (one.request or one.quick)]
    resting = [n for n, (_, wire) in enumerate(site.pool.ends) if not wire.closed and n not in waiting]
    if waiting and choose.random() < 0.3 + 0.2 * len(waiting):
        number = choose.choice(waiting)
        pieces, hangs_up = replied(choose, asked_on(site.pool.ends[number][1].out), len(sessions))

        def say(one: Gated) -> None:
            one.say(number, pieces)
            if hangs_up:
                one.hang_up(number)

        return say
    kind, client = choose.random(), choose.choice([0, 0, 1, 2, 2, 3])
    if site.connections[client]._current is not None and choose.random() < 0.8:
        return lambda one: None
    if kind < 0.85:
        if kind < 0.02:
            data = INITIALIZE
        elif kind < 0.70:
            data = usual_call(choose, client, site.session("session-1"))
        elif kind < 0.74:
            data = legacy_call(choose, sessions)
        elif kind < 0.78:
            data = modern_call(choose)
        else:
            data = other_request(choose, sessions)
        odd = choose.random()
        pieces = [data]
        if odd < 0.03:
            pieces = [data + legacy_call(choose, sessions)]
        elif odd < 0.05:
            at = choose.randrange(1, len(data))
            pieces = [data[:at], data[at:]]
        return lambda one: one.send(client, *pieces)
    if kind < 0.87:
        return lambda one: one.leave(client)
    if kind < 0.88:
        seconds = choose.choice([1.0, 4.0, TIMEOUT_S + 1])
        return lambda one: one.tick(seconds)
    if kind < 0.90 and resting:
        ending = choose.choice(resting)
        return lambda one: one.hang_up(ending)
    if kind < 0.91 and resting:
        unasked = choose.choice(resting)
        return lambda one: one.say(unasked, [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    if kind < 0.914:
        return lambda one: one.renew()
    if kind < 0.92:
        value = b"%d" % choose.randrange(3)
        return lambda one: one.route.renew_headers([(b"x-own", value)])
    if kind < 0.93:
        return lambda one: one.connections[client].drain()
    if kind < 0.94:
        return lambda one: one.connections[client].pause_writing()
    if kind < 0.96:
        return lambda one: one.connections[client].resume_writing()
    if kind < 0.965:
        return lambda one: setattr(one.journal, "limit", -1)
    if kind < 0.97:
        return lambda one: one.journal._set_limit()
    if kind < 0.973:
        return lambda one: setattr(one.server, "draining", not one.server.draining)
    return lambda one: None


async def _same(seed: int, sealed: bool, steps: int = 150) -> int:
    """How many calls went the quick way."""
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        sites = [Gated(way, Path(place, way), sealed=sealed) for way in WAYS]
        first = sites[0]
        for step in range(steps):
            happens = chosen(choose, first) if step else _opens
            at_once = choose.random() < 0.9
            gone = [number for number, wire in enumerate(first.wires) if wire.closed and choose.random() < 0.5]
            for site in sites:
                happens(site)
                if at_once:
                    site.settle()
                    for number in gone:  # somebody else comes in its place
                        site.open()
                        site.wires[number], site.connections[number] = site.wires.pop(), site.connections.pop()
            expected = first.state()
            for site in sites[1:]:
                assert site.state() == expected, (seed, step, site.way)
        for site in sites:  # the gate shuts down
            for relay in tuple(site.route._relays):
                relay.end("the gate is shutting down")
            site.settle()
            assert site.state() == first.state(), (seed, site.way)
        evidence = [site.evidence() for site in sites]
        assert evidence[1] == evidence[0]
        assert evidence[2] == evidence[0]
        return first.quick


def _opens(site: Gated) -> None:
    site.send(0, INITIALIZE)


@pytest.mark.parametrize("sealed", [False, True], ids=["alone", "one-of-several"])
@pytest.mark.parametrize("first", [0, 10])
def test_every_way_comes_to_the_same(first: int, sealed: bool) -> None:
    quick = sum(asyncio.run(_same(seed, sealed)) for seed in range(first, first + 10))
    assert quick > 20, "the quick way was hardly taken"
