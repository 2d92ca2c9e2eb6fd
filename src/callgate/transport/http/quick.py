"""A call that the native lane has decided, on its way over HTTP, and its answer, for as long as both are plain.

It stands for three objects at once: the Exchange of the client's connection, the Relay of the route, and the Request
on the server's connection. As soon as anything else happens than a plain answer, `grow` puts the three in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.transport.http.exchange import Exchange
from callgate.transport.http.posts import REPEATABLE
from callgate.transport.http.relay import Relay
from callgate.transport.http.upstream import Request

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.transport.http.connection import Connection
    from callgate.transport.http.known_request import KnownRequest
    from callgate.transport.http.route import HttpRoute
    from callgate.transport.http.sessions import Session
    from callgate.transport.http.upstream import KnownAnswer, Upstream


class QuickCall:
    """See the module. `data` is what was sent to the server: its head and the body."""

    __slots__ = (
        "_client", "_data", "_started", "_waiting", "channel", "connection", "deadline", "gate", "known", "request_id",
        "route", "session",
    )  # fmt: skip

    endless = False
    on_drain = None

    def __init__(
        self,
        route: HttpRoute,
        client: Connection,
        known: KnownRequest,
        channel: Channel,
        session: Session | None,
        request_id: int,
        data: bytes,
        connection: Upstream,
    ) -> None:
        self.route = route
        self.gate = route.gate
        self.deadline = route.deadline
        self._started = route.now
        self._client = client
        self.known = known
        self.channel = channel
        self.session = session
        self.request_id = request_id
        # Kept, for by the time it is asked for, another request may have this id.
        self._waiting = channel.pending[request_id]
        self._data = data
        self.connection = connection

    def answered(self, known: KnownAnswer, data: bytes) -> bool:
        """Send on a plain answer with a head that was read before. False: it is not one, and nothing was decided."""
        native = self.channel.express
        client = self._client
        lines = known.plan.headers.lines
        date = client.quick_date()
        if native is None or not lines or date is None:
            return False
        try:
            answer = native.reply(self.channel, data, known.before, known.after, lines, date)
        except Exception:  # noqa: BLE001 - a defect, which meets the Relay, too, and is told of there
            return False
        if answer is None:
            return False
        route = self.route
        connection = self.connection
        connection.quick = None
        route.pool.release(connection)
        waiting = self.channel.pending
        if waiting:  # what a JSON body does not answer, nothing will
            waiting.pop(self.request_id, None)
        route.quick_left(self)
        client.quick_answer(answer)
        return True

    def grow(self) -> Relay:
        """What else happens than a plain answer is a matter for the three objects that this one stands for."""
        client, known = self._client, self.known
        body = self._data[self._data.find(b"\r\n\r\n") + 4 :]
        sink = client if known.through is None else known.through(client)
        exchange = Exchange(
            sink, known.method, known.endpoint.path, known.query, known.headers, body, known.principal,
            known.endpoint.name, known.memo,
        )  # fmt: skip
        relay = Relay(self.route, exchange, self.channel, (self.request_id,))
        relay.gate = self.gate
        relay.deadline = self.deadline
        relay.started = self._started
        relay.cancel_on_disconnect = self._waiting.modern
        relay.session = self.session
        connection = self.connection
        head = self._data[: len(self._data) - len(body)]
        request = Request(relay, head, body, self._waiting.method in REPEATABLE, relay.whole)
        request.connection = connection
        request.reused = True
        relay.request = request
        connection.request = request
        connection.quick = None
        self.route.grown(self, relay)
        client.grown(self, exchange)
        return relay

    def timed_out(self) -> None:
        """See Relay."""
        self.grow().timed_out()

    def end(self, why: str) -> None:
        """See Relay."""
        self.grow().end(why)
