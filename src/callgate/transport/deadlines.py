"""Until when the requests of one conversation are waited for.

Each for the server's `request_timeout_s`, from its last progress if it reports any, and twelve times as long at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.transport.http.relay import LONGEST_CALL

if TYPE_CHECKING:
    from callgate.protocol.message import RequestId


class Deadline:
    """Of one request."""

    __slots__ = ("_last", "at")

    def __init__(self, now: float, timeout_s: float) -> None:
        self.at = now + timeout_s
        self._last = now + LONGEST_CALL * timeout_s

    def goes_on(self, now: float, timeout_s: float) -> None:
        """The server is at work on it."""
        self.at = min(self._last, max(self.at, now + timeout_s))

    def cut(self, at: float) -> None:
        """Wait until then, whatever it reports."""
        self.at = self._last = at


class Deadlines(dict["RequestId", Deadline]):
    """See the module."""

    __slots__ = ()

    def late(self, now: float) -> list[RequestId]:
        """Requests whose time is over."""
        return [request_id for request_id, deadline in self.items() if deadline.at <= now]

    def goes_on(self, request_id: RequestId | None, now: float, timeout_s: float) -> None:
        """The server is at work on a request, if it is one of these."""
        deadline = self.get(request_id) if request_id is not None else None
        if deadline is not None:
            deadline.goes_on(now, timeout_s)
