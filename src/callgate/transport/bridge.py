"""One handshake-era conversation with one server, between whatever face the client sees and an upstream.

The link decides every message with the gate's channel and tells the face what goes to the client. It does not
know HTTP; the face does not know processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import orjson

from callgate.errors import LimitExceeded, ProtocolError
from callgate.gate.channel import Channel
from callgate.gate.engine import Gate
from callgate.gate.outcome import Outcome
from callgate.protocol.codec import one_line, parse_leniently
from callgate.protocol.fragments import id_at_head, id_at_tail
from callgate.protocol.message import Direction, Kind, Message, RequestId
from callgate.transport.lane import REFUSED_IN_A_ROW
from callgate.transport.process import ProcessEvents


class Upstream(Protocol):
    """A connection to a server that takes and gives one message at a time: a process, or HTTP+SSE."""

    queued: int
    closed: asyncio.Future[int]

    def send(self, line: bytes) -> bool: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self, grace_s: float) -> None: ...


Connect: TypeAlias = Callable[[ProcessEvents], Upstream]
"""Hands over an upstream that is there: its messages go to these events from now on. Raises UpstreamError."""


class Face(Protocol):
    """The client's side of a link."""

    def answer(self, request_id: RequestId, data: bytes, kind: Kind) -> None:
        """The answer to a request of the client."""

    def message(self, data: bytes, about: RequestId | None) -> None:
        """A request or notification of the server; `about`: the client's request it belongs to, where known."""

    def drained(self) -> None:
        """The upstream takes messages again."""

    def gone(self, how: str) -> None:
        """The server is gone; no further call follows."""


