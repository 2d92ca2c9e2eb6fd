"""A Streamable HTTP server as a stream of messages: what a face that knows no HTTP needs of it.

`RemoteServer` posts, listens, keeps the session and comes back after broken streams; this makes an `Upstream` of it.
Messages wait here while the server has as many requests as it may, or a notification is not accepted yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from callgate.errors import ProtocolError
from callgate.gate.channel import Channel
from callgate.protocol.message import Direction, Message
from callgate.transport.bridge import Link
from callgate.transport.process import HIGH_WATER
from callgate.transport.remote_server import HeaderSource, RemoteServer


class RemoteUpstream:
    """One conversation, in the shape of a process (`bridge.Upstream`). `trouble` is told what failed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: str,
        name: str,
        headers: HeaderSource,
        link: Link,
        trouble: Callable[[str], None],
    ) -> None:
        self.queued = 0
        self.closed: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._link = link
        self._trouble = trouble
        self._waiting: deque[bytes] = deque()
        self._sending = False
        self._ending: asyncio.Task[None] | None = None
        self._server = RemoteServer(url, name, headers, self)

    # -- Upstream --------------------------------------------------------------------------------

    def send(self, line: bytes) -> bool:
        """Send one message, once there is room. False: hold back."""
        if self._ending is None:
            self._waiting.append(line)
            self.queued += len(line)
            self.ready()
        return self.queued <= HIGH_WATER

    def pause(self) -> None:
        """Stop reading answers."""
        self._server.pause()

    def resume(self) -> None:
        """Read again."""
        self._server.resume()

    def stop(self, grace_s: float) -> None:
        """End the session at the server and close all connections."""
        self._end("was disconnected")

    # -- remote_server.Listener ------------------------------------------------------------------

    @property
    def channel(self) -> Channel:
        """What decides now."""
        return self._link.channel

    def ready(self) -> None:
        """Send what may be sent."""
        if self._sending or self._ending is not None:
            return
        self._sending = True  # what is sent may make room at once
        while self._waiting and self._server.room:
            line = self._waiting.popleft()
            self.queued -= len(line)
            self._send(line)
        self._sending = False

    def _send(self, line: bytes) -> None:
        try:
            decoded = self.channel.codec.decode(line, Direction.CLIENT)
        except ProtocolError:  # passed uninspected, in observe mode
            self._server.send(line, None, [])
            return
        if isinstance(decoded, Message):
            self._server.send(line, decoded, [decoded])
        else:
            self._server.send(line, None, decoded)

    def incoming(self, data: bytes) -> None:
        """A message of the server, undecided."""
        if self._ending is None:
            self._link.line(data)

    def write(self, data: bytes) -> None:
        """An answer of the gate's own, to a request that the server will not answer."""
        answer = self.channel.codec.decode(data, Direction.SERVER)
        if isinstance(answer, Message) and answer.id is not None:
            self._link.unanswered(answer.id, data)

    def say(self, what: str) -> None:
        """Something that goes on record."""
        self._trouble(what)

    def lost(self) -> None:
        """The only stream broke."""
        self._end("is lost")

    def _end(self, how: str) -> None:
        if self._ending is None:
            self._waiting.clear()
            self.queued = 0
            self._ending = self._loop.create_task(self._close(how))

    async def _close(self, how: str) -> None:
        await self._server.close()
        self.closed.set_result(0)
        self._link.exited(how)
