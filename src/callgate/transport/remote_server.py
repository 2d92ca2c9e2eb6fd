"""The HTTP side of `callgate run --url`: posts, streams, the session, and the way back to HTTP+SSE."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from callgate.config import ServerConfig
from callgate.errors import ProtocolError
from callgate.gate import answers
from callgate.gate.channel import Channel
from callgate.protocol.headers import mirrored_headers
from callgate.protocol.message import Direction, Kind, Message, RequestId
from callgate.protocol.revisions import modern_version
from callgate.transport.http.client import Origin, Pool, Request
from callgate.transport.http.exchange import Headers
from callgate.transport.http.own_head import configured_headers
from callgate.transport.remote_answer import RemoteAnswer
from callgate.transport.sse_client import SseUpstream
from callgate.transport.tool_schemas import ToolSchemas

SIDE_BY_SIDE = 64
"""Requests without an answer above which the server takes no more; streams beside them that are kept after theirs."""
ACCEPT_S = 10.0
"""How long a notification may hold back what comes after it."""
FALLBACK = frozenset((400, 404, 405, 406, 415, 501))
"""Statuses for `initialize` after which HTTP+SSE is tried."""


class HeaderSource(Protocol):
    """The headers of the gate's own for one server."""

    @property
    def current(self) -> Mapping[str, str]:
        """What is sent now."""

    @property
    def ended(self) -> str:
        """Why nothing may be sent any more; empty while it may."""


class Listener(Protocol):
    """Who is told what the server says."""

    @property
    def channel(self) -> Channel:
        """What decides about it: another one after a reload."""

    def incoming(self, data: bytes) -> None:
        """A message of the server, undecided."""

    def write(self, data: bytes) -> None:
        """A message of the gate's own for the client."""

    def say(self, what: str) -> None:
        """Something a person should know."""

    def ready(self) -> None:
        """`RemoteServer.room` may have changed."""

    def lost(self) -> None:
        """The only stream broke: nothing can be answered any more."""


