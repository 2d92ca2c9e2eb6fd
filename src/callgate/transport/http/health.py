"""`/healthz`: the process answers. `/readyz`: it also takes work. Neither says anything of the configuration."""

from __future__ import annotations

from collections.abc import Callable

from callgate.transport.http.exchange import Exchange
from callgate.transport.http.fields import JSON, NO_STORE


class HealthRoute:
    """200 `{"status":"ok"}` while `trouble()` says nothing, else 503 with what it says (fixed words of ours)."""

    def __init__(self, trouble: Callable[[], str]) -> None:
        self._trouble = trouble

    def handle(self, exchange: Exchange) -> None:
        trouble = self._trouble()
        body = b'{"status":"%b"}' % (trouble.encode() or b"ok")
        exchange.respond(503 if trouble else 200, [JSON, NO_STORE], body)

    async def close(self, grace_s: float) -> None:
        """Nothing to let go of."""
