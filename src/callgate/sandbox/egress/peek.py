"""Looking at a connection's first bytes without taking them: what decides is what then goes on, unchanged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Cut(Exception):
    """The other side ended, or said too much, before it had said enough; the message is safe to show."""


async def readable(one: socket.socket) -> None:
    """Return when there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(one.fileno(), wake)
    try:
        await ready
    finally:
        loop.remove_reader(one.fileno())


async def peek(one: socket.socket, enough: Callable[[bytes], T | None], limit: int) -> T:
    """The first answer of `enough` that is not None, asked with ever more of the first bytes. Raises Cut.

    The kernel wakes us only when there is more than last time (SO_RCVLOWAT), so partial data costs no spinning.
    """
    seen = 0
    try:
        while True:
            await readable(one)
            try:
                data = one.recv(limit, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except OSError:
                raise Cut("the connection was reset") from None
            if len(data) <= seen:
                raise Cut("the connection ended before it said what it is for")
            answer = enough(data)
            if answer is not None:
                return answer
            seen = len(data)
            if seen >= limit:
                raise Cut("the connection's head is too long")
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
    finally:
        if seen:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def take(one: socket.socket, size: int) -> bytes:
    """Bytes that were seen by `peek`: they are there."""
    data = b""
    while len(data) < size:
        data += one.recv(size - len(data))
    return data
