"""The gate's own process: `python -I -m callgate.sandbox.egress.process`, started by `gate.EgressGate`.

Descriptor 0 is the control socket (settings and listeners come in, renewed secrets follow, events go out), 3 the
pipe whose other end only callgate holds. Either one's end is the end of this process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
import threading
from ipaddress import ip_network

from callgate.sandbox.egress.confine import confine
from callgate.sandbox.egress.connection import FIRST_BYTE_S, IDLE_S, Connection, Gate
from callgate.sandbox.egress.dial import Dialler
from callgate.sandbox.egress.names import Rules, address, host_name
from callgate.sandbox.egress.report import Report
from callgate.sandbox.egress.settings import MAX_SETTINGS, Settings, decode, decode_sentinels

CONNECTIONS = 128
"""At once; more are closed as they come, and counted."""
_CONTROL, _LIFELINE = 0, 3
_FLUSH_S = 1.0
_MAX_LISTENERS = 64


def main() -> int:
    """Until callgate closes its ends."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # a key pressed in the terminal is for callgate
    os.chdir("/")
    control = socket.socket(fileno=_CONTROL)
    settings, listeners, rest = _receive(control)
    report = Report(control)
    gate = _gate(settings, report)
    missing = confine()
    threading.Thread(target=_watch_lifeline, name="lifeline", daemon=True).start()
    if missing:
        report.tell({"kind": "egress-gate", "outcome": "unconfined", "reason": ", ".join(missing)})
    server = Server(gate, settings, control, rest)
    try:
        # Not uvloop: it loses the last bytes of a TLS connection whose reader was slow (0.23).
        asyncio.run(server.run(listeners))
    finally:
        report.flush(last=True)
        os._exit(0)  # threads may still wait for a resolver


def _receive(control: socket.socket) -> tuple[Settings, list[socket.socket], bytes]:
    """Settings and listeners, and what came after them."""
    data, found, _flags, _from = socket.recv_fds(control, MAX_SETTINGS, _MAX_LISTENERS)
    while b"\n" not in data:
        more = control.recv(MAX_SETTINGS)
        if not more:
            sys.exit(1)
        data += more
    line, _, rest = data.partition(b"\n")
    return decode(line), [socket.socket(fileno=one) for one in found], rest


def _gate(settings: Settings, report: Report) -> Gate:
    rules = Rules.of(settings.network)
    lab = settings.lab
    leaves = None
    if settings.authority:
        from callgate.sandbox.egress.leaves import Leaves  # half of the start-up time, for those who need it

        leaves = Leaves(settings.authority, settings.authority_key)
    upstream = ssl.create_default_context(cafile=settings.trust)
    upstream.minimum_version = ssl.TLSVersion.TLSv1_2
    upstream.set_alpn_protocols(["http/1.1"])
    if lab is not None and lab.authorities:
        upstream.load_verify_locations(cadata=lab.authorities)
    listed = frozenset(host for host, _port in rules.exact if address(host) is not None)
    return Gate(
        rules=rules,
        stand_ins=dict(settings.names),
        dialler=Dialler(
            listed,
            lab,
            private=[ip_network(one) for one in settings.private.networks],
            proxy=settings.proxy,
            inside=frozenset((host_name(one.host), one.port) for one in settings.private.hosts),
        ),
        report=report,
        upstream_tls=upstream,
        leaves=leaves,
        token=settings.token,
        sentinels=settings.sentinels,
        first_byte_s=(lab and lab.first_byte_s) or FIRST_BYTE_S,
        idle_s=(lab and lab.idle_s) or IDLE_S,
    )


def _watch_lifeline() -> None:
    """However busy the loop is: without callgate there is no gate."""
    try:
        while os.read(_LIFELINE, 1):
            pass
    finally:
        os._exit(0)


class Server:
    """Accepts, and owns every connection's task."""

    def __init__(self, gate: Gate, settings: Settings, control: socket.socket, unread: bytes) -> None:
        self._gate = gate
        self._control = control
        self._unread = unread
        self._kinds = settings.listeners
        self._limit = (settings.lab and settings.lab.connections) or CONNECTIONS
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, listeners: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(self._control.fileno(), self._told, ended)
        for listener, kind in zip(listeners, self._kinds, strict=True):
            listener.setblocking(False)
            self._own(loop.create_task(self._accept(listener, kind)))
        while not ended.done():
            await asyncio.wait([ended], timeout=_FLUSH_S)
            self._gate.report.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=0.5)

    def _own(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket, kind: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(0.1)  # descriptors are used up, or the client has gone already
                continue
            if len(self._tasks) >= self._limit + len(self._kinds):
                client.close()
                self._gate.report.tell(
                    {"kind": "egress", "host": "", "port": 0, "outcome": "refused", "reason": "too many connections"}
                )
                continue
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._own(loop.create_task(self._serve(client, kind)))

    async def _serve(self, client: socket.socket, kind: str) -> None:
        try:
            await Connection(self._gate, client).run(kind)
        except Exception as error:  # noqa: BLE001 # one connection must not end the others; it is told, and closed
            self._gate.report.tell(
                {"kind": "egress-gate", "outcome": "failed", "reason": f"internal error: {type(error).__name__}"}
            )

    def _told(self, ended: asyncio.Future[None]) -> None:
        """Renewed secrets, or the end."""
        import jiter

        try:
            data = self._control.recv(MAX_SETTINGS)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            if not ended.done():
                ended.set_result(None)
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._gate.sentinels = decode_sentinels(jiter.from_json(line)["sentinels"])


if __name__ == "__main__":
    sys.exit(main())
