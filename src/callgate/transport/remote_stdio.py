"""A stdio face to an HTTP server: `callgate run --url URL`.

Lines from stdin are posted, answers and events come out as lines. Requests run side by side; a notification, an
answer of the client and `initialize` are accepted before the next message is sent, for the order of two
connections is anybody's guess. Modern era: a cancellation closes the request's connection. Handshake era: session id,
a GET stream for what the server says by itself, DELETE at the end; where the server does not know
Streamable HTTP at all, HTTP+SSE of 2024-11-05.
"""

from __future__ import annotations

import asyncio
import os
import selectors
from collections import deque
from typing import TYPE_CHECKING

from callgate.errors import AuditError, LimitExceeded, ProtocolError
from callgate.gate import answers
from callgate.gate.engine import Gate
from callgate.gate.outcome import Outcome
from callgate.launching.headers import LiveHeaders
from callgate.protocol.message import Direction, Kind, Message
from callgate.text import visible
from callgate.transport.lines import LineFramer
from callgate.transport.remote_server import RemoteServer
from callgate.transport.signals import ending
from callgate.transport.sink import Sink
from callgate.transport.stderr_relay import to_stderr

if TYPE_CHECKING:
    from callgate.audit import Journal

READ_BYTES = 65536
HIGH_WATER = 4 * 1024 * 1024
"""Bytes waiting for stdout above which no answer is read."""
END_GRACE_S = 5.0
"""How long requests may still be answered once stdin has ended."""


def run_remote(url: str, *, gate: Gate, journal: Journal, name: str, headers: LiveHeaders) -> int:
    """Relay between stdin, stdout and the server at `url` until stdin ends; the exit code.

    0 when stdin ended, 1 when the server's only stream broke, 128 + n after signal n. Raises ConfigError for a URL or
    a header that cannot be used.
    """
    # stdin can be a file, which epoll does not take.
    loop = asyncio.SelectorEventLoop(selectors.PollSelector())
    blocking = [fd for fd in (0, 1) if os.get_blocking(fd)]
    try:
        for fd in blocking:
            os.set_blocking(fd, False)
        return loop.run_until_complete(RemoteStdio(url, gate, journal, name, headers).run(loop))
    finally:
        for fd in blocking:
            os.set_blocking(fd, True)  # the flag belongs to the file, which a terminal shares with its shell
        loop.close()


