"""A relay on loopback in front of a server: it can make clients wait, and it can break."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Relay:
    """Passes connections on to `port` of 127.0.0.1, but not before `open` is set, and not while it is `broken`.

    `garbled`: what becomes what in the server's answers, each of the same length.
    """

    def __init__(self, port: int) -> None:
        self.open = threading.Event()
        self.connections = 0
        self.garbled: dict[bytes, bytes] = {}
        self._broken = False
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def broken(self) -> bool:
        """Whether every connection ends at once."""
        return self._broken

    @broken.setter
    def broken(self, broken: bool) -> None:
        self._broken = broken
        if broken:
            for one in tuple(self._sockets):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._pass, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _pass(self, client: socket.socket) -> None:
        with client:
            self._sockets.add(client)
            self.open.wait(120)
            if not self._broken:
                with socket.create_connection(("127.0.0.1", self._target)) as server:
                    back = threading.Thread(target=self._back, args=(server, client))
                    back.start()
                    pump(client, server)
                    back.join()
            self._sockets.discard(client)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        pump(server, client, self._garble)

    def _garble(self, data: bytes) -> bytes:
        for before, after in self.garbled.items():
            data = data.replace(before, after)
        return data

    def close(self) -> None:
        """No connection any more."""
        self.open.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.broken = True
        for thread in self._threads:
            thread.join()
        self._listener.close()


def pump(source: socket.socket, target: socket.socket, changed: Callable[[bytes], bytes] = lambda data: data) -> None:
    """One direction of a connection."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(changed(data))
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
