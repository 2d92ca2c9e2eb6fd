"""A way out through another proxy (CONNECT, RFC 9110 section 9.3.6), where a network has no other.

That proxy resolves the names: where they lead cannot be judged here.
"""

from __future__ import annotations

import asyncio
import socket

import h11

from callgate.sandbox.egress.names import address
from callgate.sandbox.egress.peek import Cut, peek, take

HEAD_BYTES = 16 * 1024
"""Of the proxy's answer."""
ANSWER_S = 20.0
"""Until the proxy has answered: it resolves and connects itself."""
_MOST_HINTS = 8


class NoTunnel(Exception):
    """Why the proxy gave no tunnel; safe to show."""


async def open_tunnel(one: socket.socket, host: str, port: int) -> None:
    """Ask the proxy at the other end of `one`, connected and non-blocking, for `host`:`port`. Raises NoTunnel, OSError.

    Nothing behind its answer is read: what follows is the host's.
    """
    shown = f"[{host}]" if ":" in (address(host) or "") else host
    target = f"{shown}:{port}".encode("ascii")
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
    request = connection.send(h11.Request(method=b"CONNECT", target=target, headers=[(b"Host", target)]))
    try:
        async with asyncio.timeout(ANSWER_S):
            await asyncio.get_running_loop().sock_sendall(one, request or b"")
            for _ in range(_MOST_HINTS):
                size = await peek(one, _end_of_head, HEAD_BYTES)
                connection.receive_data(take(one, size))
                event = connection.next_event()
                if isinstance(event, h11.Response):
                    _check(event.status_code)
                    if connection.trailing_data[0]:  # its head ended before, with bare line feeds
                        raise NoTunnel("the proxy's answer is malformed")
                    return
    except TimeoutError:
        raise NoTunnel("the proxy did not answer in time") from None
    except Cut:
        raise NoTunnel("the proxy ended the connection, or its answer has no end") from None
    except h11.RemoteProtocolError:
        raise NoTunnel("the proxy's answer is malformed") from None
    raise NoTunnel("the proxy gave no answer")


def _end_of_head(data: bytes) -> int | None:
    end = data.find(b"\r\n\r\n")
    return end + 4 if end >= 0 else None


def _check(status: int) -> None:
    if 200 <= status < 300:
        return
    if status == 407:
        raise NoTunnel("the proxy asks for credentials, which callgate has no way to give")
    raise NoTunnel(f"the proxy answered {status}")