class RemoteStdio:
    """See the module. `stdin` and `stdout` are non-blocking file descriptors."""

    def __init__(
        self,
        url: str,
        gate: Gate,
        journal: Journal,
        name: str,
        headers: LiveHeaders,
        stdin: int = 0,
        stdout: int = 1,
    ) -> None:
        principal = f"local:{os.getuid()}" if hasattr(os, "getuid") else "local"
        self.channel = gate.channel(server=name, principal=principal, transport="stdio")
        self._journal = journal
        self._where = (url, name, headers)
        self._stdin = stdin
        self._out = Sink(stdout)
        self._framer = LineFramer(gate.config.limits.request_bytes)
        self._lines: deque[bytes | None] = deque()
        self._reading = False
        self._eof = False
        self._held = False

    async def run(self, loop: asyncio.AbstractEventLoop) -> int:
        """Relay until the end."""
        self._loop = loop
        self._done: asyncio.Future[int] = loop.create_future()
        url, name, headers = self._where
        self._server = RemoteServer(url, name, headers, self)
        self._journal.note("connect", {"server": name, "transport": "http"})
        for number in ending():
            loop.add_signal_handler(number, self._finish, 128 + number)
        housekeeping = loop.create_task(self._tick())
        self.ready()
        try:
            return await self._done
        finally:
            housekeeping.cancel()
            text = f"callgate: stopped before the server {visible(name)} answered"
            for request_id in self.channel.pending:
                self.write(answers.error(request_id, answers.UNAVAILABLE, text, "server-gone"))
            self._flush()
            await self._server.close()
            self.channel.close("the client ended")

    async def _tick(self) -> None:
        told = ""
        while True:
            try:
                self._journal.tick()
                told = ""
            except AuditError as error:  # the next decision fails closed by itself
                if error.what != told:
                    told = error.what
                    self.say(told)
            await asyncio.sleep(self._journal.tick_s)

    # -- from the client -------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            chunk = os.read(self._stdin, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if chunk:
            self._lines += self._framer.feed(chunk)
            self._framer.take_edges()  # the refusal goes out with the id null
        else:
            if rest := self._framer.rest():
                self._lines.append(rest)
            self._eof = True
            self._loop.call_later(END_GRACE_S, self._finish, 0)
        self.ready()

    def ready(self) -> None:
        """Send what may be sent, and read stdin exactly while there is room for more."""
        while self._lines and self._server.room:
            line = self._lines.popleft()
            if line is None:
                self._reply(self.channel.refuse(self._too_long(), Direction.CLIENT))
            elif line.strip():
                self._message(line)
        if self._eof and not self._lines and self._server.idle:
            self._finish(0)
        room = not (self._lines or self._eof or self._held or self._done.done()) and self._server.room
        if room != self._reading:
            self._reading = room
            if room:
                self._loop.add_reader(self._stdin, self._readable)
            else:
                self._loop.remove_reader(self._stdin)

    def _message(self, line: bytes) -> None:
        decoded = self.channel.decode_client(line)
        if isinstance(decoded, Outcome):
            self._reply(decoded)
            return
        batch = decoded if isinstance(decoded, list) else None
        decided = self.channel.client_batch(batch) if batch is not None else self.channel.client_message(decoded)  # type: ignore[arg-type]
        message = None if isinstance(decoded, list) else decoded
        if isinstance(decided, Outcome):
            self._reply(decided)
            if decided.forward is None:
                return
            decided = decided.forward
            changed = self.channel.codec.decode(decided, Direction.CLIENT)
            message = changed if isinstance(changed, Message) else None
        self._server.send(decided, message, decoded if isinstance(decoded, list) else [decoded])

    def _reply(self, outcome: Outcome) -> None:
        if outcome.reply is not None:
            self.write(outcome.reply)

    def _too_long(self) -> LimitExceeded:
        text = f"a message exceeds the limit of {self._framer.limit} bytes"
        return LimitExceeded("limit-request-bytes", text, next_step="send less, or raise limits.request_bytes")

    # -- from the server (remote_server.Listener) ------------------------------------------------

    def incoming(self, data: bytes) -> None:
        """A message of the server: decide, pass on."""
        try:
            message = self.channel.codec.decode(data, Direction.SERVER)
        except ProtocolError:
            decided = self.channel.server(data)
        else:
            if isinstance(message, list):
                decided = self.channel.server(data)
            else:
                self._learn(message)
                decided = self.channel.server_message(message)
        if isinstance(decided, Outcome):
            if decided.reply is not None:
                self._server.send(decided.reply, None, [])
            if decided.forward is None:
                return
            decided = decided.forward
        self.write(decided)

    def _learn(self, message: Message) -> None:
        """The tools say which of their arguments travel in headers."""
        if message.kind is Kind.RESULT and message.id is not None:
            waiting = self.channel.pending.get(message.id)
            if waiting is not None and waiting.method == "tools/list":
                self._server.schemas.learn(message.body["result"])

    def lost(self) -> None:
        """Nothing can be answered any more."""
        self._finish(1)

    # -- to the client ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """One line for the client."""
        if b"\n" in data or b"\r" in data:  # white space between tokens: only what passed uninspected has any
            data = data.replace(b"\n", b" ").replace(b"\r", b" ")
        waited = self._out.size > 0
        if self._out.write(data + b"\n") and not waited:
            self._loop.add_writer(self._out.fd, self._writable)
        self._written()

    def _writable(self) -> None:
        if not self._out.flush():
            self._loop.remove_writer(self._out.fd)
        self._written()

    def _written(self) -> None:
        """Where the client does not read, neither do we."""
        if self._out.closed:
            self._finish(0)
        elif not self._held and self._out.size > HIGH_WATER:
            self._held = True
            self._server.pause()
        elif self._held and self._out.size < HIGH_WATER // 2:
            self._held = False
            self._server.resume()
            self.ready()

    @staticmethod
    def say(what: str) -> None:
        """A line on stderr."""
        to_stderr(f"callgate: {visible(what)}\n")

    # -- the end ---------------------------------------------------------------------------------

    def _finish(self, code: int) -> None:
        if not self._done.done():
            self._done.set_result(code)

    def _flush(self) -> None:
        """Give the client what still waits, as long as it keeps reading."""
        if self._reading:
            self._loop.remove_reader(self._stdin)
        if self._out.waiting:
            self._loop.remove_writer(self._out.fd)
            self._out.drain(END_GRACE_S)
