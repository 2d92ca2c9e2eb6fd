"""HTTP+SSE of 2024-11-05 for clients of a server that speaks Streamable HTTP: `…/sse` and `…/messages`, beside `…/mcp`.

Each stream is a conversation of its own with the server, with a session there where the server has sessions. At
most `sessions` of them at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from callgate.config import ServerConfig
from callgate.errors import CallgateError, LaunchError
from callgate.gate import answers
from callgate.gate.channel import Channel
from callgate.transport.bridge import Link, Upstream
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.fields import JSON
from callgate.transport.http.own_head import configured_headers
from callgate.transport.http.route import HttpRoute
from callgate.transport.http.waiting import until
from callgate.transport.process import ProcessEvents
from callgate.transport.remote_upstream import RemoteUpstream
from callgate.transport.sse_legacy import SseFace
from callgate.transport.starts import Done, Start

if TYPE_CHECKING:
    from callgate.gate.engine import Gate

TICK_S: Final = 1.0
_END_S: Final = 3.0
"""How long the end of the sessions at the server may take."""


class OwnHeaders:
    """The headers the gate sends to the server, as they are now (`remote_server.HeaderSource`)."""

    ended: Final = ""
    """A credential that has ended is refused before a message comes here."""

    def __init__(self, headers: Headers) -> None:
        self.take(headers)

    def take(self, headers: Headers) -> None:
        """Send these from now on."""
        self.current: Mapping[str, str] = {name.decode(): value.decode() for name, value in headers}


class SseBesideHttp:
    """`direct` answers at `…/mcp`. Implements `exchange.Route`; raises ConfigError as HttpRoute does."""

    serves_sse = True

    def __init__(self, server: ServerConfig, gate: Gate) -> None:
        self.direct = HttpRoute(server, gate)
        self._server = server
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._headers = OwnHeaders(configured_headers(server))
        self._upstreams: set[Upstream] = set()
        self._closing = False
        self._ticker: asyncio.TimerHandle | None = None
        self._sse = self._face()

    def handle(self, exchange: Exchange) -> None:
        """Answer one HTTP request."""
        if exchange.path.endswith("/mcp"):
            self.direct.handle(exchange)
        elif self._closing:
            self._problem(exchange, 503, "closing", "the gateway is being stopped")
        elif exchange.path.endswith("/messages"):
            self._sse.post(exchange)
        elif not _takes_events(exchange):
            self._problem(exchange, 406, "http-accept", "Accept must allow text/event-stream")
        elif self._full():
            self._problem(exchange, 503, "sessions", f"{self._server.sessions} sessions are open; end one")
        else:
            self._sse.open(exchange)
            self._tick_later()

    def _full(self) -> bool:
        self._sse.sweep()
        return len(self._sse.sessions) >= self._server.sessions

    @staticmethod
    def _problem(exchange: Exchange, status: int, rule: str, text: str) -> None:
        headers = [JSON, (b"retry-after", b"1")] if status == 503 else [JSON]
        body = answers.error(None, answers.UNAVAILABLE, f"callgate: {text}", rule)
        exchange.refuse(status, rule, headers, body)

    # -- conversations ---------------------------------------------------------------------------

    def _face(self) -> SseFace:
        timeout_s = self._server.request_timeout_s
        return SseFace(self._channel, self._begin, timeout_s, self._loop.time)

    def _channel(self, exchange: Exchange, session: str) -> Channel:
        return self._gate.channel(
            server=self._server.name, principal=exchange.principal, session=session, transport="http"
        )

    def _begin(self, done: Done) -> Start:
        """There is nothing to start: the first message connects."""
        start = Start(self._loop, done, _refused)
        self._loop.call_soon(lambda: None if start.over else start.succeed(self._connect))
        return start

    def _connect(self, events: ProcessEvents) -> Upstream:
        server = self._server
        upstream = RemoteUpstream(
            self._loop,
            server.url,
            server.name,
            self._headers,
            cast("Link", events),
            self.direct.trouble,
        )
        self._upstreams.add(upstream)
        upstream.closed.add_done_callback(lambda _: self._upstreams.discard(upstream))
        return upstream

    def _tick_later(self) -> None:
        if self._ticker is None:
            self._ticker = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        now = self._loop.time()
        for session in self._sse.sessions.values():
            session.tick(now)
        self._sse.sweep()
        if self._sse.sessions and not self._closing:
            self._tick_later()

    # -- lifecycle -------------------------------------------------------------------------------

    def renew(self, config: ServerConfig, gate: Gate) -> None:
        """Judge later requests by another gate; conversations go on."""
        self.direct.renew(config, gate)
        self._server, self._gate = config, gate
        for session in self._sse.sessions.values():
            session.link.renew(gate, config.name)
        sessions, self._sse = self._sse.sessions, self._face()
        self._sse.sessions = sessions

    def renew_headers(self, headers: Headers) -> None:
        """Send these, the gate's own, with every request from now on."""
        self.direct.renew_headers(headers)
        self._headers.take(headers)

    async def close(self, grace_s: float) -> None:
        """Let requests in flight finish within `grace_s`, then end every conversation."""
        self._closing = True
        if self._ticker is not None:
            self._ticker.cancel()
        direct = self._loop.create_task(self.direct.close(grace_s))
        await until(lambda: not any(one.busy for one in self._sse.sessions.values()), grace_s)
        for session in list(self._sse.sessions.values()):
            session.end("the gateway was stopped", 0.0)
        waiting = [upstream.closed for upstream in self._upstreams]
        if waiting:
            await asyncio.wait(waiting, timeout=_END_S)
        await direct


def _refused(error: CallgateError | OSError) -> CallgateError:
    return error if isinstance(error, CallgateError) else LaunchError(str(error))


def _takes_events(exchange: Exchange) -> bool:
    """Whether Accept allows an event stream; everything is allowed where the header is missing."""
    values = [value for name, value in exchange.headers if name == b"accept"]
    ranges = {part.partition(b";")[0].strip().lower() for value in values for part in value.split(b",")}
    return not ranges or not ranges.isdisjoint((b"text/event-stream", b"*/*", b"text/*"))