class Link:
    """See the module. `connect` is called at once; its error goes to the caller."""

    __slots__ = ("_face", "_over", "_refused", "_token_of", "_tokens", "channel", "upstream")

    def __init__(self, channel: Channel, face: Face, connect: Connect) -> None:
        self.channel = channel
        self._face = face
        self._over = False
        self._tokens: dict[Any, RequestId] = {}
        self._token_of: dict[RequestId, Any] = {}
        self._refused = 0
        self.upstream = connect(self)

    def renew(self, gate: Gate, server: str) -> None:
        """Decide by another gate from now on; what waits for an answer still does."""
        old = self.channel
        conversation = old.conversation
        new = gate.channel(
            server=server, principal=conversation.principal, session=conversation.session, transport="http"
        )
        new.take_over(old)
        self.channel = new

    # -- from the client -------------------------------------------------------------------------

    def client(self, message: Message | list[Message]) -> Outcome | None:
        """Decide and forward. What is left for the sender is in the Outcome: a refusal, or of a part of a batch."""
        if isinstance(message, list):
            decided = self.channel.client_batch(message)
            requests = [one for one in message if one.kind is Kind.REQUEST]
        else:
            decided = self.channel.client_message(message)
            requests = [message] if message.kind is Kind.REQUEST else []
        data = decided.forward if isinstance(decided, Outcome) else decided
        if data is not None:
            for request in requests:
                self._note_token(request)
            self.upstream.send(data)
        return decided if isinstance(decided, Outcome) else None

    def cancel(self, request_id: RequestId, reason: str) -> None:
        """Tell the server that nobody waits for `request_id` any more; `initialize` must not be cancelled."""
        waiting = self.channel.pending.get(request_id)
        if waiting is not None and waiting.method == "initialize":
            return
        params = {"requestId": request_id, "reason": reason}
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        self.client(self.channel.codec.encode(body))
        self._forget(request_id)

    def _note_token(self, request: Message) -> None:
        token = progress_token(request)
        if token is not None and request.id is not None:
            self._tokens[token] = request.id
            self._token_of[request.id] = token

    def _forget(self, request_id: RequestId) -> None:
        token = self._token_of.pop(request_id, None)
        if token is not None:
            self._tokens.pop(token, None)

    def end(self, grace_s: float) -> None:
        """The face is gone: stop the server. What it says is for nobody, and read only so that it can end."""
        self._over = True
        self.upstream.resume()
        self.upstream.stop(grace_s)

    # -- from the server -------------------------------------------------------------------------

    def line(self, data: bytes) -> None:
        """One line of the server."""
        if self._over:
            return
        try:
            message = self.channel.codec.decode(data, Direction.SERVER)
        except ProtocolError as error:
            self._malformed(data, error)
            return
        self._refused = 0
        if isinstance(message, Message):
            self._decide(message)
        elif self.channel.revision == "2025-03-26":
            for one in message:
                self._decide(one)
        elif isinstance(refused := self.channel.server(data), Outcome) and refused.forward is not None:
            self._tell(refused.forward)

    def _decide(self, message: Message) -> None:
        decided = self.channel.server_message(message)
        if isinstance(decided, Outcome):
            if decided.reply is not None:
                self.upstream.send(decided.reply)
            if decided.forward is None:
                return
            decided = decided.forward
        request_id = message.id
        if message.kind >= Kind.RESULT and request_id is not None:
            self._forget(request_id)
            self._face.answer(request_id, decided, message.kind)
            return
        about = None
        if message.method == "notifications/progress":
            about = self._tokens.get(message.names("progressToken"))
        self._face.message(decided, about)

    def _malformed(self, data: bytes, error: ProtocolError) -> None:
        """Garbage. In enforce mode the channel refuses it; in observe mode it may pass, on record."""
        request_id = error.request_id if error.is_answer else None
        decided = self.channel.server(data)
        if isinstance(decided, Outcome):
            self._refused += 1
            if self._refused > REFUSED_IN_A_ROW:
                self.upstream.stop(0.0)
            if decided.reply is not None:
                self.upstream.send(decided.reply)
            if decided.forward is not None:
                self._tell(decided.forward)
            return
        decided = decided.replace(b"\r", b" ")  # legal JSON white space, but the end of a line in SSE
        if request_id is None:
            self._face.message(decided, None)
        else:
            self._forget(request_id)
            self._face.answer(request_id, decided, Kind.ERROR)

    def _tell(self, errors: bytes) -> None:
        """One error of the gate's own, or several: they take the place of answers that were refused."""
        body = parse_leniently(errors)
        for one in body if type(body) is list else [body]:
            self.unanswered(one["id"], encode(one))

    def too_long(self, edges: list[bytes], *, endless: bool) -> None:
        """Lines over the limit were dropped. Where their ids can be read, who waits is told."""
        if self._over:
            return
        error = too_long(self.channel.limits.response_bytes)
        found = [one for one in ids_at(edges) if one in self.channel.pending]
        for request_id in found:
            outcome = self.channel.refuse(error, Direction.SERVER, request_id)
            self._forget(request_id)
            if outcome.forward is not None:
                self._face.answer(request_id, outcome.forward, Kind.ERROR)
        if not found:
            self.channel.refuse(error, Direction.SERVER)

    def unanswered(self, request_id: RequestId, data: bytes) -> None:
        """No answer will come: `data`, an error of the gate's own, takes its place."""
        self._forget(request_id)
        self._face.answer(request_id, data, Kind.ERROR)

    def drained(self) -> None:
        """The upstream takes messages again."""
        self._face.drained()

    def exited(self, how: str) -> None:
        """The upstream is gone: whoever waits is told."""
        waiting = list(self.channel.pending)
        for request_id, data in zip(waiting, self.channel.unanswered(f"the server {how}"), strict=True):
            self._face.answer(request_id, data, Kind.ERROR)
        self.channel.close(f"the server {how}")
        self._face.gone(how)


def too_long(limit: int) -> LimitExceeded:
    """The error for a line of a server that passes limits.response_bytes."""
    error = LimitExceeded(
        "limit-response-bytes", f"a message exceeds the limit of {limit} bytes", next_step="raise limits.response_bytes"
    )
    error.is_answer = True
    return error


def ids_at(edges: list[bytes]) -> list[RequestId]:
    """The ids that the first or last bytes of dropped lines seem to show."""
    found = [one for edge in edges for one in (id_at_head(edge), id_at_tail(edge))]
    return [one for one in found if one is not None]


def progress_token(request: Message) -> str | int | None:
    """The progress token a request asks to be told under."""
    params = request.body.get("params")
    meta = params.get("_meta") if type(params) is dict else None
    token = meta.get("progressToken") if type(meta) is dict else None
    return token if type(token) in (str, int) else None


def encode(body: object) -> bytes:
    """The bytes of a message the gate made or whose ids it mapped."""
    return one_line(orjson.dumps(body))
