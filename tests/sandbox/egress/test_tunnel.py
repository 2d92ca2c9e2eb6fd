"""Behind another proxy: it is asked for what the rules allow, and for nothing else."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.destinations import proxy_address
from callgate.sandbox.egress import addresses, tunnel
from callgate.sandbox.egress.dial import Dialler, Unreachable
from callgate.sandbox.egress.report import Visit
from callgate.sandbox.egress.settings import Lab, Settings, decode, encode
from callgate.sandbox.spec import Destination
from tests.support.egress import LOOPBACK

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """A proxy that gives one answer, and then repeats what it gets."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.address = Destination(LOOPBACK, 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            for at in range(0, len(self.answer), 7):  # in pieces, as the network has it
                writer.write(self.answer[at : at + 7])
                await writer.drain()
            while self.answer and (data := await reader.read(1000)):
                writer.write(b"<" + data + b">")
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def proxy(answer: bytes = ESTABLISHED) -> AsyncIterator[Proxy]:
    one = Proxy(answer)
    server = await asyncio.start_server(one.serve, LOOPBACK, 0)
    async with server:
        one.address = Destination(LOOPBACK, server.sockets[0].getsockname()[1])
        yield one


def never(name: str) -> Sequence[str]:
    raise AssertionError(f"{name} was looked up")


async def test_a_tunnel_is_asked_for_by_name_and_nothing_is_looked_up() -> None:
    async with proxy() as one:
        visit = Visit("api.test", 443)
        found = await Dialler(frozenset(), resolve=never, proxy=one.address).connect("api.test", 443, visit)
        with found:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(found, b"hello")
            assert await loop.sock_recv(found, 100) == b"<hello>"
        assert one.asked == [b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n"]
        assert visit.event()["via"] == f"{LOOPBACK}:{one.address.port}"


async def test_what_follows_the_answer_is_the_hosts() -> None:
    async with proxy(ESTABLISHED + b"220 ready\r\n\r\n") as one:
        with await Dialler(frozenset(), resolve=never, proxy=one.address).connect("mail.test", 25) as found:
            data = b""
            while len(data) < 13:
                data += await asyncio.get_running_loop().sock_recv(found, 100)
            assert data == b"220 ready\r\n\r\n"


async def test_hints_before_the_answer_are_read_over() -> None:
    async with proxy(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ESTABLISHED) as one:
        (await Dialler(frozenset(), resolve=never, proxy=one.address).connect("api.test", 443)).close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "answered 403"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!", "answered 502"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "credentials"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n", "answered 301"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 2oo OK\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\n\n220 ready\r\n\r\n", "malformed"),  # nothing that is the host's is lost
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000, "no end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "gave no answer"),
        (b"", "ended the connection"),
    ],
)
async def test_a_proxy_that_gives_no_tunnel(answer: bytes, words: str) -> None:
    async with proxy(answer) as one:
        with pytest.raises(Unreachable, match=words) as caught:
            await Dialler(frozenset(), resolve=never, proxy=one.address).connect("api.test", 443)
        assert not caught.value.refused


async def test_a_proxy_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "ANSWER_S", 0.1)
    async with proxy(b"HTTP/1.1 200") as one:
        with pytest.raises(Unreachable, match="in time"):
            await Dialler(frozenset(), resolve=never, proxy=one.address).connect("api.test", 443)


async def test_a_proxy_that_is_not_there() -> None:
    async with proxy() as one:
        gone = one.address
    with pytest.raises(Unreachable, match="the proxy could not be reached"):
        await Dialler(frozenset(), resolve=never, proxy=gone).connect("api.test", 443)

    def unknown(_name: str) -> Sequence[str]:
        raise OSError

    with pytest.raises(Unreachable, match="resolved"):
        await Dialler(frozenset(), resolve=unknown, proxy=Destination("proxy.test", 3128)).connect("api.test", 443)


async def test_the_proxys_own_name_is_looked_up_anywhere() -> None:
    async with proxy() as one:
        lab = Lab(addresses={"proxy.test": [LOOPBACK]})
        dialler = Dialler(frozenset(), lab, never, proxy=Destination("proxy.test", one.address.port))
        (await dialler.connect("api.test", 443)).close()
        assert len(one.asked) == 1


