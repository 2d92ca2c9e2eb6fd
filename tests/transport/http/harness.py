"""A gateway and an upstream on loopback, in threads, spoken to with plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from callgate.audit import open_journal
from callgate.config import AuditConfig, Config, ListenConfig, ServerConfig
from callgate.gate.control import Control
from callgate.gate.engine import Gate
from callgate.transport.http.request_policy import RequestPolicy
from callgate.transport.http.route import HttpRoute
from callgate.transport.http.server import Endpoint, HttpServer, Site

MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
HEAD = b"POST /s/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
"""A POST without its end: its framing is to be said."""


class LoopThread:
    """An event loop in a thread, uvloop as in production."""

    def __init__(self) -> None:
        import uvloop

        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any, timeout: float = 60.0) -> Any:
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def call(self, function: Callable[[], Any]) -> Any:
        """The result of a function run on the loop."""

        async def once() -> Any:
            return function()

        return self.run(once())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        if not self._thread.is_alive():
            self.loop.close()  # a loop left open keeps seven descriptors


@dataclass
class Request:
    """What the upstream received."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Peer:
    """One connection of the upstream, in a thread of its own."""

    socket: socket.socket
    gone: threading.Event = field(default_factory=threading.Event)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, body: bytes, status: str = "200 OK", headers: str = "", kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.send(head.encode() + body)

    def result(self, request: Request, result: Any = None, headers: str = "") -> None:
        body = {"jsonrpc": "2.0", "id": request.json().get("id"), "result": {} if result is None else result}
        self.answer(json.dumps(body).encode(), headers=headers)

    def stream(self, headers: str = "") -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        self.send((head + headers + "\r\n").encode())

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, message: Any, prefix: str = "event: message\n") -> None:
        self.chunk(f"{prefix}data: {json.dumps(message)}\n\n".encode())

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def closed_within(self, seconds: float) -> bool:
        """Whether the other side closes within `seconds` (it sends nothing more)."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


class Upstream:
    """A small HTTP server: `respond(request, peer)` answers in the connection's thread; False closes it."""

    def __init__(self, respond: Callable[[Request, Peer], Any], tls: ssl.SSLContext | None = None) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                stack.callback(sock.close)
            self.connections += 1
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            file = sock.makefile("rb")
            while request := _read_request(file):
                self.requests.append(request)
                if self.respond(request, Peer(sock)) is False:
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()


def _read_request(file: Any) -> Request | None:
    line = file.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ")
    headers: list[tuple[str, str]] = []
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name.lower(), value.strip()))
    length = int(dict(headers).get("content-length", "0"))
    return Request(method, target, headers, file.read(length))


def echo(request: Request, peer: Peer) -> None:
    """Answer each request with its own params, notifications with 202."""
    if request.method != "POST":
        peer.answer(b"", "405 Method Not Allowed", "Allow: POST\r\n")
    elif isinstance(request.json(), dict) and "id" in request.json():
        peer.result(request, {"echo": request.json().get("params")})
    else:
        peer.answer(b"", "202 Accepted")


@dataclass
class Answer:
    """An HTTP answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A raw connection to the gateway."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), 60)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> Answer:
        """The status and headers of the next answer."""
        line = self.file.readline()
        if not line:
            raise EOFError("closed without an answer")
        headers: dict[str, str] = {}
        while (header := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Answer(int(line.split()[1]), headers, b"")

    def answer(self) -> Answer:
        """The next answer with its whole body."""
        found = self.head()
        if found.status < 200:
            return found
        if found.headers.get("transfer-encoding") == "chunked":
            found.body = b"".join(self.chunks())
        elif "content-length" in found.headers:
            found.body = self.file.read(int(found.headers["content-length"]))
        elif found.status != 204:
            found.body = self.file.read()
        return found

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a body until its end. Raises EOFError when it is cut."""
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError("cut")
            size = int(line, 16)
            data = self.file.read(size)
            self.file.readline()
            if not size:
                return
            yield data

    def events(self) -> Iterator[Any]:
        """The messages of an event stream."""
        for chunk in self.chunks():
            for block in chunk.decode().split("\n\n"):
                for line in block.splitlines():
                    if line.startswith("data: ") and len(line) > 6:
                        yield json.loads(line[6:])

    def at_end(self, seconds: float = 30.0) -> bool:
        """Whether the gateway has closed the connection."""
        self.socket.settimeout(seconds)
        try:
            return self.file.read(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def post(body: Any, *headers: str, path: str = "/s/mcp", host: str = "127.0.0.1:8484", version: str = "1.1") -> bytes:
    """A POST as bytes; `body` is JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/{version}",
        f"Host: {host}",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        *headers,
        f"Content-Length: {len(data)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def call(request_id: Any = 1, method: str = "tools/call", **params: Any) -> dict[str, Any]:
    """A request of the handshake era."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {"name": "t", "arguments": {}}}


def modern(request_id: Any = 1, method: str = "tools/list", path: str = "/s/mcp", **params: Any) -> bytes:
    """A POST of 2026-07-28 with its mirrored headers."""
    body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**params, "_meta": META}}
    headers = [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {method}"]
    if "name" in params:
        headers.append(f"Mcp-Name: {params['name']}")
    return post(body, *headers, path=path)


@dataclass
class Gateway:
    """A serving HttpServer with one HttpRoute named `s`."""

    thread: LoopThread
    server: HttpServer
    route: HttpRoute
    port: int
    notes: list[tuple[str, dict[str, Any]]]

    def client(self) -> Client:
        return Client(self.port)

    def ask(self, data: bytes) -> Answer:
        """One request on a connection of its own."""
        with self.client() as client:
            client.send(data)
            return client.answer()

    def connections(self) -> int:
        return len(self.server.connections)


@contextlib.contextmanager
def gateway(
    url: str,
    state: Path,
    *,
    listen: ListenConfig | None = None,
    server: dict[str, Any] | None = None,
    config: Config | None = None,
    tls: ssl.SSLContext | None = None,
    controls: tuple[Control, ...] = (),
    route: Any = None,
) -> Iterator[Gateway]:
    """A gateway in front of `url`, drained at the end."""
    thread = LoopThread()
    entry = ServerConfig("s", url=url, transport="http", **(server or {}))
    config = config or Config(listen=listen or ListenConfig(), servers={"s": entry})
    journal = open_journal(state, AuditConfig(), process="test")
    notes: list[tuple[str, dict[str, Any]]] = []
    gate = thread.call(lambda: Gate(config, controls, journal, cache_dir=state / "cache"))

    async def start() -> tuple[HttpServer, HttpRoute, int]:
        made = route or HttpRoute(entry, gate)
        policy = RequestPolicy(config.listen)
        endpoints = {b"/s/mcp": Endpoint("s", made, "/s/mcp"), b"/mcp": Endpoint("s", made, "/mcp")}
        site = Site(config.listen, config.limits, policy, policy, endpoints)
        serving = HttpServer(site, lambda kind, fields: notes.append((kind, fields)))
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        await serving.listen(sock, tls)
        return serving, made, sock.getsockname()[1]

    serving, made, port = thread.run(start())
    try:
        yield Gateway(thread, serving, made, port, notes)
    finally:
        thread.run(made.close(0.2))
        thread.run(serving.drain(0.2))
        journal.close()
        thread.close()


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> bool:
    """Whether `condition` became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())
