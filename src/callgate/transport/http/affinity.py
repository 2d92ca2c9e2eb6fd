"""Sessions that stay with their worker, when there are several.

A handshake-era session lives in the worker that opened it: its Channel, and for a stdio server its process.
The session id the client gets says which one that is, sealed with a key of this start of the gate and bound to
the principal, so that it can be neither altered nor used by another. A worker that receives another's session
passes the request on over that worker's private unix socket. One worker alone adds nothing to session ids.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from callgate.gate import answers
from callgate.transport.http.client import Origin, Pool, Request
from callgate.transport.http.exchange import Exchange, Headers, Route, Sink
from callgate.transport.http.fields import HOP_BY_HOP, JSON, NO_STORE
from callgate.transport.http.own_answers import respond_error
from callgate.transport.http.request_plan import SESSION_HEADER
from callgate.transport.http.server import PRINCIPAL_HEADER

if TYPE_CHECKING:
    from callgate.transport.http.connection import Connection
    from callgate.transport.http.known_request import KnownRequest, Quick
    from callgate.transport.http.quick import QuickCall

HOME_OF_STREAMS = 0
"""The worker of all HTTP+SSE (2024-11-05) sessions: their ids travel in URLs, which are not sealed."""
_DROPPED = HOP_BY_HOP | {b"content-length", b"date"}


class SessionSeal:
    """Makes and reads session ids of the form `ID.WORKER.MAC`."""

    __slots__ = ("_key", "worker")

    def __init__(self, key: bytes, worker: int) -> None:
        self._key = key
        self.worker = worker

    def seal(self, session_id: bytes, principal: str) -> bytes:
        """The id for the client."""
        named = b"%b.%d" % (session_id, self.worker)
        return named + b"." + self._mac(named, principal)

    def open(self, sealed: bytes, principal: str) -> tuple[bytes, int] | None:
        """The upstream's id and the worker; None for anything this gate did not hand to this principal."""
        named, _, mac = sealed.rpartition(b".")
        if not hmac.compare_digest(mac, self._mac(named, principal)):
            return None
        session_id, _, worker = named.rpartition(b".")
        return session_id, int(worker)

    def _mac(self, named: bytes, principal: str) -> bytes:
        data = b"%b\n%b" % (named, principal.encode())
        return hmac.digest(self._key, data, hashlib.sha256).hex()[:32].encode()


class WorkerSockets:
    """The other workers' private sockets, as pools."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._pools: dict[int, Pool] = {}

    def pool(self, worker: int) -> Pool | None:
        """Connections to a worker; None for a number there is no worker for."""
        pool = self._pools.get(worker)
        if pool is None and worker < len(self._paths):
            pool = self._pools[worker] = Pool(Origin("http://worker", unix=self._paths[worker]))
        return pool

    def close(self) -> None:
        """Drop all connections."""
        for pool in self._pools.values():
            pool.close()


class _Place:
    """Where a request belongs, and its header as the route there is to see it. Depends on the header alone.

    `known` is what the short way of that route gets, once it was asked.
    """

    __slots__ = ("headers", "known", "memo", "worker")

    def __init__(self, worker: int, headers: Headers, memo: dict[object, Any] | None) -> None:
        self.worker = worker
        self.headers = headers
        self.memo = memo
        self.known: KnownRequest | None = None


class AffinityRoute:
    """A route whose session ids name the worker. Implements `exchange.Route`."""

    def __init__(self, route: Route, seal: SessionSeal, sockets: WorkerSockets) -> None:
        self.route = route
        self._seal = seal
        self._sockets = sockets
        self._quick: Quick | None = getattr(route, "quick_call", None)
        self.quick_call: Quick | None = self._quick_here if self._quick is not None else None
        """The route's short way, for requests that stay here."""

    def handle(self, exchange: Exchange) -> None:
        memo = exchange.memo
        place = memo.get(self) if memo is not None else None
        if place is None:
            place = self._place(exchange)
            if place is None:
                respond_error(exchange, 404, "session-unknown", "no such session; initialize again")
                return
            if memo is not None:
                memo[self] = place
        if place.worker != self._seal.worker:
            self._pass_on(exchange, place.worker)
            return
        exchange.headers = place.headers
        exchange.memo = place.memo
        if exchange.sink is not None:
            exchange.sink = self._sealing(exchange.sink)
        self.route.handle(exchange)

    def _quick_here(self, client: Connection, known: KnownRequest, data: bytes) -> QuickCall | None:
        place: _Place | None = known.memo.get(self)
        if place is None or place.worker != self._seal.worker or self._quick is None:
            return None
        below = place.known
        if below is None:
            below = place.known = known.seen_as(place.headers, place.memo, self._sealing)
        return self._quick(client, below, data)

    def _sealing(self, sink: Sink) -> Sink:
        return _Sealing(sink, self._seal)

    def _place(self, exchange: Exchange) -> _Place | None:
        """None for a session id that this gate did not hand to this principal."""
        worker = self._seal.worker
        headers = exchange.headers
        # The route below sees another header than the client sent, so what it derives is kept apart.
        memo: dict[object, Any] | None = None if exchange.memo is None else {}
        sealed = exchange.header(SESSION_HEADER)
        if sealed is not None:
            found = self._seal.open(sealed, exchange.principal)
            if found is None:
                return None
            session_id, worker = found
            if worker == self._seal.worker:
                headers = [(name, session_id if name == SESSION_HEADER else value) for name, value in headers]
        elif not exchange.path.endswith("/mcp"):
            worker = HOME_OF_STREAMS
        return _Place(worker, headers, memo)

    def _pass_on(self, exchange: Exchange, worker: int) -> None:
        pool = self._sockets.pool(worker)
        if pool is None:
            _gone(exchange)
            return
        target = exchange.path + ("?" + exchange.query if exchange.query else "")
        lines = [b"%b %b HTTP/1.1\r\nhost: worker" % (exchange.method, target.encode("latin-1"))]
        lines.append(PRINCIPAL_HEADER + b": " + exchange.principal.encode())
        lines += [name + b": " + value for name, value in exchange.headers if name != PRINCIPAL_HEADER]
        lines.append(b"content-length: %d\r\n\r\n" % len(exchange.body))
        hop = _Hop(exchange)
        hop.request = pool.send(hop, b"\r\n".join(lines), exchange.body)

    async def close(self, grace_s: float) -> None:
        await self.route.close(grace_s)


