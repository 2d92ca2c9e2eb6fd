"""A connection as a reader and a writer, over a socket that is already connected, with or without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

CHUNK = 256 * 1024
HANDSHAKE_S = 10.0
_FINISH_S = 2.0
_LINGER_S = 1.0
_LINGER_READS = 64
_WRITE_LIMIT = 256 * 1024


class Stream:
    """Reads and writes with an idle limit in seconds: beyond it, TimeoutError."""

    __slots__ = ("_idle_s", "_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._idle_s = idle_s

    @classmethod
    async def accepted(cls, one: socket.socket, idle_s: float, tls: ssl.SSLContext | None = None) -> Stream:
        """Our side of a client's connection. Raises OSError (also ssl.SSLError)."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, one, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S if tls else None
        )
        return cls._over(reader, asyncio.StreamWriter(transport, protocol, reader, loop), idle_s)

    @classmethod
    async def connected(cls, one: socket.socket, idle_s: float, tls: ssl.SSLContext | None, host: str) -> Stream:
        """Our side of a connection to `host`, verified where `tls` is given. Raises OSError."""
        reader, writer = await asyncio.open_connection(
            sock=one,
            limit=CHUNK,
            ssl=tls,
            server_hostname=host if tls else None,
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
        )
        return cls._over(reader, writer, idle_s)

    @classmethod
    def _over(cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_s: float) -> Stream:
        writer.transport.set_write_buffer_limits(_WRITE_LIMIT)
        return cls(reader, writer, idle_s)

    @property
    def ended(self) -> bool:
        """Whether the other side has closed and nothing of it is left to read."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        async with asyncio.timeout(self._idle_s):
            return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            async with asyncio.timeout(self._idle_s):
                await self._writer.drain()

    async def finish(self, *, linger: bool) -> None:
        """Close, with what waits sent, for a short while.

        `linger`: read on for a moment, too; unread bytes would reset the connection, and our last answer be lost.
        """
        try:
            async with asyncio.timeout(_FINISH_S):
                if linger:
                    await self._linger()
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            return
        finally:
            self.abort()

    def abort(self) -> None:
        with contextlib.suppress(AttributeError):  # a TLS connection that is over already (CPython before 3.11.7)
            self._writer.transport.abort()

    async def _linger(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()
        try:
            async with asyncio.timeout(_LINGER_S):
                for _ in range(_LINGER_READS):
                    if not await self._reader.read(CHUNK):
                        return
        except TimeoutError:
            return
