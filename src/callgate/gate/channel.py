"""One correlation scope between a client and a server: the hot path of the gate.

Every message goes through `client` or `server`: strict decode, correlation with the request that caused
it, the controls, one record of evidence, and out come the bytes to forward. A request id means something
only within its channel, so two clients of one server never see each other's answers.

The channel holds what is known of the two; what a message goes through is in `client_messages`, `server_messages`
and, for those that cannot be read, `refusing`.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from callgate.errors import AuditError, ProtocolError
from callgate.gate import answers, express, native, refusing
from callgate.gate.answered import Answered
from callgate.gate.batches import decide_batch
from callgate.gate.client_messages import client_answer, client_notification, client_request
from callgate.gate.marks import Marks
from callgate.gate.server_messages import server_answer, server_notification, server_request
from callgate.protocol.message import Direction, Kind, Message, RequestId

if TYPE_CHECKING:
    from callgate.audit import Scope
    from callgate.config import Limits
    from callgate.gate.conversation import Conversation
    from callgate.gate.engine import Gate
    from callgate.gate.outcome import Outcome
    from callgate.gate.pending import Pending

_REVISION_LENGTH = 32
"""Longest revision taken note of; theirs have 10 characters."""
_CLIENT = Direction.CLIENT
_SERVER = Direction.SERVER
_REQUEST = Kind.REQUEST
_NOTIFICATION = Kind.NOTIFICATION
_RESULT = Kind.RESULT
_ERROR = Kind.ERROR


class Channel(Marks):
    """See the module. Not thread-safe: one event loop owns it."""

    __slots__ = (
        "answered",
        "asked",
        "codec",
        "conversation",
        "enforce",
        "express",
        "gate",
        "in_flight",
        "pending",
        "replaying",
        "revision",
        "scope",
    )

    def __init__(self, gate: Gate, conversation: Conversation, scope: Scope) -> None:
        self.gate = gate
        self.codec = gate.codec
        self.in_flight = gate.codec.limits.in_flight
        self.conversation = conversation
        self.scope = scope
        self.enforce = conversation.mode == "enforce"
        self.pending: dict[RequestId, Pending] = {}
        """Requests of the client without an answer."""
        self.asked: dict[RequestId, Pending] = {}
        """Requests of the server (handshake era) without an answer."""
        self.answered = Answered()
        self.revision = ""
        """Negotiated revision; a transport may set it from the MCP-Protocol-Version header."""
        self.modern = False
        """Whether the last request was of the stateless era."""
        self.replayable = False
        """Set by HTTP once events of this session carry ids: only what has one can come again."""
        self.replaying = False
        """Set by HTTP while it relays a stream opened with Last-Event-ID: answers may come twice."""
        self.express = native.express(self)

    @property
    def limits(self) -> Limits:
        """The limits messages of this channel are held to."""
        return self.codec.limits

    def take_over(self, old: Channel) -> None:
        """Go on with another channel's session: what it waits for, what may come again, what was negotiated."""
        self.pending = old.pending
        self.asked = old.asked
        self.answered = old.answered
        self.replayable = old.replayable
        self.modern = old.modern
        self.revision = self.conversation.revision = self.scope.revision = old.revision
        self.conversation.labels = old.conversation.labels
        self.express = native.express(self)

    # -- entry points ----------------------------------------------------------------------------

    def client(self, raw: bytes) -> bytes | Outcome:
        """One message or batch from the client: the bytes to forward, or an Outcome."""
        if self.express is not None and self.express.call(self, raw):
            return raw
        codec = self.codec
        body = codec.plain(raw)
        if body is not None and (passed := express.call(self, body, raw)) is not None:
            return passed
        try:
            message = codec.decode(raw, _CLIENT) if body is None else codec.message(body, raw, _CLIENT)
        except ProtocolError as error:
            return refusing.malformed(self, raw, error, _CLIENT)
        if type(message) is list:
            return decide_batch(self, message, _CLIENT)
        result = self.client_message(message)  # type: ignore[arg-type]  # type() narrows no union for mypy
        if body is not None and result is raw:
            express.learn_call(self, body)
        if self.express is not None and result == raw:
            native.learn_call(self, message)  # type: ignore[arg-type]  # as above
        return result

    def server(self, raw: bytes) -> bytes | Outcome:
        """One message or batch from the server: the bytes to forward, or an Outcome."""
        if self.express is not None and self.express.answer(self, raw):
            return raw
        codec = self.codec
        body = codec.plain(raw)
        if body is not None and (passed := express.answer(self, body, raw)) is not None:
            return passed
        try:
            message = codec.decode(raw, _SERVER) if body is None else codec.message(body, raw, _SERVER)
        except ProtocolError as error:
            return refusing.malformed(self, raw, error, _SERVER)
        if type(message) is list:
            return decide_batch(self, message, _SERVER)
        waiting = self.pending.get(message.id)  # type: ignore[union-attr,arg-type]
        result = self.server_message(message)  # type: ignore[arg-type]  # as above
        if waiting is not None and body is not None and result is raw:
            express.learn_answer(self, waiting, body)
        if waiting is not None and self.express is not None and result == raw:
            native.learn_answer(self, waiting, message)  # type: ignore[arg-type]  # as above
        return result

    def decode_client(self, raw: bytes, body: dict[str, Any] | None = None) -> Message | list[Message] | Outcome:
        """Decode only: for HTTP, which checks headers against the body before any decision.

        `body`: what `Codec.plain` read from `raw`, if anything.
        """
        try:
            return self.codec.decode(raw, _CLIENT) if body is None else self.codec.message(body, raw, _CLIENT)
        except ProtocolError as error:
            return self.refuse(error, _CLIENT, error.request_id, raw)

    def client_batch(self, messages: list[Message]) -> bytes | Outcome:
        """A decoded batch from the client."""
        return decide_batch(self, messages, _CLIENT)

    def client_message(self, message: Message) -> bytes | Outcome:
        """Decide one decoded message of the client."""
        kind = message.kind
        if kind is _REQUEST:
            return client_request(self, message)
        if kind is _NOTIFICATION:
            return client_notification(self, message)
        return client_answer(self, message)

    def server_message(self, message: Message) -> bytes | Outcome:
        """Decide one decoded message of the server."""
        kind = message.kind
        if kind is _RESULT or kind is _ERROR:
            return server_answer(self, message)
        if kind is _NOTIFICATION:
            return server_notification(self, message)
        return server_request(self, message)

    def refuse(
        self, error: ProtocolError, direction: Direction, request_id: RequestId | None = None, data: bytes = b""
    ) -> Outcome:
        """Record a message that breaks the protocol and say so to whoever waits. `data`: its bytes, where known."""
        return refusing.refuse(self, error, direction, request_id, data)

    def answer_too_long(self, edges: list[bytes]) -> list[bytes]:
        """Errors for callers whose answer was too long to keep. `edges`: its ends, where the id stands."""
        return refusing.answer_too_long(self, edges)

    # -- the conversation ------------------------------------------------------------------------

    def negotiated(self, revision: str) -> None:
        """Take note of the revision that the two speak."""
        if len(revision) > _REVISION_LENGTH or not (revision.isascii() and revision.isprintable()):
            revision = ""  # a peer's text, which would go into headers and into every record
        self.revision = revision
        self.conversation.revision = revision
        self.scope.revision = revision

    def overdue(self, seconds: float) -> list[tuple[RequestId, str, float]]:
        """Requests older than `seconds` without an answer: id, method, age. Oldest first, at most 100."""
        now = monotonic_ns()
        found: list[tuple[RequestId, str, float]] = []
        for request_id, waiting in self.pending.items():
            age = (now - waiting.started_ns) / 1e9
            if age < seconds or len(found) == 100:
                break  # the table is in order of arrival
            found.append((request_id, waiting.method, age))
        return found

    def unanswered(self, why: str) -> list[bytes]:
        """Errors for every request still waiting: the server is gone. Empties the table."""
        errors = [
            answers.error(request_id, answers.UNAVAILABLE, f"callgate: {why}", "server-gone")
            for request_id in self.pending
        ]
        self.pending.clear()
        return errors

    def close(self, reason: str = "") -> None:
        """End of the channel: what never got an answer is put on record."""
        if self.pending and reason:
            fields = {"server": self.conversation.server, "reason": reason, "unanswered": len(self.pending)}
            try:
                self.gate.journal.note("channel-closed", fields)
            except AuditError:
                pass  # the journal counts it as lost; nothing passes here that could be refused
        self.pending.clear()
        self.asked.clear()
