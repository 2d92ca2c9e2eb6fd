"""What the gate tells a server on its own account: why a request of the server's was refused.

Nobody waits for what the server says to that: it is dropped, and a stream is not waited for. As the server decides how
much it asks that is refused, MOST of its notices are under way at once, for as long as any request may be; further ones
wait. Where one was not answered in that time, nor any other since it was sent, the server takes none: those that wait
are forgotten.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from callgate.transport.http.client import Request
from callgate.transport.http.exchange import Headers

if TYPE_CHECKING:
    from callgate.transport.http.route import HttpRoute

MOST = 16
WAITING = 1000
_END = b"\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream"


class Notices:
    """See the module. Of one route."""

    def __init__(self, route: HttpRoute) -> None:
        self._route = route
        self._sent: set[_Notice] = set()
        self._heard = 0.0
        """The deadline of a notice that would have been sent when the last answer came."""
        self._waiting: deque[tuple[bytes, bytes]] = deque(maxlen=WAITING)

    def __len__(self) -> int:
        """How many are under way, or wait."""
        return len(self._sent) + len(self._waiting)

    def add(self, start: bytes, session: Headers, message: bytes) -> None:
        """Tell the server. `start` is the first line with the gate's own headers, `session` says to whom it belongs."""
        lines = [start + _END, *(name + b": " + value for name, value in session)]
        lines.append(b"content-length: %d\r\n\r\n" % len(message))
        self._waiting.append((b"\r\n".join(lines), message))
        self._go_on()

    def sweep(self, now: float) -> None:
        """Give up on those that have not been answered in time."""
        late = [notice for notice in self._sent if notice.deadline < now]
        if any(notice.deadline >= self._heard for notice in late):
            self._waiting.clear()
        for notice in late:
            notice.end()

    def close(self) -> None:
        """The route closes."""
        self._waiting.clear()
        for notice in tuple(self._sent):
            notice.end()

    def answered(self) -> None:
        """The server took one."""
        self._heard = self._route.deadline

    def over(self, notice: _Notice) -> None:
        """One of them is answered, or never will be."""
        self._sent.discard(notice)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and len(self._sent) < MOST:
            head, message = self._waiting.popleft()
            notice = _Notice(self, self._route.deadline)
            self._sent.add(notice)
            notice.request = self._route.pool.send(notice, head, message)


class _Notice:
    """One of them. Implements `upstream.AnswerHandler`."""

    __slots__ = ("_notices", "deadline", "request")

    def __init__(self, notices: Notices, deadline: float) -> None:
        self._notices = notices
        self.deadline = deadline
        self.request: Request | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        """Whatever it is."""
        self._notices.answered()

    def on_data(self, data: bytes) -> None:
        self.end()

    def on_end(self) -> None:
        self._notices.over(self)

    def on_error(self, what: str) -> None:
        self._notices.over(self)

    def end(self) -> None:
        """Hear nothing more."""
        if self.request is not None:
            self.request.cancel()
        self._notices.over(self)
