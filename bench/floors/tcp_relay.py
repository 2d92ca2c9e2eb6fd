"""The floor for an HTTP gateway in Python: uvloop moves bytes both ways and looks at nothing.

    tcp_relay.py PORT SERVER_PORT

One connection to the server for each of the client's.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One end of a pair; what arrives goes out at the other end."""

    def __init__(self, other: Side | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        for chunk in self.waiting:
            self.transport.write(chunk)

    def data_received(self, data: bytes) -> None:
        other = self.other
        assert other is not None
        if other.transport is None:
            other.waiting.append(data)
        else:
            other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Front(Side):
    """The client's end: connects the other one."""

    def __init__(self, server_port: int, tasks: set[asyncio.Task[object]]) -> None:
        self.far = Side(self)
        super().__init__(self.far)
        self.server_port = server_port
        self.tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(lambda: self.far, "127.0.0.1", self.server_port)
        task: asyncio.Task[object] = loop.create_task(connecting)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def main(port: int, server_port: int) -> None:
    tasks: set[asyncio.Task[object]] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Front(server_port, tasks), "127.0.0.1", port)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
