"""TLS terminated: the host sees the secret, the server never does."""

from __future__ import annotations

import base64
import gzip
import ssl
import zlib

import pytest

from callgate.sandbox.spec import Sentinel

TOKEN = Sentinel("TOKEN", "ghp_SENTINEL0000", b"ghp_the-real-token", ("good.test",))
OTHER = Sentinel("OTHER", "sk_SENTINEL11111", b"sk-other-real", ("other.test",))
P, V = TOKEN.placeholder.encode(), TOKEN.value
HEAD = b"%s %s HTTP/1.1\r\nHost: good.test\r\n"


@pytest.fixture
async def secret(door):
    await door.open(
        ("good.test", 443), ("other.test", 443), ("plain.test", 80),
        sentinels=(TOKEN, OTHER), tls=("good.test", "other.test"),
    )  # fmt: skip
    return door


def reflect(received: bytes) -> bytes:
    """A host that sends back all it got."""
    return b"HTTP/1.1 200 OK " + V + b"\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%s" % (V, len(received), received)


async def ask(door, data: bytes, until: bytes = b"ok", host: str = "good.test") -> bytes:
    reader, writer = await door.secure(host)
    writer.write(data)
    try:
        text = b""
        while until not in text:
            more = await reader.read(1 << 16)
            assert more, text[-1000:]
            text += more
        return text
    finally:
        writer.close()


async def test_every_place_of_a_request(secret):
    body = b'{"k":"%s"}' % P
    await ask(
        secret,
        HEAD % (b"POST", b"/a/%s?q=%s" % (P, P))
        + b"Authorization: Bearer %s\r\nX-Other: Basic %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (P, P, len(body), body),
    )
    got = secret.host.everything
    assert P not in got
    assert got.startswith(b"POST /a/%s?q=%s HTTP/1.1\r\n" % (V, V))
    assert b"Authorization: Bearer %s\r\n" % V in got
    assert b"Content-Length: %d\r\n" % (len(body) - len(P) + len(V)) in got
    assert got.endswith(b'\r\n\r\n{"k":"%s"}' % V)
    (event,) = await secret.visits()
    assert (event["tls"], event["secrets"], event["outcome"]) == ("terminated", ["TOKEN"], "allowed")


async def test_a_chunked_body(secret):
    reader, writer = await secret.secure("good.test")
    writer.write(HEAD % (b"POST", b"/") + b"Transfer-Encoding: chunked\r\n\r\n")
    for byte in b"<" + P + b">":
        writer.write(b"1\r\n%c\r\n" % byte)
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await reader.readuntil(b"ok")
    writer.close()
    body = secret.host.everything.partition(b"\r\n\r\n")[2]
    assert dechunk(body) == b"<" + V + b">"
    (event,) = await secret.visits()
    assert event["secrets"] == ["TOKEN"]


def dechunk(data: bytes) -> bytes:
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        out, data = out + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return out


