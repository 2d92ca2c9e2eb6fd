"""Resolving a name and connecting to exactly what was judged: there is no second look-up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from callgate.sandbox.egress import addresses, names
from callgate.sandbox.egress.settings import Lab

RESOLVE_S = 5.0
CONNECT_S = 10.0
MAX_ADDRESSES = 8
"""Addresses of one name that are looked at."""
ATTEMPTS = 4
"""Addresses of one name that are tried, one after the other."""
_THREADS = 8

Resolve = Callable[[str], Sequence[str]]


class Unreachable(Exception):
    """Why there is no connection; safe to show. `refused`: the gate would not, else the host could not."""

    def __init__(self, why: str, *, refused: bool) -> None:
        super().__init__(why)
        self.refused = refused


def system_resolver(name: str) -> Sequence[str]:
    """Addresses of a valid name, as the machine resolves them. Raises OSError. Blocks."""
    found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]


class Dialler:
    """Opens connections to listed hosts. `listed` are the addresses that stand in the network list themselves.

    `private` networks are open for the exact names of `inside`, each with its port, and for nothing else.
    """

    def __init__(
        self,
        listed: frozenset[str],
        lab: Lab | None = None,
        resolve: Resolve = system_resolver,
        private: Sequence[addresses.Network] = (),
        inside: frozenset[tuple[str, int]] = frozenset(),
    ) -> None:
        self._listed = listed
        self._private = private
        self._inside = inside
        self._lab = lab
        self._resolve = resolve
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")

    async def connect(self, host: str, port: int, private: Callable[[str], None] = lambda _: None) -> socket.socket:
        """A connected, non-blocking socket. `private` is told which private network it leads to. Raises Unreachable."""
        good = await self.addresses(host, port)
        if self._lab is not None:
            port = self._lab.ports.get(f"{host}:{port}", port)
        problem = ""
        for found in good[:ATTEMPTS]:
            try:
                one = await self._open(found, port)
            except TimeoutError:
                problem = "the host did not answer in time"
            except OSError as error:
                problem = f"the host could not be reached: {error.strerror or 'network error'}"
            else:
                if network := addresses.within(found, self._private):
                    private(network)
                return one
        raise Unreachable(problem, refused=False)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where `host` may be dialled for `port`. Raises Unreachable when nowhere."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                good, why = await loop.run_in_executor(self._pool, self._judged, host, port)
        except TimeoutError:
            raise Unreachable("the name could not be resolved in time", refused=False) from None
        except OSError:
            raise Unreachable("the name could not be resolved", refused=False) from None
        if not good:
            raise Unreachable(f"the host's address is not public: {why}" if why else "no address", refused=bool(why))
        return good

    def _judged(self, host: str, port: int) -> tuple[list[str], str]:
        """In a thread: look up and judge, once."""
        lab = self._lab
        literal = names.address(host)
        if literal is not None:
            found: Sequence[str] = (literal,)
        elif lab is not None and host in lab.addresses:
            found = lab.addresses[host]
        else:
            found = self._resolve(host)
        if lab is not None and lab.permitted:
            mine = [one for one in found if one in lab.permitted]
            if mine:
                return mine, ""
        private = self._private if literal is None and (host, port) in self._inside else ()
        return addresses.acceptable(found, self._listed, private)

    async def _open(self, found: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in found else socket.AF_INET
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(one, (found, port))
        except BaseException:
            one.close()
            raise
        return one
