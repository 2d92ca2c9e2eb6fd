"""What the head of a request came to: known_heads says when it holds for another request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from callgate.transport.http.exchange import Headers, Sink

if TYPE_CHECKING:
    from callgate.transport.http.connection import Connection
    from callgate.transport.http.quick import QuickCall
    from callgate.transport.http.server import Endpoint, Site

Quick: TypeAlias = "Callable[[Connection, KnownRequest, bytes], QuickCall | None]"
"""The short way of a route; None: nothing was done."""


class KnownRequest:
    """See the module. It holds for requests judged by `site` and for no others.

    `before` and `after` are the halves of the head, set when it is remembered.
    """

    __slots__ = (
        "after", "before", "endpoint", "headers", "memo", "method", "principal", "query", "quick", "site", "through",
    )  # fmt: skip

    def __init__(
        self, site: Site, headers: Headers, method: bytes, endpoint: Endpoint, principal: str, query: str
    ) -> None:
        self.site = site
        self.before = self.after = b""
        self.headers = headers
        self.method = method
        self.endpoint = endpoint
        self.principal = principal
        self.query = query
        self.memo: dict[object, Any] = {}
        self.quick: Quick | None = getattr(endpoint.route, "quick_call", None) if method == b"POST" else None
        """The route's short way."""
        self.through: Callable[[Sink], Sink] | None = None
        """What answers that are not quick pass on their way to the connection."""

    def seen_as(
        self, headers: Headers, memo: dict[object, Any] | None, through: Callable[[Sink], Sink]
    ) -> KnownRequest:
        """The same as a route behind another one sees it."""
        seen = KnownRequest(self.site, headers, self.method, self.endpoint, self.principal, self.query)
        seen.before, seen.after = self.before, self.after
        if memo is not None:
            seen.memo = memo
        seen.through = through
        return seen