async def test_a_body_too_large_to_be_changed_keeps_its_sentinel_and_says_so(secret):
    body = b"x" * (1 << 20) + P
    secret.host.complete = lambda got: got.endswith(P)
    await ask(secret, HEAD % (b"POST", b"/") + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    assert secret.host.everything.endswith(P)
    assert V not in secret.host.everything
    await secret.visits()
    (stray,) = [event for event in secret.events if event["kind"] == "sentinel-misdirected"]
    assert (stray["where"], stray["reason"]) == ("body", "the body is longer than what is changed")


@pytest.mark.parametrize("size", [0, 5000, 2 << 20])
async def test_a_reflecting_host_gives_nothing_away(secret, size):
    secret.host.answer = lambda got: reflect(b"y" * size + got)
    text = await ask(
        secret,
        HEAD % (b"GET", b"/") + b"Authorization: Bearer %s\r\nRange: bytes=0-3\r\n\r\n" % P,
        b"Bearer " + P,
    )
    assert V not in text
    assert b"X-Echo: " + P in text
    assert b"Range" not in text
    assert V in secret.host.everything


async def test_basic_credentials_come_back_as_they_went(secret):
    secret.host.answer = reflect
    mine = base64.b64encode(b"me:" + P)
    text = await ask(secret, HEAD % (b"GET", b"/") + b"Authorization: Basic %s\r\n\r\n" % mine, mine)
    assert base64.b64encode(b"me:" + V) not in text
    assert b"Basic " + base64.b64encode(b"me:" + V) in secret.host.everything


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
async def test_a_host_that_compresses_all_the_same_is_unpacked(secret, coding, pack):
    def packed(got: bytes) -> bytes:
        body = pack(got)
        return b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (coding, len(body), body)

    secret.host.answer = packed
    text = await ask(secret, HEAD % (b"GET", b"/") + b"Accept-Encoding: gzip, br\r\nX-K: %s\r\n\r\n" % P, b"0\r\n\r\n")
    assert b"X-K: " + P in text
    assert b"ontent-Encoding" not in text
    assert b"Accept-Encoding: identity" in text


async def test_an_encoding_that_cannot_be_read_is_not_passed_on(secret):
    secret.host.answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\nxxxx"
    text = await ask(secret, HEAD % (b"GET", b"/") + b"\r\n", b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 502")


async def test_a_bomb_meets_back_pressure(secret):
    packed = gzip.compress(b"\0" * (64 << 20))
    secret.host.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    )
    reader, writer = await secret.secure("good.test")
    writer.write(HEAD % (b"GET", b"/") + b"\r\n")
    total = 0
    while total < 64 << 20:
        data = await reader.read(1 << 20)
        assert data
        total += len(data)
    writer.close()


async def test_a_second_host_sees_only_the_sentinel(secret):
    request = b"GET / HTTP/1.1\r\nHost: other.test\r\nAuthorization: Bearer %s\r\n\r\n" % P
    await ask(secret, request, host="other.test")
    assert V not in secret.host.everything
    assert b"Bearer " + P in secret.host.everything
    await secret.visits()
    (stray,) = [event for event in secret.events if event["kind"] == "sentinel-misdirected"]
    assert (stray["host"], stray["secret"], stray["where"]) == ("other.test", "TOKEN", "header")


async def test_nothing_is_swapped_in_the_clear(secret):
    answer = await secret.say(b"GET http://plain.test/?%s HTTP/1.1\r\nHost: plain.test\r\n\r\n" % P)
    assert b"200" in answer
    assert V not in secret.host.everything


async def test_a_host_header_for_another_host_in_terminated_tls(secret):
    text = await ask(secret, b"GET / HTTP/1.1\r\nHost: other.test\r\nX: %s\r\n\r\n" % P, b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 403")
    text = await ask(secret, b"GET https://other.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 403")
    assert secret.host.everything == b""


async def test_trace_would_reflect_by_design(secret):
    text = await ask(secret, HEAD % (b"TRACE", b"/") + b"X: %s\r\n\r\n" % P, b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 405")


async def test_only_http_1_is_offered(secret):
    _, writer = await secret.secure("good.test", alpn="http/1.1")
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()


@pytest.mark.parametrize("flaw", ["name", "expired", "stranger"])
async def test_a_host_that_cannot_prove_itself_gets_no_secret(door, flaw):
    from tests.support.egress import Authority

    leaf = {
        "name": lambda: door.world_ca.leaf("evil.test"),
        "expired": lambda: door.world_ca.leaf("good.test", days=-1),
        "stranger": lambda: Authority().leaf("good.test"),
    }[flaw]()
    await door.open(("good.test", 443), sentinels=(TOKEN,), tls=("good.test",), leaf=leaf)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await ask(door, HEAD % (b"GET", b"/") + b"Authorization: %s\r\n\r\n" % P)
    (event,) = await door.visits()
    assert event["outcome"] == "failed"
    assert "certificate" in event["reason"]
    assert door.host.everything == b""


async def test_a_server_that_does_not_trust_the_session(secret):
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await secret.secure("good.test", ca=secret.world_ca.pem)
    (event,) = await secret.visits()
    assert "session's CA" in event["reason"]


async def test_renewed_values_are_used_from_the_next_request_on(secret):
    reader, writer = await secret.secure("good.test")
    for value in (V, b"renewed-value"):
        secret.gate.sentinels = (Sentinel("TOKEN", TOKEN.placeholder, value, TOKEN.hosts),)
        writer.write(HEAD % (b"GET", b"/") + b"X: %s\r\n\r\n" % P)
        await reader.readuntil(b"ok")
    writer.close()
    assert len(secret.host.received) == 1
    assert secret.host.everything.partition(V)[2].count(b"X: renewed-value") == 1


async def test_a_websocket_passes_and_a_reflected_secret_ends_it(secret):
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: good.test\r\nConnection: keep-alive, Upgrade, X-Evil\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer %s\r\n\r\n" % P
    )
    secret.host.answer = lambda got: (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"
        if got.count(b"\r\n\r\n") == 1
        else b"\x81\x20" + got.partition(b"Bearer ")[2]
    )
    reader, writer = await secret.secure("good.test")
    writer.write(upgrade)
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(7) == b"\x81\x05hello"
    assert b"Bearer " + V in secret.host.everything
    assert b"permessage" not in secret.host.everything
    assert b"X-Evil" not in secret.host.everything
    writer.write(b"\x81\x84maskmask\r\n\r\n")
    rest = await reader.read()
    assert V not in rest
    writer.close()
    (event,) = await secret.visits()
    assert event["reason"] == "the host sent a secret back through a WebSocket"


async def test_an_event_stream_is_not_held_up(secret):
    secret.host.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
    )
    reader, writer = await secret.secure("good.test")
    writer.write(HEAD % (b"GET", b"/") + b"\r\n")
    assert await reader.readuntil(b"data: 1\n\n")
    writer.close()
