"""A gate in this process, with a host behind it that keeps the bytes it gets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import pytest

from callgate.sandbox.egress import authority
from callgate.sandbox.egress.connection import Connection, Gate
from callgate.sandbox.egress.dial import Dialler
from callgate.sandbox.egress.leaves import Leaves
from callgate.sandbox.egress.names import Rules
from callgate.sandbox.egress.settings import Lab
from callgate.sandbox.spec import Destination, Sentinel
from tests.support.egress import LOOPBACK, Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Events(list):
    """In place of the report."""

    def tell(self, event: dict) -> None:
        self.append(event)


class RawHost:
    """Keeps what it receives on each connection, and answers each request's head with what it is told to."""

    def __init__(self, answer: bytes | Callable[[bytes], bytes] = OK) -> None:
        self.answer = answer
        self.received: list[bytearray] = []
        self.open = 0
        self.complete: Callable[[bytes], int] = lambda got: got.count(b"\r\n\r\n")
        """How many requests these bytes are."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = bytearray()
        self.received.append(mine)
        answered = 0
        self.open += 1
        try:
            while data := await reader.read(65536):
                mine += data
                while self.complete(bytes(mine)) > answered:
                    answered += 1
                    answer = self.answer(bytes(mine)) if callable(self.answer) else self.answer
                    writer.write(answer)
                    if b"Connection: close" in answer:
                        await writer.drain()
                        return
        except OSError:
            return
        finally:
            self.open -= 1
            writer.close()

    @property
    def everything(self) -> bytes:
        return b"".join(self.received)


class Door:
    """The gate's two entries, on this machine's loopback."""

    def __init__(self) -> None:
        self.events = Events()
        self.host = RawHost()
        self.world_ca = Authority()
        self.gate: Gate | None = None
        self.session_ca = ""
        self._tasks: set[asyncio.Task] = set()
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.proxy_port = self.transparent_port = 0

    async def open(
        self,
        *network: tuple[str, int],
        sentinels: tuple[Sentinel, ...] = (),
        tls: tuple[str, ...] = (),
        token: str = "",
        addresses: dict[str, list[str]] | None = None,
        leaf: bytes | None = None,
        idle_s: float = 20.0,
    ) -> None:
        """`tls`: hosts that serve TLS; the others speak in the clear. Port 0: the transparent listener's."""
        transparent, self.transparent_port = self._bound("127.77.0.1")
        proxy, self.proxy_port = self._bound("127.0.0.1")
        network = tuple((host, port or self.transparent_port) for host, port in network)
        ports: dict[str, int] = {}
        for host, port in network:
            context = None
            if host in tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._load(context, leaf or self.world_ca.leaf(host))
            server = await asyncio.start_server(self.host.serve, LOOPBACK, 0, ssl=context)
            self._servers.append(server)
            ports[f"{host}:{port}"] = server.sockets[0].getsockname()[1]
        found = addresses or {host: [LOOPBACK] for host, _ in network}
        lab = Lab(addresses=found, ports=ports, permitted=(LOOPBACK,))
        upstream = ssl.create_default_context(cadata=self.world_ca.pem)
        upstream.set_alpn_protocols(["http/1.1"])
        leaves = None
        if sentinels:
            pem, key = authority.issue([host for one in sentinels for host in one.hosts])
            self.session_ca = pem.decode()
            leaves = Leaves(pem.decode(), key.decode())
        self.gate = Gate(
            rules=Rules.of(Destination(host, port) for host, port in network),
            stand_ins={"127.77.0.1": network[0][0]} if network else {},
            dialler=Dialler(frozenset(), lab),
            report=self.events,
            upstream_tls=upstream,
            leaves=leaves,
            token=token,
            sentinels=sentinels,
            first_byte_s=30.0,
            idle_s=idle_s,
        )
        self._own(self._accept(proxy, "proxy"))
        self._own(self._accept(transparent, "transparent"))

    @staticmethod
    def _load(context: ssl.SSLContext, pem: bytes) -> None:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)

    def _bound(self, address: str) -> tuple[socket.socket, int]:
        one = socket.create_server((address, 0))
        one.setblocking(False)
        self._sockets.append(one)
        return one, one.getsockname()[1]

    def _own(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket, kind: str) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(listener)
            client.setblocking(False)
            self._own(Connection(self.gate, client).run(kind))

    async def close(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(AttributeError):  # over already (CPython before 3.11.7)
                writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        for one in self._sockets:
            one.close()
        for server in self._servers:
            server.close()
        for _ in range(5000):
            await asyncio.sleep(0.002)
            if not self.host.open:
                break
        await asyncio.sleep(0)

    async def dial(self, *, transparent: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = ("127.77.0.1", self.transparent_port) if transparent else ("127.0.0.1", self.proxy_port)
        reader, writer = await asyncio.open_connection(*where)
        self._writers.append(writer)
        return reader, writer

    async def say(self, data: bytes, *, transparent: bool = False, half_close: bool = True) -> bytes:
        """Send bytes and read to the end."""
        reader, writer = await self.dial(transparent=transparent)
        writer.write(data)
        try:
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(60):
                return await reader.read(-1)
        except OSError:
            return b""
        finally:
            writer.close()

    async def tunnel(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Through CONNECT, which must succeed."""
        reader, writer = await self.dial()
        writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        return reader, writer

    async def secure(self, host: str, port: int = 443, *, sni: str = "", ca: str = "", alpn: str = "http/1.1"):
        """TLS through CONNECT, trusting the session's CA unless `ca` says another."""
        context = ssl.create_default_context(cadata=ca or self.session_ca)
        context.set_alpn_protocols([alpn])
        if sni:
            context.check_hostname = False
        reader, writer = await self.tunnel(host, port)
        await writer.start_tls(context, server_hostname=sni or host)
        return reader, writer

    async def visits(self, count: int = 1) -> list[dict]:
        """Events of connections, once there are so many."""
        for _ in range(6000):
            found = [event for event in self.events if event["kind"] == "egress"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(self.events)


@pytest.fixture
async def door():
    one = Door()
    yield one
    await one.close()
