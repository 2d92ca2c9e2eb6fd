"""One worker of `callgate serve`: a gate, its routes and the sockets, from start to drain.

SIGTERM and SIGINT drain: stop accepting, finish what is in flight, end streams in good order, close upstreams
and evidence. SIGHUP reads the configuration again: later requests are judged by it, earlier ones finish
under the old one; a configuration that does not work is reported and changes nothing. A terminal that is
closed sends SIGHUP, too: then it means the end.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from callgate.config import Config, ServerConfig
from callgate.config.places import state_directory
from callgate.errors import AuditError, CallgateError
from callgate.gate.engine import Gate
from callgate.gate.withheld import Key, carry_over, withholds
from callgate.transport.http import prefork, tls
from callgate.transport.http.affinity import AffinityRoute, SessionSeal, WorkerSockets
from callgate.transport.http.exchange import Route
from callgate.transport.http.health import HealthRoute
from callgate.transport.http.request_policy import RequestPolicy, bracketed
from callgate.transport.http.server import Endpoint, HttpServer, Site
from callgate.transport.http.waiting import place_of
from callgate.transport.http.worker_names import WorkerNames
from callgate.transport.routes import build_route

if TYPE_CHECKING:
    from callgate.audit.writer import Journal

GET_ONLY = frozenset((b"GET", b"HEAD"))
SSE_PATHS: Mapping[str, frozenset[bytes]] = {"sse": frozenset((b"GET",)), "messages": frozenset((b"POST",))}
"""HTTP+SSE of 2024-11-05, beside `/NAME/mcp`, for routes that speak it."""

_MOMENT_S = 0.1
_LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker needs to know and cannot import: where its configuration and its gate come from.

    `load` raises ConfigError; `open_journal` and `build_gate` make the evidence log and the gate. `seal_key`
    and `worker_sockets` serve session affinity and are empty for a single worker.
    """

    load: Callable[[], Config]
    open_journal: Callable[[Config], Journal]
    build_gate: Callable[[Config, Path, Journal], Gate]
    watch: Callable[[Journal], None] | None = None
    seal_key: bytes = b""
    worker_sockets: list[str] = field(default_factory=list)
    names: WorkerNames | None = None
    """What the workers withhold; None for a single one."""


@runtime_checkable
class Renewable(Protocol):
    """A route that goes on under another gate: its sessions and requests in flight survive a reload."""

    def renew(self, server: ServerConfig, gate: Gate) -> None: ...