class _Sealing:
    """A Sink that seals the session id of the answer on its way out."""

    __slots__ = ("_seal", "_sink")

    def __init__(self, sink: Sink, seal: SessionSeal) -> None:
        self._sink = sink
        self._seal = seal

    def _sealed(self, exchange: Exchange, headers: Headers) -> Headers:
        for name, _ in headers:
            if name == SESSION_HEADER:
                break
        else:
            return headers  # nearly all answers: only one that opens a session names it
        seal = self._seal
        return [
            (name, seal.seal(value, exchange.principal) if name == SESSION_HEADER else value) for name, value in headers
        ]

    def send_response(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        self._sink.send_response(exchange, status, self._sealed(exchange, headers), body)

    def refused(self, exchange: Exchange, status: int, rule: str) -> None:
        self._sink.refused(exchange, status, rule)

    def send_head(self, exchange: Exchange, status: int, headers: Headers) -> None:
        self._sink.send_head(exchange, status, self._sealed(exchange, headers))

    def send_data(self, exchange: Exchange, data: bytes) -> bool:
        return self._sink.send_data(exchange, data)

    def send_end(self, exchange: Exchange, complete: bool) -> None:
        self._sink.send_end(exchange, complete)


class _Hop:
    """Another worker's answer, passed on as it comes."""

    __slots__ = ("_body", "_exchange", "_headers", "_status", "_stream", "request")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._stream = False
        self._body: list[bytes] = []
        self.request: Request | None = None
        exchange.on_disconnect = self._cancel

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        self._headers = [field for field in headers if field[0] not in _DROPPED]
        self._stream = not any(name == b"content-length" for name, _ in headers) and status != 204
        if self._stream:
            self._exchange.on_drain = self._resume
            self._exchange.start_stream(status, self._headers)

    def on_data(self, data: bytes) -> None:
        if not self._stream:
            self._body.append(data)
        elif not self._exchange.write(data) and self.request is not None:
            self.request.pause()

    def on_end(self) -> None:
        self.request = None
        if self._stream:
            self._exchange.finish()
        else:
            self._exchange.respond(self._status, self._headers, b"".join(self._body))

    def on_error(self, what: str) -> None:
        self.request = None
        if self._stream:
            self._exchange.abort()
        else:
            _gone(self._exchange)

    def _resume(self) -> None:
        if self.request is not None:
            self.request.resume()

    def _cancel(self) -> None:
        if self.request is not None:
            self.request.cancel()
            self.request = None


def _gone(exchange: Exchange) -> None:
    text = "callgate: the worker that holds this session is gone; initialize again"
    exchange.respond(404, [JSON, NO_STORE], answers.error(None, answers.UNAVAILABLE, text, "session-unknown"))