async def test_hosts_of_private_networks_are_reached_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = []
    real = Dialler._open

    async def connect(self, address, port):
        dialled.append(address)
        return await real(self, LOOPBACK, one.address.port)

    monkeypatch.setattr(Dialler, "_open", connect)
    monkeypatch.setattr(addresses, "is_own", lambda _: False)
    answers = {"in.test": ["10.20.0.5"], "out.test": ["8.8.8.8"], "bad.test": ["169.254.169.254"]}
    answers["both.test"] = ["8.8.4.4", "10.20.0.6"]
    asked = []

    def resolve(name: str) -> Sequence[str]:
        asked.append(name)
        if name not in answers:
            raise OSError
        return answers[name]

    inside = frozenset((name, 443) for name in ("in.test", "out.test", "bad.test", "both.test", "unknown.test"))
    private = [ipaddress.ip_network("10.20.0.0/16")]
    async with proxy() as one:
        dialler = Dialler(frozenset(), None, resolve, private, inside, one.address)
        (await dialler.connect("in.test", 443)).close()
        assert dialled == ["10.20.0.5"] and not one.asked
        for name in ("out.test", "unknown.test", "other.test"):
            (await dialler.connect(name, 443)).close()
        assert dialled[1:] == [LOOPBACK] * 3
        with pytest.raises(Unreachable, match="metadata"):
            await dialler.connect("bad.test", 443)
        assert len(dialled) == 4
        (await dialler.connect("both.test", 443)).close()
        assert dialled[4:] == ["10.20.0.6"]  # to the others the proxy is the way
        assert asked == ["in.test", "out.test", "unknown.test", "bad.test", "both.test"]  # once each


async def test_the_gate_asks_for_what_is_listed_only(door) -> None:
    async with proxy(ESTABLISHED) as one:
        await door.open(("good.test", 8443))
        door.gate.dialler = Dialler(frozenset(), resolve=never, proxy=one.address)
        head = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n"
        for target in (b"evil.test:8443", b"good.test:22", b"127.0.0.1:8443"):
            assert (await door.say(head % (target, target))).startswith(b"HTTP/1.1 403")
        assert not one.asked
        answer = await door.say(head % (b"good.test:8443", b"good.test:8443") + b"raw bytes")
        assert answer.startswith(b"HTTP/1.1 200") and b"<raw bytes>" in answer
        assert len(one.asked) == 1
        async with asyncio.timeout(60):
            while not (through := [event for event in door.events if "via" in event]):  # noqa: ASYNC110 - a list
                await asyncio.sleep(0.01)
        assert [(event["outcome"], event["via"]) for event in through] == [
            ("allowed", f"{LOOPBACK}:{one.address.port}")
        ]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://proxy.example.com:3128", "proxy.example.com", 3128),
        ("HTTP://Proxy:8080/", "proxy", 8080),
        ("http://127.0.0.1:3128", "127.0.0.1", 3128),
        ("http://[fd00::1]:3128", "fd00::1", 3128),
    ],
)
def test_addresses_of_proxies(text: str, host: str, port: int) -> None:
    assert proxy_address(text) == Destination(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "proxy:3128",
        "https://proxy:3128",
        "socks5://proxy:1080",
        "http://proxy",
        "http://proxy:0",
        "http://proxy:65536",
        "http://proxy:3128/path",
        "http://proxy:3128?x",
        "http://user:s3cret@proxy:3128",
        "http://:3128",
        "http://0x7f.1:3128",
        "http://2130706433:3128",
        "http://127.1:3128",
        "http://012.0.0.1:3128",
        "http://fd00::1:3128",
        "http://[127.0.0.1]:3128",
        "http://[fd00::1%lo]:3128",
        "http://pro\0xy:3128",
        "http://pro xy:3128",
        "http://pröxy:3128",
    ],
)
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(SandboxError, match="egress_proxy") as caught:
        proxy_address(text)
    assert "s3cret" not in caught.value.diagnostics()


def test_the_process_is_told() -> None:
    told = Destination("proxy.test", 3128)
    assert decode(encode(Settings((), (), {}, proxy=told))).proxy == told
    assert decode(encode(Settings((), (), {}))).proxy is None
