"""What is meant, what is said, and what happens where the two differ."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

CONNECT = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n"


async def test_connect_to_a_listed_host(door):
    await door.open(("good.test", 80))
    answer = await door.say(CONNECT % (b"good.test:80", b"good.test:80") + GET % b"good.test")
    assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
    (event,) = await door.visits()
    assert (event["host"], event["port"], event["outcome"], event["tls"]) == ("good.test", 80, "allowed", "none")
    assert event["bytes_out"] > 0 < event["bytes_in"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"evil.test:443", 403),
        (b"good.test:81", 403),
        (b"127.0.0.1:80", 403),
        (b"[::1]:80", 403),
        (b"169.254.169.254:80", 403),
        (b"evil.test\0.good.test:80", 400),
        (b"good.test.:80", 400),
        (b"good.test\xff:80", 400),
        (b"good.test", 400),
        (b"good.test:", 400),
        (b"user@good.test:80", 400),
        (b"2130706433:80", 400),
        (b"0x7f.1:80", 400),
        (b"GOOD.test%2eevil:80", 400),
    ],
)
async def test_connect_to_anything_else(door, target, status):
    await door.open(("good.test", 80))
    answer = await door.say(CONNECT % (target, target))
    assert answer.startswith(b"HTTP/1.1 %d" % status)
    (event,) = await door.visits()
    assert event["outcome"] == "refused"
    assert not door.host.received


async def test_connect_may_name_the_proxy_as_node_does(door):
    await door.open(("good.test", 80))
    answer = await door.say(CONNECT % (b"good.test:80", b"127.0.0.1:3128") + GET % b"good.test")
    assert b"200 OK" in answer
    assert b"3128" not in door.host.everything


async def test_connect_that_says_two_hosts(door):
    await door.open(("good.test", 80))
    assert (await door.say(CONNECT % (b"good.test:80", b"evil.test:80"))).startswith(b"HTTP/1.1 403")


async def test_a_listed_host_that_leads_inside(door):
    await door.open(("good.test", 80), addresses={"good.test": ["169.254.169.254"]})
    answer = await door.say(CONNECT % (b"good.test:80", b"good.test:80"))
    assert answer.startswith(b"HTTP/1.1 403")
    (event,) = await door.visits()
    assert event["reason"] == "the host's address is not public: link-local or metadata"


async def test_a_host_that_is_down_is_failed_not_refused(door):
    await door.open(("good.test", 80))
    door._servers[0].close()
    await door._servers[0].wait_closed()
    assert (await door.say(CONNECT % (b"good.test:80", b"good.test:80"))).startswith(b"HTTP/1.1 502")
    (event,) = await door.visits()
    assert event["outcome"] == "failed"


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x02\x00\x00\x05hello", b"\x15\3\3\0\2\1\0"],
)
async def test_port_443_is_for_tls(door, first):
    await door.open(("good.test", 443))
    answer = await door.say(CONNECT % (b"good.test:443", b"good.test:443") + first)
    assert answer in {b"HTTP/1.1 200 Connection established\r\n\r\n", b""}
    (event,) = await door.visits()
    assert event["outcome"] == "refused"
    assert door.host.everything == b""


async def test_port_80_is_for_http(door):
    await door.open(("good.test", 80))
    await door.say(CONNECT % (b"good.test:80", b"good.test:80") + b"\x16\3\1\0\1\1")
    (event,) = await door.visits()
    assert event["reason"] == "neither TLS nor HTTP"
    assert door.host.everything == b""


async def test_tls_passes_where_its_name_is_the_one_that_was_meant(door):
    await door.open(("good.test", 443), tls=("good.test",))
    reader, writer = await door.secure("good.test", ca=door.world_ca.pem)
    writer.write(GET % b"good.test")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.close()
    (event,) = await door.visits()
    assert (event["outcome"], event["tls"]) == ("allowed", "passed")


@pytest.mark.parametrize("sni", ["evil.test", "good.test.evil.test", "sub.good.test"])
async def test_tls_under_another_name_is_refused(door, sni):
    await door.open(("good.test", 443), tls=("good.test",))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await door.secure("good.test", sni=sni, ca=door.world_ca.pem)
    (event,) = await door.visits()
    assert event["reason"] == "TLS names another host than the connection is for"
    assert door.host.everything == b""


async def test_tls_without_a_name_is_refused(door):
    await door.open(("good.test", 443), tls=("good.test",))
    _, writer = await door.tunnel("good.test", 443)
    context = ssl.create_default_context(cadata=door.world_ca.pem)
    context.check_hostname = False
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await writer.start_tls(context, server_hostname="")
    (event,) = await door.visits()
    assert event["reason"] == "the TLS connection names no host"


async def test_transparent_means_the_stand_in(door):
    await door.open(("good.test", 0))
    host = b"good.test:%d" % door.transparent_port
    assert b"200 OK" in await door.say(GET % host, transparent=True)
    assert b"403" in await door.say(GET % b"evil.test", transparent=True)
    assert b"403" in await door.say(GET % b"good.test", transparent=True), "the port belongs to the authority"
    events = await door.visits(3)
    assert [event["outcome"] for event in events] == ["allowed", "allowed", "allowed"]
    assert [event.get("reason", "") for event in events][1] == "the request is for another host than its connection"
    assert len(door.host.received) == 3
    assert door.host.everything.count(b"GET") == 1


async def test_a_stand_in_that_stands_for_nothing(door):
    await door.open(("good.test", 0))
    door.gate.stand_ins.clear()
    assert await door.say(GET % b"good.test", transparent=True) == b""
    (event,) = await door.visits()
    assert (event["host"], event["outcome"]) == ("127.77.0.1", "refused")


async def test_host_is_compared_in_every_request_of_a_connection(door):
    await door.open(("good.test", 80))
    reader, writer = await door.tunnel("good.test", 80)
    writer.write(GET % b"good.test")
    assert b"200" in await reader.readuntil(b"ok")
    writer.write(GET % b"evil.test")
    assert b"403" in await reader.readuntil(b"\r\n\r\n")
    assert b"evil" not in door.host.everything
    writer.close()


async def test_the_explicit_proxy_forwards_absolute_targets(door):
    await door.open(("good.test", 80), ("fine.test", 8080))
    reader, writer = await door.dial()
    for target, host in ((b"http://good.test/a?b", b"good.test"), (b"http://FINE.test:8080", b"fine.test:8080")):
        writer.write(b"GET %s HTTP/1.1\r\nHost: %s\r\nProxy-Connection: x\r\n\r\n" % (target, host))
        assert b"200" in await reader.readuntil(b"ok")
    writer.write(b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n")
    assert b"403" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert bytes(door.host.received[0]).startswith(b"GET /a?b HTTP/1.1\r\nHost: good.test\r\n")
    assert b"roxy-Connection" not in door.host.everything
    assert bytes(door.host.received[1]).startswith(b"GET / HTTP/1.1\r\n")
    events = await door.visits(3)
    assert [(event["host"], event["outcome"]) for event in events] == [
        ("good.test", "allowed"),
        ("fine.test", "allowed"),
        ("evil.test", "refused"),
    ]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", 400),
        (b"GET https://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", 400),
        (b"GET http://good.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403),
        (b"GET http://evil.test@good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", 400),
        (b"GET http://good.test#@evil.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", 400),
        (b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\nHost: evil.test\r\n\r\n", 400),
        (b"TRACE http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", 405),
        (b"GET http://good.test/ HTTP/1.1\r\nHost : good.test\r\n\r\n", 400),
        (b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\nX: a\r\n b\0\r\n\r\n", 400),
        (b"GET http://good.test/ HTTP/2.0\r\nHost: good.test\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"nonsense\r\n\r\n", 400),
        (b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n" + b"X: %s\r\n" % (b"y" * 70000) + b"\r\n", 431),
        (b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
    ],
)
async def test_requests_that_are_not_passed_on(door, request_, status):
    await door.open(("good.test", 80))
    answer = await door.say(request_, half_close=False)
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer
    assert door.host.everything == b""


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: good.test\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length: 0x5\r\n\r\nhello",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_ambiguous_framing_is_never_passed_on(door, body):
    """RFC 9112 §6.3, §11.2."""
    await door.open(("good.test", 80))
    answer = await door.say(b"POST http://good.test/ HTTP/1.1\r\nHost: good.test\r\n" + body)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer
    assert door.host.everything == b""


async def test_a_malformed_chunk_ends_both_sides(door):
    await door.open(("good.test", 80))
    door.host.answer = b""
    answer = await door.say(
        b"POST http://good.test/ HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\nZZ\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"
    )
    assert b"HTTP/1.1 502" in answer or b"HTTP/1.1 400" in answer or answer == b""
    assert b"evil" not in door.host.everything
    (event,) = await door.visits()
    assert event["reason"] == "malformed HTTP from the server"


async def test_pipelined_requests_are_answered_in_turn(door):
    await door.open(("good.test", 80))
    answer = await door.say(b"GET http://good.test/1 HTTP/1.1\r\nHost: good.test\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert door.host.everything.count(b"GET /1") == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)
async def test_a_host_that_breaks_http(door, answer):
    await door.open(("good.test", 80))
    door.host.answer = answer
    got = await door.say(b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", half_close=False)
    assert got.startswith(b"HTTP/1.1 502")
    (event,) = await door.visits()
    assert event["reason"] == "malformed HTTP from the host"


async def test_upgrades_other_than_websocket_are_not_passed_on(door):
    await door.open(("good.test", 80))
    await door.say(
        b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    assert b"h2c" not in door.host.everything
    assert b"pgrade" not in door.host.everything
    assert b"HTTP2" not in door.host.everything


async def test_a_head_answer_and_one_without_a_body(door):
    await door.open(("good.test", 80))
    door.host.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    reader, writer = await door.dial()
    for _ in range(2):
        writer.write(b"HEAD http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n")
        assert b"500" in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_an_answer_that_ends_with_its_connection(door):
    await door.open(("good.test", 80))
    door.host.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"
    answer = await door.say(b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", half_close=False)
    assert b"all of it" in answer


async def test_expectations_are_met_here(door):
    await door.open(("good.test", 80))
    reader, writer = await door.dial()
    writer.write(
        b"POST http://good.test/ HTTP/1.1\r\nHost: good.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert b"100" in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"hi")
    assert b"200" in await reader.readuntil(b"ok")
    assert b"xpect" not in door.host.everything
    writer.close()


async def test_credentials_are_asked_for(door):
    await door.open(("good.test", 80), token="t0ken")
    import base64

    plain = b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n%s\r\n"
    right = b"Proxy-Authorization: Basic %s\r\n" % base64.b64encode(b"callgate:t0ken")
    wrong = b"Proxy-Authorization: Basic %s\r\n" % base64.b64encode(b"callgate:token")
    for field in (b"", wrong, b"Proxy-Authorization: Basic !\r\n", b"Proxy-Authorization: Bearer t0ken\r\n"):
        answer = await door.say(plain % field)
        assert answer.startswith(b"HTTP/1.1 407")
        assert b"Proxy-Authenticate" in answer
        answer = await door.say(b"CONNECT good.test:80 HTTP/1.1\r\nHost: good.test:80\r\n%s\r\n" % field)
        assert answer.startswith(b"HTTP/1.1 407")
    assert not door.host.received
    assert b"200 OK" in await door.say(plain % right)
    assert b"roxy" not in door.host.everything
    connect = b"CONNECT good.test:80 HTTP/1.1\r\nHost: good.test:80\r\n%s\r\n" % right
    assert b"200 OK" in await door.say(connect + GET % b"good.test")


async def test_a_listed_port_carries_any_protocol_and_the_host_may_speak_first(door):
    await door.open(("db.test", 5432))

    async def greet(reader, writer):
        writer.write(b"hello\n")
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    door.host.serve, kept = greet, door.host.serve
    await door.close()
    door.host.serve = greet
    door._servers.clear()
    await door.open(("db.test", 5432))
    reader, writer = await door.tunnel("db.test", 5432)
    assert await reader.readline() == b"hello\n"
    writer.write(b"question\n")
    assert await reader.readline() == b"QUESTION\n"
    writer.close()
    assert kept is not greet


async def test_a_wildcard_does_not_open_a_port_to_every_protocol(door):
    await door.open(("x.db.test", 5432))
    door.gate.rules = type(door.gate.rules)(frozenset(), frozenset({("db.test", 5432)}), frozenset())
    await door.say(CONNECT % (b"x.db.test:5432", b"x.db.test:5432") + b"\0\0\0\x08\x04\xd2\x16\x2f")
    (event,) = await door.visits()
    assert event["reason"] == "neither TLS nor HTTP"
    assert door.host.everything == b""


async def test_silence_is_cut(door):
    await door.open(("good.test", 443))
    door.gate.first_byte_s = 0.1
    reader, writer = await door.tunnel("good.test", 443)
    assert await reader.read() == b""
    writer.close()
    (event,) = await door.visits()
    assert event["reason"] == "nothing came in time"


async def test_dripping_bytes_are_cut_too(door):
    await door.open(("good.test", 443))
    door.gate.first_byte_s = 0.3
    reader, writer = await door.tunnel("good.test", 443)
    for byte in b"\x16\3\1\1\0":
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    (event,) = await door.visits()
    assert event["outcome"] == "refused"


async def test_an_idle_tunnel_is_cut(door):
    await door.open(("db.test", 5432), idle_s=0.1)
    door.host.answer = b""
    reader, writer = await door.tunnel("db.test", 5432)
    writer.write(b"x")
    assert await reader.read() == b""
    writer.close()
    (event,) = await door.visits()
    assert event["reason"] == "idle for too long"
    assert event["bytes_out"] == 1
