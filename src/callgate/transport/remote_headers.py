"""The route to a server behind a URL whose headers hold references: nothing is sent before they are resolved.

The stores are asked beside the loop, when the first request comes; requests wait for that, with a limit, and those of
other servers do not notice. What is exchanged later takes effect with the next message; what could not be exchanged
before its lease ended is refused, until it could.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from callgate.config import ServerConfig
from callgate.errors import AuditError, CallgateError
from callgate.gate import answers
from callgate.launching.headers import LiveHeaders
from callgate.transport.aside import Aside
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.fields import JSON
from callgate.transport.http.own_head import configured_headers
from callgate.transport.starts import START_S
from callgate.transport.stderr_relay import StderrRelay

if TYPE_CHECKING:
    from pathlib import Path

    from callgate.gate.engine import Gate

PAUSE_S = 2.0
"""Between a store's refusal and the next question: requests in between are refused with what it said."""
MOST_WAITING = 256
"""Requests that wait for a store at once."""


class Inner(Protocol):
    """The route behind: renewable, and with headers that can be exchanged."""

    def handle(self, exchange: Exchange) -> None: ...

    async def close(self, grace_s: float) -> None: ...

    def renew(self, server: ServerConfig, gate: Gate) -> None: ...

    def renew_headers(self, headers: Headers) -> None: ...


class ReferencedRoute:
    """See the module. `inner` was made without the headers that are to be resolved."""

    def __init__(self, inner: Inner, server: ServerConfig, gate: Gate, state: Path) -> None:
        configured_headers(server)  # names and the text around references: a mistake is told at the start
        self.serves_sse = getattr(inner, "serves_sse", False)
        self._inner = inner
        self._server = server
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._aside = Aside(self._loop)
        self._live = LiveHeaders(server.headers, state, server.name, changed=self._changed, problem=self._problem)
        self._waiting: dict[Exchange, asyncio.TimerHandle] = {}
        self._asking = False
        self._why = ""
        self._not_before = 0.0
        self._told = ""
        self._closing = False

    def handle(self, exchange: Exchange) -> None:
        """Pass it on, now or when there are headers; refuse it where there are none."""
        if self._live.resolved:
            if why := self._live.ended:
                self._refuse(exchange, why)
            else:
                self._inner.handle(exchange)
        elif self._closing:
            self._refuse(exchange, "the gateway is being stopped")
        elif len(self._waiting) >= MOST_WAITING:
            self._refuse(exchange, "too many requests wait for the credential of this server")
        elif self._loop.time() < self._not_before:
            self._refuse(exchange, self._why)
        else:
            self._wait(exchange)

    def _wait(self, exchange: Exchange) -> None:
        late = "its store of secrets does not answer"
        self._waiting[exchange] = self._loop.call_later(START_S, self._give_up, exchange, late)
        exchange.on_disconnect = lambda: self._forget(exchange)
        if not self._asking:
            self._asking = True
            self._aside.run(self._live.resolve, self._resolved)

    def _forget(self, exchange: Exchange) -> None:
        self._waiting.pop(exchange).cancel()

    def _give_up(self, exchange: Exchange, why: str) -> None:
        self._forget(exchange)
        self._refuse(exchange, why)

    def _resolved(self, result: Exception | None) -> None:
        self._asking = False
        waiting = list(self._waiting)
        if self._closing:
            self._aside.run(self._live.close)  # it came too late to be of use
            result = result or CallgateError("the gateway is being stopped")
        elif result is None:
            result = self._apply()
        if result is not None:
            self._why = result.what if isinstance(result, CallgateError) else "callgate itself failed"
            self._not_before = self._loop.time() + PAUSE_S
            self._tell(self._why)
        for exchange in waiting:
            if exchange not in self._waiting:
                continue  # it went away while another one was handled
            if result is not None:
                self._give_up(exchange, self._why)
            else:
                self._forget(exchange)
                exchange.on_disconnect = None
                self._inner.handle(exchange)

    def _apply(self) -> CallgateError | None:
        """The headers of now, towards the server; what is wrong with them."""
        try:
            self._inner.renew_headers(configured_headers(replace(self._server, headers=self._live.current)))
        except CallgateError as error:
            return error
        return None

    def _refuse(self, exchange: Exchange, why: str) -> None:
        text = f"callgate: no message can be sent to this server: {why}"
        body = answers.error(None, answers.UNAVAILABLE, text, "credential")
        exchange.refuse(503, "credential", [JSON, (b"retry-after", b"5")], body)

    # -- from other threads ----------------------------------------------------------------------

    def _changed(self) -> None:
        self._soon(self._exchanged)

    def _problem(self, what: str) -> None:
        self._soon(self._tell, what)

    def _soon(self, call: object, *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)  # type: ignore[arg-type]
        except RuntimeError:
            return  # the loop has ended

    def _exchanged(self) -> None:
        error = self._apply()
        if error is not None:
            self._tell(error.what)
            return
        self._told = ""
        self._note({"server": self._server.name, "state": "renewed", "headers": sorted(self._server.headers)})

    def _tell(self, what: str) -> None:
        """On record, and to the person at the terminal; the same again only after it was well."""
        if what != self._told:
            self._told = what
            self._note({"server": self._server.name, "state": "failed", "reason": what})
            StderrRelay(self._server.name).say(what)

    def _note(self, fields: dict[str, object]) -> None:
        try:
            self._gate.journal.note("credential", fields)
        except AuditError:
            return  # the journal counts it as lost; the next message fails closed

    # -- Route -----------------------------------------------------------------------------------

    def renew(self, server: ServerConfig, gate: Gate) -> None:
        """Judge later requests by another gate. The references are those of before."""
        self._gate = gate
        self._inner.renew(replace(server, headers={}), gate)

    async def close(self, grace_s: float) -> None:
        """As the route behind; then what was leased is given back."""
        self._closing = True
        for exchange in tuple(self._waiting):
            self._give_up(exchange, "the gateway is being stopped")
        await self._inner.close(grace_s)
        self._aside.run(self._live.close)
        await self._aside.idle(grace_s / 2 + 3.0)
