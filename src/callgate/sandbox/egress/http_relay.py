"""HTTP/1.1 between one client connection and its hosts: read strictly, judged, written anew.

Every request and response passes through h11's state machines on both sides and is serialised again from what was
parsed: there is no second reading of the same bytes by anybody, so nothing can be smuggled (RFC 9112 §11.2). One
request at a time; what a client pipelines waits.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11

from callgate.sandbox.egress.dial import Unreachable
from callgate.sandbox.egress.requests import HEAD_BYTES, Headers, Refused, Target, fields_of, forwarded, target_of
from callgate.sandbox.egress.responses import Answer
from callgate.sandbox.egress.stream import Stream
from callgate.sandbox.egress.swap import Exchange, Replacer

BODY_BYTES = 1024 * 1024
"""Bytes of a request body with a Content-Length in which sentinels are swapped; chunked bodies have no limit."""
_BODYLESS = (204, 304)


class Upstream:
    """A connection to one host: its stream, what swaps its secrets in the current request, who counts its bytes."""

    __slots__ = ("_secrets", "conn", "count", "exchange", "host", "port", "stream")

    def __init__(
        self, host: str, port: int, stream: Stream, secrets: Callable[[], Exchange], count: Callable[[int, int], None]
    ) -> None:
        self.host = host
        self.port = port
        self.stream = stream
        self._secrets = secrets
        self.exchange = secrets()
        self.count = count
        self.conn = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)

    def next_request(self) -> None:
        """Values may have been renewed since the last one."""
        self.exchange = self._secrets()

    async def send(self, event: h11.Event) -> None:
        data = self.conn.send(event)
        if data:
            self.count(len(data), 0)
            await self.stream.write(data)

    async def next_event(self) -> object:
        while (event := self.conn.next_event()) is h11.NEED_DATA:
            data = await self.stream.read()
            self.count(0, len(data))
            self.conn.receive_data(data)
        return event


@dataclass(frozen=True, slots=True)
class Body:
    """A request's final fields, and its body: `whole` with its secrets in it, or to be read and passed on."""

    headers: Headers
    whole: bytes | None = None
    passing: Replacer | None = None
    swaps: bool = False
    """Whether `passing` puts secrets in, or only looks."""


Open = Callable[[Target], Awaitable[Upstream]]
"""Connects to an allowed host. Raises Refused or Unreachable."""