class Worker:
    """See the module. Lives on one event loop."""

    def __init__(self, plan: Plan, config: Config, index: int = 0) -> None:
        self._plan = plan
        self._config = config
        self._index = index
        self._journal = plan.open_journal(config)
        self._state = state_directory(config)
        if plan.watch is not None:
            plan.watch(self._journal)
        self._gate = plan.build_gate(config, self._state, self._journal)
        self._tls = tls.server_context(config.listen)
        self._stop = asyncio.Event()
        self._routes: dict[str, tuple[ServerConfig, Route]] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._seal = SessionSeal(plan.seal_key, index) if plan.seal_key else None
        self._sockets = WorkerSockets(plan.worker_sockets)
        self._server = HttpServer(self._site(config, self._gate), self._note)
        self._private = HttpServer(self._server.site.private(), self._note, trusted=True)

    # -- lifecycle -------------------------------------------------------------------------------

    async def run(
        self, sock: socket.socket, private: socket.socket | None = None, ready: Callable[[], None] = lambda: None
    ) -> int:
        """Serve until told to stop; the exit code: 0, or 1 when requests had to be cut at the end.

        `ready` is called when connections are taken, and signals.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        terminal = prefork.Terminal()
        loop.add_signal_handler(signal.SIGHUP, lambda: self.stop() if terminal.gone() else self.reload())
        self._share(self._gate)
        await self._server.listen(sock, self._tls)
        if private is not None:
            await self._private.listen(private)
        listen = self._config.listen
        ready()
        self._note("start", {"worker": self._index, "host": listen.host, "port": listen.port})
        if prefork.reload_is_due():
            self.reload()
        while not self._stop.is_set():
            self._journal.tick()
            try:
                await asyncio.wait_for(self._stop.wait(), self._journal.tick_s)
            except TimeoutError:
                continue
        return await self._drain()

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()

    async def _drain(self) -> int:
        grace = self._config.listen.drain_s
        self._server.draining = self._private.draining = True
        # Routes give up a moment later than this looks, and then tell their callers: that counts as cut.
        routes = [route.close(grace + _MOMENT_S) for _, route in self._routes.values()]
        *_, public, private = await asyncio.gather(
            *routes,
            *self._retired,
            self._server.drain(grace, _LAST_WORDS_S),
            self._private.drain(grace, _LAST_WORDS_S),
            return_exceptions=True,
        )
        complete = public is True and private is True
        self._sockets.close()
        self._note("stop", {"worker": self._index, "complete": complete})
        self._gate.close()
        self._journal.close()
        return 0 if complete else 1

    # -- configuration ---------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the configuration again and put it in force, or say why not and leave everything as it is."""
        if self._stop.is_set():
            return  # routes and a gate that are made now, nobody would close
        try:
            config = self._plan.load()
            self._replace(config)
        except CallgateError as error:
            self._note("reload-failed", {"reason": error.what})
            prefork.say(f"the configuration was not changed: {error.diagnostics()}")
            return
        prefork.say("the configuration was read again")

    def _replace(self, config: Config) -> None:
        old = self._config
        # What was bound or opened at the start stays as it is until the next start.
        names = ["host", "port", "workers"]
        if bool(config.listen.tls_certificate or config.listen.tls_key) != (self._tls is not None):
            names += ["tls_certificate", "tls_key"]
        fixed = {name: getattr(old.listen, name) for name in names}
        kept = replace(config, listen=replace(config.listen, **fixed), state_dir=old.state_dir, audit=old.audit)
        if not config.listen.port:  # any port would do, so it has the one it asked for
            config = replace(config, listen=replace(config.listen, port=old.listen.port))
        if kept != config:
            what = "listen.address, listen.workers, TLS or none, state_dir and audit"
            prefork.say(f"{what} change at the next start")
        certificate = tls.server_context(kept.listen)  # before anything changes; put in use when everything has
        gate = self._plan.build_gate(kept, self._state, self._journal)
        retired_gate, retired_routes = self._gate, self._routes
        try:
            site = self._site(kept, gate)
        except CallgateError:
            gate.close()
            raise
        self._gate = gate
        if self._tls is not None and certificate is not None:
            tls.renew(self._tls, certificate)
        carry_over(retired_gate, gate)
        self._share(gate)
        self._config = kept
        self._server.site = site
        self._private.site = site.private()
        in_use = {id(route) for _, route in self._routes.values()}
        gone = [route for _, route in retired_routes.values() if id(route) not in in_use]
        self._later(self._retire(gone, retired_gate, kept.listen.drain_s))
        self._note("reload", {"source": config.source, "servers": sorted(config.served)})

    def _share(self, gate: Gate) -> None:
        """Tell the other workers what this gate withholds, and hear it of them."""
        names = self._plan.names
        if names is None:
            return

        def tell(key: Key, rule: str) -> None:
            self._shared(lambda: names.tell(key, rule))

        def hear() -> None:
            self._shared(names.catch_up)

        gate.withheld.share(tell, withholds(gate))
        descriptor = names.join(self._index, gate.withheld.heard)
        asyncio.get_running_loop().add_reader(descriptor, hear)
        hear()

    def _shared(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:  # no memory: this worker knows what it knows
            self._note("internal-error", {"error": place_of(error)})

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def _retire(self, routes: list[Route], gate: Gate, grace_s: float) -> None:
        """Let routes that are no longer configured finish."""
        await asyncio.gather(*(route.close(grace_s) for route in routes), return_exceptions=True)
        gate.close()

    def _site(self, config: Config, gate: Gate) -> Site:
        """The site for `config` and its gate, with the routes of unchanged servers kept.

        Raises ConfigError and changes nothing.
        """
        policy = RequestPolicy(config.listen)
        hosts = (*config.listen.allowed_hosts, bracketed(config.listen.host))
        open_policy = RequestPolicy(replace(config.listen, token_file="", host="127.0.0.1", allowed_hosts=hosts))
        routes: dict[str, tuple[ServerConfig, Route]] = {}
        made: list[Route] = []
        same_rules = replace(self._config, servers={}, source="") == replace(config, servers={}, source="")
        try:
            for name, server in config.served.items():
                known = self._routes.get(name)
                if known is not None and known[0] == server and (same_rules or isinstance(known[1], Renewable)):
                    routes[name] = known
                else:
                    route = build_route(server, gate)
                    routes[name] = (server, route)
                    made.append(route)
        except CallgateError:
            for route in made:
                self._later(route.close(0.0))
            raise
        for server, route in routes.values():
            if isinstance(route, Renewable) and route not in made:
                route.renew(server, gate)
        self._routes = routes
        return Site(config.listen, config.limits, policy, open_policy, self._endpoints())

    def _endpoints(self) -> dict[bytes, Endpoint]:
        alive = HealthRoute(lambda: "")
        ready = HealthRoute(self._trouble)
        endpoints = {
            b"/healthz": Endpoint("", alive, "/healthz", GET_ONLY, anonymous=True),
            b"/readyz": Endpoint("", ready, "/readyz", GET_ONLY, anonymous=True),
        }
        single = len(self._routes) == 1
        for name, (_, plain) in self._routes.items():
            route = self._at_home(plain)
            main = self._at_home(getattr(plain, "direct", plain))
            for base in (f"/{name}", "") if single else (f"/{name}",):
                endpoints[f"{base}/mcp".encode()] = Endpoint(name, main, f"{base}/mcp")
                if getattr(plain, "serves_sse", False):
                    for last, methods in SSE_PATHS.items():
                        endpoints[f"{base}/{last}".encode()] = Endpoint(name, route, f"{base}/{last}", methods)
        return endpoints

    def _at_home(self, route: Route) -> Route:
        """The route, behind what keeps sessions with their worker where there are several."""
        return AffinityRoute(route, self._seal, self._sockets) if self._seal is not None else route

    def _trouble(self) -> str:
        if self._server.draining:
            return "draining"
        if self._journal.lost:
            return "evidence log cannot be written"
        return ""

    def _note(self, kind: str, fields: dict[str, object]) -> None:
        try:
            self._journal.note(kind, fields)
        except AuditError as error:
            prefork.say(error.what)
