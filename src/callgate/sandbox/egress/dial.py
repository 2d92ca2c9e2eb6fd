"""Resolving a name and connecting to exactly what was judged: there is no second look-up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from callgate.sandbox.egress import addresses, names
from callgate.sandbox.egress.report import Visit
from callgate.sandbox.egress.settings import Lab
from callgate.sandbox.spec import Destination

RESOLVE_S = 5.0
CONNECT_S = 10.0
MAX_ADDRESSES = 8
"""Addresses of one name that are looked at."""
ATTEMPTS = 4
"""Addresses of one name that are tried, one after the other."""
_THREADS = 8

_T = TypeVar("_T")
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

    `private` networks are open for the exact names of `inside`, each with its port, and for nothing else. With a
    `proxy`, everything else is asked of that one, which looks names up itself: what it finds cannot be judged.
    """

    def __init__(
        self,
        listed: frozenset[str],
        lab: Lab | None = None,
        resolve: Resolve = system_resolver,
        private: Sequence[addresses.Network] = (),
        inside: frozenset[tuple[str, int]] = frozenset(),
        proxy: Destination | None = None,
    ) -> None:
        self._listed = listed
        self._private = private
        self._inside = inside
        self._proxy = proxy
        self._lab = lab
        self._resolve = resolve
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")

    async def connect(self, host: str, port: int, visit: Visit | None = None) -> socket.socket:
        """A connected, non-blocking socket; which way it leads is written into `visit`. Raises Unreachable."""
        visit = visit or Visit(host, port)
        if self._proxy is None:
            good = await self.addresses(host, port)
        elif not (good := await self._inside_at(host, port)):
            return await self._through(self._proxy, host, port, visit)
        if self._lab is not None:
            port = self._lab.ports.get(f"{host}:{port}", port)
        found, one = await self._first(good, port, "the host")
        visit.private = addresses.within(found, self._private)
        return one

    async def _first(self, good: Sequence[str], port: int, what: str) -> tuple[str, socket.socket]:
        """The first address that takes a connection. Raises Unreachable."""
        problem = ""
        for found in good[:ATTEMPTS]:
            try:
                return found, await self._open(found, port)
            except TimeoutError:
                problem = f"{what} did not answer in time"
            except OSError as error:
                problem = f"{what} could not be reached: {error.strerror or 'network error'}"
        raise Unreachable(problem, refused=False)

    async def _inside_at(self, host: str, port: int) -> list[str]:
        """Where in a private network it is, to which the proxy is not the way. Raises Unreachable."""
        if (host, port) not in self._inside:
            return []
        try:
            good = await self.addresses(host, port)
        except Unreachable as error:
            if error.refused:
                raise
            return []  # names of the world outside are often not known inside
        return [one for one in good if addresses.within(one, self._private)]

    async def _through(self, proxy: Destination, host: str, port: int, visit: Visit) -> socket.socket:
        """By way of the proxy that the user named: wherever that is, it is dialled."""
        from callgate.sandbox.egress.tunnel import NoTunnel, open_tunnel

        visit.via = f"{proxy.host}:{proxy.port}"
        where = [proxy.host] if names.address(proxy.host) else await self._looked_up(self._found, proxy.host)
        _, one = await self._first(where, proxy.port, "the proxy")
        try:
            await open_tunnel(one, host, port)
        except NoTunnel as error:
            one.close()
            raise Unreachable(str(error), refused=False) from None
        except OSError as error:
            one.close()
            raise Unreachable(f"the proxy was lost: {error.strerror or 'network error'}", refused=False) from None
        except BaseException:
            one.close()
            raise
        return one

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where `host` may be dialled for `port`. Raises Unreachable when nowhere."""
        good, why = await self._looked_up(self._judged, host, port)
        if not good:
            raise Unreachable(f"the host's address is not public: {why}" if why else "no address", refused=bool(why))
        return good

    async def _looked_up(self, work: Callable[..., _T], *arguments: object) -> _T:
        """What `work` finds in a thread. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                return await loop.run_in_executor(self._pool, work, *arguments)
        except TimeoutError:
            raise Unreachable("the name could not be resolved in time", refused=False) from None
        except OSError:
            raise Unreachable("the name could not be resolved", refused=False) from None

    def _judged(self, host: str, port: int) -> tuple[list[str], str]:
        """In a thread: look up and judge, once."""
        lab = self._lab
        literal = names.address(host)
        found = (literal,) if literal is not None else self._found(host)
        if lab is not None and lab.permitted:
            mine = [one for one in found if one in lab.permitted]
            if mine:
                return mine, ""
        private = self._private if literal is None and (host, port) in self._inside else ()
        return addresses.acceptable(found, self._listed, private)

    def _found(self, name: str) -> Sequence[str]:
        """The addresses of a name, undecided."""
        if self._lab is not None and name in self._lab.addresses:
            return self._lab.addresses[name]
        return self._resolve(name)

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
