"""One connection from the sandbox: what it is meant for, whether that may be, and by which way it then goes.

Meant is what the explicit proxy is asked for, or the name whose stand-in address was connected to. The first bytes
must say the same: TLS names it (SNI), HTTP names it (Host). On port 443 there is TLS, on port 80 HTTP; on other
ports of hosts that are listed by name, anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import h11

from callgate.sandbox.egress import hello, names
from callgate.sandbox.egress.dial import Dialler, Unreachable
from callgate.sandbox.egress.http_relay import HttpRelay, Upstream
from callgate.sandbox.egress.peek import Cut, peek, take
from callgate.sandbox.egress.report import Report, Visit
from callgate.sandbox.egress.requests import Headers, Refused, Target, shows_token, text
from callgate.sandbox.egress.splice import splice
from callgate.sandbox.egress.stream import Stream
from callgate.sandbox.egress.swap import Exchange
from callgate.sandbox.spec import Sentinel

if TYPE_CHECKING:
    from callgate.sandbox.egress.leaves import Leaves

FIRST_BYTE_S = 10.0
"""From a connection's begin to the end of its ClientHello, or of its first request's line."""
QUIET_S = 1.0
"""On a port that is neither 80 nor 443, a client that says nothing for so long waits for the host to speak first."""
IDLE_S = 600.0
_OURSELVES = ("127.0.0.1:", "localhost:")
PROXY_HEAD = 32 * 1024
"""Bytes of a CONNECT request."""

Speech: TypeAlias = Literal["tls", "http", "raw"]
_METHOD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LONGEST_METHOD = 16


@dataclass(slots=True)
class Gate:
    """What every connection of one server shares."""

    rules: names.Rules
    stand_ins: dict[str, str]
    dialler: Dialler
    report: Report
    upstream_tls: ssl.SSLContext
    leaves: Leaves | None
    token: str
    sentinels: tuple[Sentinel, ...]
    first_byte_s: float = FIRST_BYTE_S
    idle_s: float = IDLE_S

    def terminates(self, host: str) -> bool:
        """Whether TLS to `host` is opened here: it has secrets."""
        return self.leaves is not None and any(names.covers(one.hosts, host) for one in self.sentinels)


class Connection:
    """One accepted connection. `run` ends when both sides have."""

    def __init__(self, gate: Gate, client: socket.socket) -> None:
        self._gate = gate
        self._client = client
        self._told: set[tuple[str, str, str]] = set()

    async def run(self, kind: str) -> None:
        """`kind` is the listener's: `proxy` or `transparent`."""
        try:
            if kind == "transparent":
                address, port = self._client.getsockname()[:2]
                await self._transparent(self._gate.stand_ins.get(address), address, port)
            else:
                await self._proxy()
        except OSError:
            return  # the client has gone, and there is nothing to tell that a visit has not told
        finally:
            self._client.close()

    async def _transparent(self, host: str | None, address: str, port: int) -> None:
        with self._visit(host or address, port) as visit:
            if host is None:
                visit.reason = "no name stands for this address"
                return
            await self._reach(visit)

    async def _proxy(self) -> None:
        """The explicit proxy: CONNECT, or requests with an absolute target."""
        try:
            async with asyncio.timeout(self._gate.first_byte_s):
                size, request = await peek(self._client, _proxy_head, PROXY_HEAD)
        except (Cut, TimeoutError) as error:
            if not isinstance(error, Cut) or "ended" not in str(error):
                self._tell(Visit("", 0, str(error) or "no request in time"))
            return
        except h11.RemoteProtocolError:
            self._tell(Visit("", 0, "the request to the proxy is malformed"))
            await self._answer(400, "the request to the proxy is malformed")
            return
        if request is None:
            await self._plain_proxy()
            return
        take(self._client, size)
        try:
            self._check_token(list(request.headers))
            host, port = names.authority(text(request.target))
            hosts = [text(value) for name, value in request.headers if name == b"host"]
            # Node's own CONNECT names the proxy there. The target decides (RFC 9110, section 9.3.6).
            said = [names.authority(one, port) for one in hosts if not one.startswith(_OURSELVES)]
            if said and said != [(host, port)]:
                raise Refused(403, "CONNECT and Host name different hosts")
        except (names.NameRefused, Refused) as error:
            self._tell(Visit(text(request.target)[: names.MAX_NAME], 0, str(error)))
            await self._answer(error.status if isinstance(error, Refused) else 400, str(error))
            return
        with self._visit(host, port) as visit:
            await self._reach(visit, connect=True)

    async def _reach(self, visit: Visit, *, connect: bool = False) -> None:
        """Dial, look at the first bytes, and go the way they ask for."""
        gate = self._gate
        if not connect and (why := gate.rules.explain(visit.host, visit.port)):
            visit.reason = why
            return
        try:
            upstream = await self._dial(visit)
        except (Refused, Unreachable) as error:
            visit.reason = str(error)
            visit.failed = isinstance(error, Unreachable) and not error.refused
            if connect:
                await self._answer(502 if visit.failed else 403, str(error))
            return
        try:
            if connect:
                await self._write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            speech = await self._speech(visit)
            if speech == "tls" and gate.terminates(visit.host):
                await self._terminated(visit, upstream)
            elif speech == "http":
                await self._plain(visit, upstream)
            else:
                visit.tls = "passed" if speech == "tls" else "none"
                visit.reached = True
                await splice(self._client, upstream, visit, gate.idle_s)
        except (Cut, Refused, hello.NotTls) as error:
            visit.reason = str(error)
        except TimeoutError:
            visit.reason = "nothing came in time"
        finally:
            upstream.close()

    async def _dial(self, visit: Visit) -> socket.socket:
        why = self._gate.rules.explain(visit.host, visit.port)
        if why:
            raise Refused(403, f"{visit.host}:{visit.port} is {why}")
        return await self._gate.dialler.connect(visit.host, visit.port, visit)

    async def _speech(self, visit: Visit) -> Speech:
        """What the client speaks, judged by its first bytes. Raises Refused, Cut or NotTls."""
        port = visit.port
        free = port not in {80, 443} and self._gate.rules.is_exact(visit.host, port)
        try:
            async with asyncio.timeout(QUIET_S if free else self._gate.first_byte_s):
                first = await peek(self._client, lambda data: data[:1], 1)
        except TimeoutError:
            if free:
                return "raw"
            raise Cut("nothing came in time") from None
        if first == b"\x16" and port != 80:
            async with asyncio.timeout(self._gate.first_byte_s):
                name = hello.server_name(await peek(self._client, hello.handshake, hello.MAX_HELLO))
            self._check_name(name, visit.host)
            return "tls"
        if port == 443:
            raise Refused(400, "there is no TLS on port 443")
        try:
            async with asyncio.timeout(self._gate.first_byte_s):
                is_http = await peek(self._client, _begins_http, _LONGEST_METHOD + 1)
        except TimeoutError:
            raise Cut("nothing came in time") from None
        if is_http:
            return "http"
        if not free:
            raise Refused(400, "neither TLS nor HTTP")
        return "raw"

    @staticmethod
    def _check_name(name: str | None, host: str) -> None:
        """The SNI against the name that was meant. Raises Refused."""
        if name is None:
            if names.address(host) is None:
                raise Refused(403, "the TLS connection names no host")
            return
        try:
            same = names.host_name(name) == host
        except names.NameRefused as error:
            raise Refused(403, f"TLS server name: {error}") from None
        if not same:
            raise Refused(403, "TLS names another host than the connection is for")

    async def _terminated(self, visit: Visit, upstream: socket.socket) -> None:
        """TLS on both sides, secrets in between."""
        gate = self._gate
        if gate.leaves is None:
            return
        visit.tls = "terminated"
        try:
            far = await Stream.connected(upstream, gate.idle_s, gate.upstream_tls, visit.host)
        except ssl.SSLCertVerificationError as error:
            visit.reason = f"the host's certificate is not valid: {error.verify_message}"
            visit.failed = True
            return
        except (OSError, TimeoutError):
            visit.reason = "the TLS handshake with the host failed"
            visit.failed = True
            return
        try:
            client = await Stream.accepted(self._client, gate.idle_s, gate.leaves.context(visit.host))
        except (OSError, TimeoutError):
            visit.reason = "the server broke the TLS handshake off: it may not trust the session's CA"
            far.abort()
            return
        await self._relay(visit, client, far, "https")

    async def _plain(self, visit: Visit, upstream: socket.socket) -> None:
        client = await Stream.accepted(self._client, self._gate.idle_s)
        far = await Stream.connected(upstream, self._gate.idle_s, None, visit.host)
        await self._relay(visit, client, far, "http")

    async def _relay(self, visit: Visit, client: Stream, far: Stream, scheme: str) -> None:
        """HTTP for one destination; its first upstream connection is there already."""
        ready = [far]
        visit.reached = True

        async def open_upstream(_target: Target) -> Upstream:
            if ready:
                stream = ready.pop()
            else:
                again = await self._dial(visit)
                tls = self._gate.upstream_tls if scheme == "https" else None
                stream = await Stream.connected(again, self._gate.idle_s, tls, visit.host)
            return self._upstream(visit, stream, secure=scheme == "https")

        relay = HttpRelay(
            client,
            open_upstream,
            scheme=scheme,
            meant=(visit.host, visit.port),
            tell=lambda up: self._secrets(visit, up),
        )
        try:
            await relay.run()
        finally:
            visit.reason = relay.problem
            for stream in ready:
                stream.abort()
            await client.finish(linger=bool(relay.problem))

    async def _plain_proxy(self) -> None:
        """Requests with absolute targets; each may be for another host, and each host is a visit of its own."""
        gate = self._gate
        client = await Stream.accepted(self._client, gate.idle_s)
        visits = [Visit("", 0)]  # the current one

        async def open_upstream(target: Target) -> Upstream:
            if visits[0].host:
                self._tell(visits[0])
            visits[:] = [visit := Visit(target.host, target.port)]
            try:
                found = await self._dial(visit)
            except (Refused, Unreachable) as error:
                visit.failed = isinstance(error, Unreachable) and not error.refused
                raise
            visit.reached = True
            stream = await Stream.connected(found, gate.idle_s, None, target.host)
            return self._upstream(visit, stream, secure=False)

        relay = HttpRelay(
            client,
            open_upstream,
            scheme="http",
            meant=None,
            judge=self._check_token,
            tell=lambda up: self._secrets(visits[0], up),
        )
        try:
            await relay.run()
        finally:
            visits[0].reason = relay.problem
            if visits[0].host or relay.problem:
                self._tell(visits[0])
            await client.finish(linger=bool(relay.problem))

    def _upstream(self, visit: Visit, stream: Stream, *, secure: bool) -> Upstream:
        def count(sent: int, received: int) -> None:
            visit.bytes_out += sent
            visit.bytes_in += received

        current = (self._gate.sentinels, Exchange(self._gate.sentinels, visit.host, secure=secure))

        def secrets() -> Exchange:
            nonlocal current
            if current[0] is not self._gate.sentinels:  # renewed
                current = (self._gate.sentinels, Exchange(self._gate.sentinels, visit.host, secure=secure))
            return current[1]

        return Upstream(visit.host, visit.port, stream, secrets, count)

    def _secrets(self, visit: Visit, up: Upstream) -> None:
        """Take down which secrets went, and tell at once of sentinels that went astray."""
        visit.secrets |= up.exchange.used
        for name, where in up.exchange.misdirected:
            if (visit.host, name, where) not in self._told:
                self._told.add((visit.host, name, where))
                self._gate.report.tell(
                    {
                        "kind": "sentinel-misdirected",
                        "host": visit.host,
                        "port": visit.port,
                        "secret": name,
                        "where": where,
                        "reason": self._why_not(visit, name),
                    }
                )

    def _why_not(self, visit: Visit, name: str) -> str:
        """Why a sentinel was not swapped."""
        if not any(one.name == name and names.covers(one.hosts, visit.host) for one in self._gate.sentinels):
            return "the secret is not for this host"
        if visit.tls != "terminated":
            return "the connection is not encrypted"
        return "the body is longer than what is changed"

    def _check_token(self, headers: Headers) -> None:
        if self._gate.token and not shows_token(headers, self._gate.token):
            raise Refused(407, "the proxy asks for the credentials in HTTP_PROXY")

    async def _answer(self, status: int, why: str) -> None:
        """An answer of the proxy itself to CONNECT."""
        try:
            self._client.recv(PROXY_HEAD)  # what is left unread would turn our answer into a reset
        except BlockingIOError:
            pass
        body = f"callgate: {why}\n".encode()
        phrase = {407: "Proxy Authentication Required", 403: "Forbidden", 502: "Bad Gateway"}.get(status, "Bad Request")
        challenge = 'Proxy-Authenticate: Basic realm="callgate"\r\n' if status == 407 else ""
        await self._write(
            f"HTTP/1.1 {status} {phrase}\r\n{challenge}Content-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(self._gate.first_byte_s):
            await asyncio.get_running_loop().sock_sendall(self._client, data)

    @contextlib.contextmanager
    def _visit(self, host: str, port: int) -> Iterator[Visit]:
        visit = Visit(host, port)
        try:
            yield visit
        finally:
            self._tell(visit)

    def _tell(self, visit: Visit) -> None:
        self._gate.report.tell(visit.event())


def _proxy_head(data: bytes) -> tuple[int, h11.Request | None] | None:
    """A complete CONNECT request's length, and itself; (0, None) for another method. Raises RemoteProtocolError."""
    if not b"CONNECT ".startswith(data[:8]):
        return 0, None
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=PROXY_HEAD)
    parser.receive_data(data[: end + 4])
    event = parser.next_event()
    if not isinstance(event, h11.Request):
        raise h11.RemoteProtocolError("no request")
    return end + 4, event


def _begins_http(data: bytes) -> bool | None:
    """Whether these bytes begin with a method and a space; None while they might."""
    word, space, _ = data.partition(b" ")
    if not word or not _METHOD.issuperset(word) or len(word) > _LONGEST_METHOD:
        return False
    return True if space else None