class RemoteServer:
    """One server. Must be made on the running loop. Raises ConfigError for a URL or header that cannot be used."""

    def __init__(self, url: str, name: str, headers: HeaderSource, listener: Listener) -> None:
        self.schemas = ToolSchemas()
        self._loop = asyncio.get_running_loop()
        self._url = url
        self._listener = listener
        self._name = name
        self._headers = headers
        self._configured()
        self._origin = Origin(url)
        self._pool = Pool(self._origin)
        self._sse: SseUpstream | None = None
        self._held = False
        self._barrier: RemoteAnswer | None = None
        self._barrier_timer: asyncio.TimerHandle | None = None
        self._answers: set[RemoteAnswer] = set()
        self._answered: dict[RemoteAnswer, None] = {}
        """Those of them that gave what they were asked for, and that the server leaves open; the oldest is first."""
        self._by_id: dict[RequestId, RemoteAnswer] = {}
        self._opening = b""
        self._session = b""
        self._listening = False
        self._closed = False

    def _configured(self) -> Headers:
        """The headers of the configuration, as they are now. Raises ConfigError."""
        return configured_headers(ServerConfig(self._name, url=self._url, headers=self._headers.current))

    @property
    def _channel(self) -> Channel:
        return self._listener.channel

    @property
    def limit(self) -> int:
        """Largest message in bytes."""
        return self._channel.limits.response_bytes

    @property
    def room(self) -> bool:
        """Whether another message may be sent now."""
        return self._barrier is None and len(self._answers) - len(self._answered) < SIDE_BY_SIDE

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way any more."""
        under_way = any(not answer.listening for answer in self._answers if answer not in self._answered)
        return self._barrier is None and not under_way and not (self._sse is not None and self._channel.pending)

    # -- to the server ---------------------------------------------------------------------------

    def send(self, data: bytes, message: Message | None, messages: list[Message]) -> None:
        """Send `data`, which is `message` or, for a batch, `messages`."""
        if self._sse is not None:
            if ended := self._headers.ended:
                self._loop.call_soon(self._not_sent, RemoteAnswer(self, self._waiting(messages)), ended)
            else:
                self._sse.send(data)
        elif message is None or not self._cancels(message):
            self._post(data, message, messages)

    def pause(self) -> None:
        """Stop reading answers."""
        self._held = True
        for source in self._sources():
            source.pause()

    def resume(self) -> None:
        """Read again."""
        self._held = False
        for source in self._sources():
            source.resume()

    def _sources(self) -> list[Request | SseUpstream]:
        sources: list[Request | SseUpstream] = [one.request for one in self._answers if one.request is not None]
        return [*sources, self._sse] if self._sse is not None else sources

    def _cancels(self, message: Message) -> bool:
        """Modern era: a cancellation is the end of a connection, and goes no further."""
        if message.method != "notifications/cancelled":
            return False
        request_id = message.names("requestId")
        answer = self._by_id.get(request_id) if request_id is not None else None
        if answer is None or not answer.modern:
            return self._channel.modern
        self._drop(answer)
        return True

    def _drop(self, answer: RemoteAnswer) -> None:
        if answer.request is not None:
            answer.request.cancel()
        self.over(answer)

    def _post(self, data: bytes, message: Message | None, messages: list[Message]) -> None:
        ids = self._waiting(messages)
        opening = message is not None and message.kind is Kind.REQUEST and message.method == "initialize"
        modern = message is not None and modern_version(message.body) is not None
        answer = RemoteAnswer(self, ids, opening=opening, modern=modern)
        headers = [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
        if modern and message is not None:
            headers += mirrored_headers(message.body, self.schemas.of_call(message.body))
        elif not opening:
            headers += self._handshake_headers()
        if opening:
            self._opening = data
        if opening or not ids:
            self._barrier = answer
            if not opening:
                self._barrier_timer = self._loop.call_later(ACCEPT_S, self.answered, answer)
        for request_id in ids:
            self._by_id[request_id] = answer
        self._send(answer, b"POST", headers, data)

    def _waiting(self, messages: list[Message]) -> list[RequestId]:
        """The ids of requests among them that are to be answered."""
        pending = self._channel.pending
        return [one.id for one in messages if one.kind is Kind.REQUEST and one.id is not None and one.id in pending]

    def _handshake_headers(self) -> Headers:
        headers: Headers = []
        if self._session:
            headers.append((b"mcp-session-id", self._session))
        if self._channel.revision:
            headers.append((b"mcp-protocol-version", self._channel.revision.encode()))
        return headers

    def _send(self, answer: RemoteAnswer, method: bytes, headers: Headers, body: bytes) -> None:
        if self._closed:
            return
        self._answers.add(answer)
        if ended := self._headers.ended:
            self._loop.call_soon(self._not_sent, answer, ended)
            return
        origin = self._origin
        lines = [b"%b %b HTTP/1.1\r\nhost: %b" % (method, origin.target, origin.host_header)]
        lines += [b"%b: %b" % field for field in (*headers, *self._configured())]
        lines.append(b"accept-encoding: identity")
        if body:
            lines.append(b"content-length: %d" % len(body))
        answer.request = self._pool.send(answer, b"\r\n".join(lines) + b"\r\n\r\n", body)
        if self._held:
            answer.request.pause()

    def _not_sent(self, answer: RemoteAnswer, why: str) -> None:
        self.failed(answer, f"no message can be sent to this server: {why}")
        self.over(answer)

    # -- from the server (remote_answer.Owner) ---------------------------------------------------

    def incoming(self, data: bytes) -> None:
        """A message of the server."""
        self._listener.incoming(data)
        if self._sse is not None:
            self._listener.ready()

    def waits(self, request_id: RequestId) -> bool:
        """Whether a request is still without an answer."""
        return request_id in self._channel.pending

    def opened(self, session_id: bytes) -> None:
        """The answer to `initialize` named a session. It has a stream of its own, and that of the one before ends."""
        if session_id != self._session:
            for answer in [one for one in self._answers if one.listening]:
                self._drop(answer)
            self._listening = False
        self._session = session_id

    def refused(self, answer: RemoteAnswer, status: int, body: bytes) -> None:
        """The server answered with an HTTP error; where that is a JSON-RPC error too, it is the answer."""
        if answer.listening:
            return
        message = self._error_in(body)
        ids = [request_id for request_id in answer.ids if self.waits(request_id)]
        if message is not None and ids:
            for request_id in ids:
                self.incoming(self._channel.codec.encode({**message.body, "id": request_id}).data)
        elif answer.opening and status in FALLBACK:
            self._fall_back(answer)
        elif ids:
            self.failed(answer, _http_error(status, session=bool(self._session) and not answer.modern))
        elif status != 405:
            self._listener.say(f"the server answered a message with HTTP {status}")

    def _error_in(self, body: bytes) -> Message | None:
        try:
            message = self._channel.codec.decode(body, Direction.SERVER)
        except ProtocolError:
            return None
        return message if isinstance(message, Message) and message.kind is Kind.ERROR else None

    def failed(self, answer: RemoteAnswer, what: str) -> None:
        """No answer will come any more."""
        for request_id in answer.ids:
            if self._channel.pending.pop(request_id, None) is not None:
                self._listener.write(answers.error(request_id, answers.UNAVAILABLE, f"callgate: {what}", "server-gone"))
        self._listener.say(what)

    def reconnect(self, answer: RemoteAnswer, delay_s: float) -> None:
        """Connect again after `delay_s`, from the last event on."""
        self._loop.call_later(delay_s, self._reconnect, answer)

    def _reconnect(self, answer: RemoteAnswer) -> None:
        if answer in self._answers and not self._closed:
            headers = [(b"accept", b"text/event-stream"), *self._handshake_headers()]
            if answer.last_event:
                headers.append((b"last-event-id", answer.last_event))
            self._send(answer, b"GET", headers, b"")

    def settled(self, answer: RemoteAnswer) -> None:
        """What came before may be followed by the next message."""
        if self._barrier is answer:
            self._barrier = None
            if self._barrier_timer is not None:
                self._barrier_timer.cancel()
            self._listener.ready()

    def answered(self, answer: RemoteAnswer) -> None:
        """Most servers end such a stream. What others leave open takes no room, and is not endlessly many."""
        if answer in self._answers and answer not in self._answered:
            self._answered[answer] = None
            if len(self._answered) > SIDE_BY_SIDE:
                self._drop(next(iter(self._answered)))
            self.settled(answer)
            self._listener.ready()

    def over(self, answer: RemoteAnswer) -> None:
        """Nothing more comes of this answer."""
        self._answers.discard(answer)
        self._answered.pop(answer, None)
        for request_id in answer.ids:
            if self._by_id.get(request_id) is answer:
                del self._by_id[request_id]
        if not answer.ids and not answer.listening and self._session and not self._listening:
            self._listen()
        self.settled(answer)
        self._listener.ready()

    def _listen(self) -> None:
        """The handshake is complete: open the stream for what belongs to no request."""
        self._listening = True
        answer = RemoteAnswer(self, [], listening=True)
        self._send(answer, b"GET", [(b"accept", b"text/event-stream"), *self._handshake_headers()], b"")

    # -- HTTP+SSE (ProcessEvents) ----------------------------------------------------------------

    def _fall_back(self, answer: RemoteAnswer) -> None:
        """The server knows no Streamable HTTP: try HTTP+SSE at the same URL."""
        self._sse = SseUpstream(self._loop, self._url, self._configured, self.limit, self)
        self._sse.send(self._opening)
        self._listener.say("the server knows no Streamable HTTP; using HTTP+SSE of 2024-11-05")

    def line(self, data: bytes) -> None:
        """A message on the SSE stream."""
        self.incoming(data)

    def too_long(self, edges: list[bytes], *, endless: bool) -> None:
        """`exited` says so."""

    def drained(self) -> None:
        """Posts are accepted again; stdin is slowed down by nothing else."""

    def exited(self, how: str) -> None:
        """The SSE stream is gone: without it there is no way to answer anything."""
        for data in self._channel.unanswered(f"the server {how}"):
            self._listener.write(data)
        self._listener.say(f"the server {how}")
        self._listener.lost()

    # -- the end ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the session and close all connections."""
        self._closed = True
        if self._sse is not None:
            self._sse.stop(0.0)
        for answer in self._answers:
            if answer.request is not None:
                answer.request.cancel()
        if self._session:
            ended = _Ended(self._loop)
            lines = [b"DELETE %b HTTP/1.1\r\nhost: %b" % (self._origin.target, self._origin.host_header)]
            lines += [b"%b: %b" % field for field in (*self._handshake_headers(), *self._configured())]
            self._pool.send(ended, b"\r\n".join(lines) + b"\r\n\r\n", b"")
            await asyncio.wait([ended.done], timeout=1.0)
        self._pool.close()


class _Ended:
    """The answer to DELETE, whatever it says."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()

    def on_head(self, status: int, headers: Headers) -> None:
        """Of no interest: some servers do not let clients end sessions."""

    def on_data(self, data: bytes) -> None:
        """As above."""

    def on_end(self) -> None:
        self.done.set_result(None)

    def on_error(self, what: str) -> None:
        self.done.set_result(None)


def _http_error(status: int, *, session: bool) -> str:
    if status in (401, 403):
        return f"the server answered HTTP {status}: it wants credentials; set headers for it in the configuration"
    if status == 404 and session:
        return "the server ended the session (HTTP 404): start again"
    return f"the server answered HTTP {status}"
