"""Bytes that pass as they are: two sockets, both directions, with back-pressure and an idle limit."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from callgate.sandbox.egress.report import Visit

HIGH_WATER = 512 * 1024
"""Bytes waiting for the slower side before the faster one is no longer read."""


class _End(asyncio.Protocol):
    """One side. What it receives goes to the other."""

    __slots__ = ("_closed", "_ended", "_held", "count", "other", "transport")

    def __init__(self, closed: asyncio.Future[None]) -> None:
        self._closed = closed
        self._ended = False
        self._held = False
        self.count = 0
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        other = self.other
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.write_eof()
            return not other._ended
        return False

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other._held:
            self.other._held = True
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and self.other._held:
            self.other._held = False
            if not self.other.transport.is_closing():
                self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # what waits there is still written
        if not self._closed.done():
            self._closed.set_result(None)


async def splice(client: socket.socket, upstream: socket.socket, visit: Visit, idle_s: float) -> None:
    """Until both sides have ended, or nothing moved for `idle_s`. Takes both sockets over."""
    loop = asyncio.get_running_loop()
    ends = [_End(loop.create_future()) for _ in range(2)]
    try:
        # Nothing is read from either before both are there: reading starts with the next turn of the loop.
        near, far = ends
        near.other, far.other = far, near
        await loop.create_connection(lambda: far, sock=upstream)
        if far.transport is not None:
            far.transport.pause_reading()
        await loop.connect_accepted_socket(lambda: near, client)
        if far.transport is not None and not far.transport.is_closing():
            far.transport.resume_reading()
        moved = -1
        gone = [end._closed for end in ends]
        while not all(one.done() for one in gone):
            await asyncio.wait(gone, timeout=idle_s, return_when=asyncio.ALL_COMPLETED)
            now = near.count + far.count
            if now == moved and not all(one.done() for one in gone):
                visit.reason = "idle for too long"
                break
            moved = now
    finally:
        visit.bytes_out, visit.bytes_in = ends[0].count, ends[1].count
        for end in ends:
            if end.transport is not None:
                end.transport.abort()
