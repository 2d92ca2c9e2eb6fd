"""Enough of RabbitMQ's management interface for OpenBao to issue real, leased users: it makes and deletes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Rabbit:
    """The users that exist now."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.address = ""
        self.changed = threading.Condition()

    def wait_for(self, count: int, seconds: float = 60.0) -> bool:
        """Whether there are `count` users, now or soon."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.users) == count, seconds)


def introduce(client: Any, rabbit: Rabbit) -> None:
    """Let OpenBao issue its users, by the role `short`."""
    client.sys.enable_secrets_engine("rabbitmq")
    connection = {"connection_uri": rabbit.address, "username": "a", "password": "b"}
    client.write_data("rabbitmq/config/connection", data=connection)
    client.write_data("rabbitmq/roles/short", data={"tags": "x"})


@contextmanager
def running_rabbit() -> Iterator[Rabbit]:
    """The interface on loopback."""
    rabbit = Rabbit()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            return

        def _answer(self, status: int, body: bytes = b"") -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length:
                self.rfile.read(length)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer(200, b"[]")

        def do_PUT(self) -> None:
            if self.path.startswith("/api/users/"):
                with rabbit.changed:
                    rabbit.users.add(self.path.rpartition("/")[2])
                    rabbit.changed.notify_all()
            self._answer(201)

        def do_DELETE(self) -> None:
            with rabbit.changed:
                rabbit.users.discard(self.path.rpartition("/")[2])
                rabbit.changed.notify_all()
            self._answer(204)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    rabbit.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield rabbit
    finally:
        server.shutdown()
        server.server_close()