class HttpRelay:
    """One client connection. `meant`: its only destination; None on the explicit proxy."""

    def __init__(
        self,
        client: Stream,
        open_upstream: Open,
        *,
        scheme: str,
        meant: tuple[str, int] | None,
        judge: Callable[[Headers], None] | None = None,
        tell: Callable[[Upstream], None] | None = None,
    ) -> None:
        self._client = client
        self._open = open_upstream
        self._scheme = scheme
        self._meant = meant
        self._judge = judge
        self._tell = tell
        self._conn = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._up: Upstream | None = None
        self.problem = ""
        """Why the connection ended other than in good order, safe to show."""

    async def run(self) -> None:
        """Until one side ends. Raises nothing that a peer could cause."""
        try:
            while await self._one():
                pass
        except Refused as refusal:
            self.problem = str(refusal)
            await self._say(refusal.status, self.problem)
        except Unreachable as error:
            self.problem = str(error)
            await self._say(403 if error.refused else 502, self.problem)
        except h11.RemoteProtocolError as error:
            at_client = self._conn.their_state is h11.ERROR
            self.problem = "malformed HTTP from the server" if at_client else "malformed HTTP from the host"
            await self._say(error.error_status_hint if at_client else 502, self.problem)
        except h11.LocalProtocolError:
            self.problem = "HTTP that cannot be passed on"
            await self._say(502, self.problem)
        except TimeoutError:
            self.problem = "idle for too long"
        except OSError:
            self.problem = self.problem or "a connection was reset"
        finally:
            self.drop_upstream()

    def drop_upstream(self) -> None:
        if self._up is not None:
            self._up.stream.abort()
            self._up = None

    async def _one(self) -> bool:
        """One request and its answer; whether there may be another."""
        request = await self._event()
        if isinstance(request, h11.ConnectionClosed):
            return False
        if not isinstance(request, h11.Request):
            raise Refused(400, "there is no request")
        headers = fields_of(request)
        if self._judge is not None:
            self._judge(headers)
        target = target_of(request, self._scheme, self._meant)
        up = await self._upstream(target)
        out = forwarded(headers, _host_field(target, self._scheme), up.exchange)
        path = up.exchange.target(target.path)
        if self._conn.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        body = await self._body(up, out)
        await up.send(h11.Request(method=request.method, target=path, headers=body.headers, http_version=b"1.1"))
        upload = asyncio.get_running_loop().create_task(self._upload(up, body))
        try:
            switched = await self._download(up, request.method)
            if switched:
                upload.cancel()
                await self._tunnel(up)
                return False
        finally:
            upload.cancel()
            await asyncio.wait([upload])
            if self._tell is not None:
                self._tell(up)
        if self._conn.our_state is not h11.DONE or self._conn.their_state is not h11.DONE:
            return False
        self._conn.start_next_cycle()
        if up.conn.our_state is h11.DONE and up.conn.their_state is h11.DONE:
            up.conn.start_next_cycle()
        else:
            self.drop_upstream()
        return True

    async def _upstream(self, target: Target) -> Upstream:
        up = self._up
        if up is not None and ((up.host, up.port) != (target.host, target.port) or up.stream.ended):
            self.drop_upstream()
        if self._up is None:
            self._up = await self._open(target)
        else:
            self._up.next_request()
        return self._up

    async def _body(self, up: Upstream, headers: Headers) -> Body:
        """How the request's body goes on: whole and changed, or as it comes."""
        fields = {name.lower(): value for name, value in headers}
        kind = fields.get(b"content-type", b"")
        exchange = up.exchange
        if b"content-encoding" in fields:
            return Body(headers)  # nothing can be seen in it, so nothing is swapped
        if b"transfer-encoding" in fields:
            return Body(headers, passing=exchange.body(kind), swaps=True)
        length = int(fields.get(b"content-length", b"0"))
        if length == 0 or not exchange.own or length > BODY_BYTES:
            return Body(headers, passing=exchange.watch())
        parts = []
        while isinstance(event := await self._event(), h11.Data):
            parts.append(bytes(event.data))
        replacer = exchange.body(kind)
        whole = replacer.whole(b"".join(parts))
        exchange.settle(replacer, swapped=True)
        size = b"%d" % len(whole)
        changed = [(name, size if name.lower() == b"content-length" else value) for name, value in headers]
        return Body(changed, whole=whole)

    async def _upload(self, up: Upstream, body: Body) -> None:
        """The request's body. What goes wrong here ends the upstream connection: the download then sees it."""
        try:
            if body.whole is not None:
                await up.send(h11.Data(data=body.whole))
                await up.send(h11.EndOfMessage())
                return
            passing = body.passing
            while isinstance(event := await self._event(), h11.Data):
                data = bytes(event.data)
                if data := passing.feed(data) if passing else data:
                    await up.send(h11.Data(data=data))
            if passing is not None:
                if rest := passing.end():
                    await up.send(h11.Data(data=rest))
                up.exchange.settle(passing, swapped=body.swaps)
            await up.send(h11.EndOfMessage())
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            if not up.stream.ended:
                if isinstance(error, h11.RemoteProtocolError):
                    self.problem = "malformed HTTP from the server"
                up.stream.abort()

    async def _download(self, up: Upstream, method: bytes) -> bool:
        """The response; whether the protocol was switched."""
        while True:
            event = await up.next_event()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 100:
                    continue  # we have said that ourselves
                fields = Answer.fields(fields_of(event), up.exchange)
                await self._send(h11.InformationalResponse(status_code=event.status_code, headers=fields))
                if event.status_code == 101:
                    return True
            elif isinstance(event, h11.Response):
                break
            else:
                self.problem = self.problem or "the host closed without an answer"
                raise Refused(502, self.problem)
        bodyless = method == b"HEAD" or event.status_code in _BODYLESS
        answer = Answer(fields_of(event), up.exchange, bodyless=bodyless)
        held: list[bytes] = []
        if answer.whole:
            while isinstance(part := await up.next_event(), h11.Data):
                held += answer.feed(bytes(part.data))
            held += answer.end()
            answer.settle_length(sum(map(len, held)))
        await self._send(
            h11.Response(
                status_code=event.status_code,
                reason=answer.text(event.reason),
                headers=answer.headers,
                http_version=b"1.1",
            )
        )
        for data in held:
            await self._send(h11.Data(data=data))
        if not answer.whole:
            while isinstance(part := await up.next_event(), h11.Data):
                for data in answer.feed(bytes(part.data)):
                    await self._send(h11.Data(data=data))
            if not bodyless:
                for data in answer.end():
                    await self._send(h11.Data(data=data))
        await self._send(h11.EndOfMessage())
        return False

    async def _tunnel(self, up: Upstream) -> None:
        """After 101: bytes, both ways. A secret that comes back through it ends it: frames cannot be changed."""
        guard = up.exchange.answer() if up.exchange.own else None
        early_up, early_down = self._conn.trailing_data[0], up.conn.trailing_data[0]

        loop = asyncio.get_running_loop()
        moved = loop.time()

        async def more(stream: Stream) -> bytes:
            """The next bytes; none at the end, or when neither side has said anything for too long."""
            nonlocal moved
            while True:
                asked = loop.time()
                try:
                    data = await stream.read()
                except TimeoutError:
                    if moved <= asked:
                        self.problem = "idle for too long"
                        return b""
                else:
                    moved = loop.time()
                    return data

        async def outward() -> None:
            data = early_up
            while True:
                up.count(len(data), 0)
                await up.stream.write(data)
                if not (data := await more(self._client)):
                    return

        async def homeward() -> None:
            data = early_down
            while True:
                if guard is not None:
                    data = guard.feed(data)
                    if guard.found:
                        self.problem = "the host sent a secret back through a WebSocket"
                        return
                await self._client.write(data)
                if not (data := await more(up.stream)):
                    return
                up.count(0, len(data))

        both = [loop.create_task(outward()), loop.create_task(homeward())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _event(self) -> object:
        while (event := self._conn.next_event()) is h11.NEED_DATA:
            self._conn.receive_data(await self._client.read())
        return event

    async def _send(self, event: h11.Event) -> None:
        data = self._conn.send(event)
        if data:
            await self._client.write(data)

    async def _say(self, status: int, why: str) -> None:
        """An answer of our own, where none has begun."""
        if self._conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        body = f"callgate: {why}\n".encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
        if status == 407:
            headers.append(("Proxy-Authenticate", 'Basic realm="callgate"'))
        try:
            phrase = http.HTTPStatus(status).phrase.encode()
            await self._send(h11.Response(status_code=status, reason=phrase, headers=headers))
            await self._send(h11.Data(data=body))
            await self._send(h11.EndOfMessage())
        except (OSError, TimeoutError, h11.LocalProtocolError):
            return  # nobody is there to read it


def _host_field(target: Target, scheme: str) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    default = target.port == {"http": 80, "https": 443}[scheme]
    return (host if default else f"{host}:{target.port}").encode()
