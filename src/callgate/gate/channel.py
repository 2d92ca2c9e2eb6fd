"""One correlation scope between a client and a server: the hot path of the gate.

Every message goes through `client` or `server`: strict decode, correlation with the request that caused
it, the controls, one record of evidence, and out come the bytes to forward. A request id means something
only within its channel, so two clients of one server never see each other's answers.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from callgate.errors import AuditError, LimitExceeded, ProtocolError
from callgate.gate import answers, express, native
from callgate.gate.edits import EditConflict, apply
from callgate.gate.engine import CLEAR, Decision
from callgate.gate.events import Event, Hook
from callgate.gate.hooks import CATALOG_METHODS, CONNECT_METHODS, answer_hook
from callgate.gate.outcome import HTTP_BAD_REQUEST, HTTP_FORBIDDEN, HTTP_OK, HTTP_TOO_LARGE, HTTP_UNAVAILABLE, Outcome
from callgate.gate.pending import Pending
from callgate.gate.refusals import (
    name_not_text,
    no_batches,
    reused_id,
    server_asks,
    too_many_in_flight,
    unissued_answer,
)
from callgate.gate.verdicts import Finding
from callgate.protocol.codec import one_line, parse_leniently
from callgate.protocol.fragments import id_at_head, id_at_tail
from callgate.protocol.message import Direction, Kind, Message, RequestId
from callgate.protocol.methods import META_VERSION, NAME_MEMBERS

if TYPE_CHECKING:
    from callgate.audit import Scope
    from callgate.config import Limits
    from callgate.gate.conversation import Conversation
    from callgate.gate.engine import Gate

_REMEMBERED = 256
"""Answered or cancelled requests kept, so that a replay or a late answer is recognised."""
_REVISION_LENGTH = 32
"""Longest revision taken note of; theirs have 10 characters."""
_ROUNDS = 3
"""Rewritten messages are inspected again, this often at most."""
_CLIENT = Direction.CLIENT
_SERVER = Direction.SERVER
_REQUEST = Kind.REQUEST
_NOTIFICATION = Kind.NOTIFICATION
_RESULT = Kind.RESULT
_ERROR = Kind.ERROR
_EVIDENCE = "the evidence log cannot be written, so nothing passes; free disk space or see callgate audit verify"


class Channel:
    """See the module. Not thread-safe: one event loop owns it."""

    __slots__ = (
        "_answered",
        "asked",
        "codec",
        "conversation",
        "enforce",
        "express",
        "gate",
        "in_flight",
        "modern",
        "pending",
        "replayable",
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
        self._answered: OrderedDict[tuple[Direction, RequestId], Pending] = OrderedDict()
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
        self._answered = old._answered
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
            return self._malformed(raw, error, _CLIENT)
        if type(message) is list:
            return self._batch(message, _CLIENT)
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
            return self._malformed(raw, error, _SERVER)
        if type(message) is list:
            return self._batch(message, _SERVER)
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
        return self._batch(messages, _CLIENT)

    def client_message(self, message: Message) -> bytes | Outcome:
        """Decide one decoded message of the client."""
        kind = message.kind
        if kind is _REQUEST:
            return self._request(message)
        if kind is _NOTIFICATION:
            return self._client_notification(message)
        return self._client_answer(message)

    def server_message(self, message: Message) -> bytes | Outcome:
        """Decide one decoded message of the server."""
        kind = message.kind
        if kind is _RESULT or kind is _ERROR:
            return self._server_answer(message)
        method = message.method or ""
        if kind is _NOTIFICATION:
            result = self._pass("content", _SERVER, message, method, "", None, message.body.get("params"))
            if method == "notifications/cancelled" and _goes_on(result):
                self._cancelled(message, self.asked, _SERVER)
            return result
        return self._server_request(message, method)

    # -- the four kinds of traffic ---------------------------------------------------------------

    def _request(self, message: Message) -> bytes | Outcome:
        request_id: RequestId = message.id  # type: ignore[assignment]  # a request has an id
        method: str = message.method  # type: ignore[assignment]  # a request has a method
        pending = self.pending
        if request_id in pending:
            return self.refuse(reused_id(), _CLIENT, request_id, message.data)
        if len(pending) >= self.in_flight:
            return self.refuse(too_many_in_flight(self.in_flight), _CLIENT, request_id, message.data)
        params = message.body.get("params")
        name = ""
        modern = False
        if params:
            member = NAME_MEMBERS.get(method)
            if member is not None:
                name = params.get(member)
                if type(name) is not str:
                    if name is not None:  # ["x"] is "x" to a lax server, and nobody else
                        return self.refuse(name_not_text(member), _CLIENT, request_id, message.data)
                    name = ""
            meta = params.get("_meta")
            if meta and META_VERSION in meta:
                modern = True
                revision = meta[META_VERSION]
                if revision != self.revision and type(revision) is str:
                    self._negotiated(revision)
        self.modern = modern
        hook: Hook = "connect" if method in CONNECT_METHODS else "call"
        hits = message.hits
        gate = self.gate
        clears = gate.clears_call
        if (
            hits
            or clears is None
            or gate.withheld.names
            or hook == "connect"
            or not clears(self.conversation.server, method, name)
        ):
            asked = gate.asked(hook, hits)
            if asked or gate.withheld.names:
                event = Event(hook, _CLIENT, message, self.conversation, method, name)
                decision = gate.decide(asked, event, self.conversation.mode)
                if gate.withheld.names:
                    decision = gate.withheld.refuse(event, decision)
                if decision is not CLEAR:
                    return self._settle(decision, event, params, pending)
        try:
            seq = self.scope.decision(hook, 0, method, name, request_id, message.data, params, "allow", (), 0, 0)
        except AuditError:
            if self.enforce:
                return self.no_evidence(_CLIENT, message, method, modern)
            seq = 0
        pending[request_id] = Pending(method, name, seq, monotonic_ns(), modern)
        return message.data

    def _server_answer(self, message: Message) -> bytes | Outcome:
        request_id = message.id
        if request_id is None:
            # An error without id answers something the server could not read: it is content like any other.
            return self._pass("content", _SERVER, message, "", "", None, {"error": message.body["error"]})
        waiting = self.pending.pop(request_id, None)
        if waiting is None:
            waiting = self._late(_SERVER, request_id)
            if waiting is None:
                return self.refuse(unissued_answer(), _SERVER, None, message.data)
        else:
            self._remember(_SERVER, request_id, waiting)
        method = waiting.method
        name = waiting.name
        result = message.body.get("result")
        hook: Hook = "content"
        if result is None:
            result = {"error": message.body["error"]}
        elif method in CATALOG_METHODS or "resultType" in result:
            hook = answer_hook(method, result.get("resultType") == "input_required")
            if method == "initialize":
                revision = result.get("protocolVersion")
                if type(revision) is str:
                    self._negotiated(revision)
        gate = self.gate
        asked = gate.asked(hook, message.hits) if message.hits else gate.always[hook]
        if asked:
            event = Event(hook, _SERVER, message, self.conversation, method, name, waiting)
            decision = gate.decide(asked, event, self.conversation.mode)
            if decision is not CLEAR:
                return self._settle(decision, event, result, None)
        try:
            self.scope.decision(
                hook,
                1,
                method,
                name,
                request_id,
                message.data,
                result,
                "allow",
                (),
                waiting.seq,
                (monotonic_ns() - waiting.started_ns) // 1000,
            )
        except AuditError:
            if self.enforce:
                return self.no_evidence(_SERVER, message, method, waiting.modern)
        if hook == "catalog" and gate.withheld.names:
            gate.withheld.learn(Event(hook, _SERVER, message, self.conversation, method, name, waiting), CLEAR)
        return message.data

    def _client_notification(self, message: Message) -> bytes | Outcome:
        method = message.method or ""
        params = message.body.get("params")
        name = ""
        if params and (member := NAME_MEMBERS.get(method)) is not None:
            # A request that leaves out its id: a lax server carries it out all the same.
            name = params.get(member)
            if type(name) is not str:
                if name is not None:
                    return self.refuse(name_not_text(member), _CLIENT, None, message.data)
                name = ""
        result = self._pass("call", _CLIENT, message, method, name, None, params)
        if method == "notifications/cancelled" and _goes_on(result):
            self._cancelled(message, self.pending, _CLIENT)
        return result

    def _client_answer(self, message: Message) -> bytes | Outcome:
        request_id = message.id
        content = message.body.get("result") or message.body.get("error")
        if request_id is None:
            return self._pass("server_request", _CLIENT, message, "", "", None, content)
        waiting = self.asked.pop(request_id, None) or self._late(_CLIENT, request_id)
        if waiting is None:
            return self.refuse(unissued_answer(), _CLIENT, None, message.data)
        self._remember(_CLIENT, request_id, waiting)
        return self._pass("server_request", _CLIENT, message, waiting.method, waiting.name, waiting, content)

    def _server_request(self, message: Message, method: str) -> bytes | Outcome:
        request_id: RequestId = message.id  # type: ignore[assignment]  # a request has an id
        if self.modern:
            return self.refuse(server_asks(), _SERVER, request_id, message.data)
        if request_id in self.asked:
            if not self.replaying:
                return self.refuse(reused_id(), _SERVER, request_id, message.data)
        elif len(self.asked) >= self.codec.limits.in_flight:
            return self.refuse(too_many_in_flight(self.codec.limits.in_flight), _SERVER, request_id, message.data)
        event = Event("server_request", _SERVER, message, self.conversation, method)
        decision = self.gate.decide(self.gate.asked("server_request", message.hits), event, self.conversation.mode)
        return self._settle(decision, event, message.body.get("params"), self.asked)

    # -- deciding --------------------------------------------------------------------------------

    def _pass(
        self,
        hook: Hook,
        direction: Direction,
        message: Message,
        method: str,
        name: str,
        waiting: Pending | None,
        content: Any,
    ) -> bytes | Outcome:
        """A message nobody waits for an answer to: notifications, answers to the server."""
        gate = self.gate
        asked = gate.asked(hook, message.hits)
        names_withheld = hook == "call" and gate.withheld.names
        if asked or names_withheld:
            event = Event(hook, direction, message, self.conversation, method, name, waiting)
            decision = gate.decide(asked, event, self.conversation.mode)
            if names_withheld:
                decision = gate.withheld.refuse(event, decision)
            if decision is not CLEAR:
                return self._settle(decision, event, content, None)
        about = waiting.seq if waiting else 0
        try:
            self.scope.decision(
                hook, int(direction), method, name, message.id, message.data, content, "allow", (), about, 0
            )
        except AuditError:
            if self.enforce:
                return self.no_evidence(direction, message, method, modern=self.modern)
        return message.data

    def _settle(
        self, decision: Decision, event: Event, content: Any, table: dict[RequestId, Pending] | None
    ) -> bytes | Outcome:
        """Carry out what the controls decided: edit, record, refuse, or forward.

        `table` is where a request that passes is to wait for its answer; None for all other messages.
        """
        original = message = event.message
        direction = event.direction
        method = event.method
        waiting = event.request
        rounds = [(event, decision)]
        if decision.outcome == "rewrite" and decision.edits:
            message = self._rewrite(event, decision, rounds)
        if decision.labels:
            self.conversation.labels |= decision.labels
        outcome = decision.outcome
        if outcome == "ask":
            # No approver is connected to this gate, and nobody's silence is a yes.
            decision.reason = f"{decision.reason}: needs a person's approval, and no approver is connected"
            outcome = "deny"
        about = spent = 0
        if waiting is not None:
            about = waiting.seq
            spent = (monotonic_ns() - waiting.started_ns) // 1000
        try:
            seq = self.scope.decision(
                event.hook,
                int(direction),
                method,
                event.name,
                message.id,
                message.data,
                content,
                outcome,
                tuple(decision.findings),
                about,
                spent,
            )
        except AuditError:
            if self.enforce:
                self._learn(rounds, shown=False)
                modern = waiting.modern if waiting is not None else self.modern
                return self.no_evidence(direction, message, method, modern=modern)
            seq = 0
        self._learn(rounds, shown=outcome != "deny")
        if outcome == "deny":
            return self._denied(direction, message, method, waiting, decision)
        if table is not None:
            modern = direction is _CLIENT and self.modern
            waiting = Pending(method, event.name, seq, monotonic_ns(), modern)
            table[message.id] = waiting  # type: ignore[index]  # a request has an id
        return message.data if message is original else Outcome(message.data, None, decision.rule, HTTP_OK)

    def _learn(self, rounds: list[tuple[Event, Decision]], *, shown: bool) -> None:
        """What is withheld from a list that was judged in these rounds."""
        if rounds[0][0].hook == "catalog":
            for event, decision in rounds:
                self.gate.withheld.learn(event, decision, shown=shown)
                shown = False  # the rounds after the first only take more away

    def _rewrite(self, event: Event, decision: Decision, rounds: list[tuple[Event, Decision]]) -> Message:
        """Apply edits and inspect what they made, until nothing more is to be changed.

        `rounds` gets what was inspected again, and what the controls said of it.
        """
        gate = self.gate
        message = event.message
        edits = decision.edits
        for _ in range(_ROUNDS):
            body = message.copy_body()
            try:
                apply(body, edits)
                if event.hook == "catalog":
                    _forbid_caching(body)
                message = self.codec.encode(body)
            except (EditConflict, ProtocolError) as error:
                decision.deny("two controls want to change the same place", "edit-conflict")
                decision.findings.append(Finding("edit-conflict", "fail-open", str(error), severity="high"))
                return message
            except Exception as error:  # noqa: BLE001 - rubbish in an edit must deny, whatever it breaks
                decision.deny("a control made an edit that cannot be applied", "edit-conflict")
                what = f"an edit cannot be applied ({type(error).__name__})"
                decision.findings.append(Finding("edit-conflict", "fail-open", what, severity="high"))
                return event.message
            if not _same_envelope(message, event.message):
                decision.deny("a control wants to change who is answered or what is asked", "edit-conflict")
                what = "an edit changes the id, the method or the kind of the message"
                decision.findings.append(Finding("edit-conflict", "fail-open", what, severity="high"))
                return event.message
            changed = Event(
                event.hook, event.direction, message, self.conversation, event.method, event.name, event.request
            )
            again = gate.decide(gate.asked_again(event.hook, message.hits), changed, self.conversation.mode)
            rounds.append((changed, again))
            if again.outcome in ("deny", "ask"):
                decision.findings += again.findings
                decision.deny(again.reason, again.rule)
                return message
            # What is news only now, for the first look said the rest.
            said = {(finding.rule, finding.message, finding.evidence) for finding in decision.findings}
            news = [one for one in again.findings if (one.rule, one.message, one.evidence) not in said]
            decision.labels |= again.labels
            if again.outcome != "rewrite" or not again.edits:
                decision.findings += news
                return message
            decision.findings += again.findings
            edits = again.edits
        decision.deny("the message could not be made safe", "rewrite-unstable")
        return message

    # -- refusing --------------------------------------------------------------------------------

    def refuse(
        self, error: ProtocolError, direction: Direction, request_id: RequestId | None = None, data: bytes = b""
    ) -> Outcome:
        """Record a message that breaks the protocol and say so to whoever waits. `data`: its bytes, where known."""
        finding = self.gate.finding_of(error)
        try:
            self.scope.decision(
                "call" if direction is _CLIENT else "content",
                int(direction),
                "",
                "",
                request_id,
                data,
                None,
                "deny",
                (finding,),
                0,
                0,
            )
        except AuditError:
            pass  # it is refused anyway
        text = f"{error.what}; {error.next_step}" if error.next_step else error.what
        if direction is _CLIENT:
            status = HTTP_TOO_LARGE if error.rule == "limit-request-bytes" else HTTP_BAD_REQUEST
            # The id of an answer is the server's: to the client it would mean a request of its own.
            known = None if error.is_answer else request_id
            reply = answers.error(known, error.rpc_code, f"Refused by callgate: {text}", error.rule)
            return Outcome(None, reply, error.rule, status)
        # What the server said is not repeated; its caller, if one waits, learns that the answer was refused.
        answered = _answered_in(data) if data.startswith(b"[") else []
        if error.is_answer and request_id is not None and request_id not in answered:
            answered.append(request_id)
        text_of_answer = f"Refused by callgate: the server's answer was refused: {text}"
        told = [
            answers.error(one, answers.DENIED, text_of_answer, error.rule)
            for one in answered
            if self.pending.pop(one, None) is not None
        ]
        forward: bytes | None = None
        if told:
            forward = told[0] if len(told) == 1 else b"[" + b",".join(told) + b"]"
        back: bytes | None = None
        if request_id is not None and not error.is_answer:
            code = -32601 if error.rule == "server-request" else error.rpc_code
            back = answers.error(request_id, code, f"Refused by callgate: {text}", error.rule)
        return Outcome(forward, back, error.rule, HTTP_OK)

    def _malformed(self, raw: bytes, error: ProtocolError, direction: Direction) -> bytes | Outcome:
        """In observe mode a message that is at least JSON passes as it came, and the log says it was not inspected.

        Not where a control enforces all the same: what it cannot see it cannot refuse.
        """
        too_large = isinstance(error, LimitExceeded) and error.rule.endswith("-bytes")
        body = None if self.enforce or self.gate.enforces or too_large else parse_leniently(raw)
        if body is None:
            outcome = self.refuse(error, direction, error.request_id, raw)
            asked = error.request_id if direction is _CLIENT and error.is_answer else None
            if asked is not None and self.asked.pop(asked, None) is not None:
                text = f"Refused by callgate: the client's answer was refused: {error.what}"
                outcome.forward = answers.error(asked, answers.DENIED, text, error.rule)
            return outcome
        finding = replace(self.gate.finding_of(error), message=f"passed uninspected: {error.what}")
        request_id = body.get("id") if type(body) is dict else None
        if type(request_id) not in (str, int):
            request_id = None
        try:
            self.scope.decision(
                "call" if direction is _CLIENT else "content", int(direction), "", "", request_id, raw, None,
                "would-deny", (finding,), 0, 0,
            )  # fmt: skip
        except AuditError:
            pass  # observing: the message passes
        if request_id is not None and type(body) is dict:
            self._follow(body, request_id, direction)
        # Between tokens a line break means what a space means, but to a reader of lines it ends the message.
        return one_line(raw.replace(b"\n", b" ").replace(b"\r", b" "))

    def _follow(self, body: dict[str, Any], request_id: RequestId, direction: Direction) -> None:
        """Keep correlation right for a message that passed uninspected."""
        method = body.get("method")
        mine, theirs = (self.pending, self.asked) if direction is _CLIENT else (self.asked, self.pending)
        if type(method) is str:
            if request_id not in mine and len(mine) < self.codec.limits.in_flight:
                mine[request_id] = Pending(method, "", 0, monotonic_ns(), modern=self.modern)
        else:
            theirs.pop(request_id, None)

    def _denied(
        self, direction: Direction, message: Message, method: str, waiting: Pending | None, decision: Decision
    ) -> Outcome:
        """The outcome of a control's refusal."""
        if message.kind is _REQUEST:
            modern = direction is _CLIENT and self.modern
            request_id: RequestId = message.id  # type: ignore[assignment]  # a request has an id
            refused = answers.refusal(request_id, method, decision.reason, decision.rule, modern=modern)
            return Outcome(None, refused, decision.rule, HTTP_OK if method == "tools/call" else HTTP_FORBIDDEN)
        if message.kind is _NOTIFICATION or message.id is None:
            return Outcome(None, None, decision.rule, HTTP_FORBIDDEN)
        modern = waiting.modern if waiting is not None else False
        substitute = answers.refusal(message.id, method, decision.reason, decision.rule, modern=modern)
        return Outcome(substitute, None, decision.rule, HTTP_OK)

    def no_evidence(self, direction: Direction, message: Message, method: str, modern: bool) -> Outcome:
        """The log cannot be written: in enforce mode nothing passes."""
        rule = "evidence-unavailable"
        if message.kind is _NOTIFICATION or message.id is None:
            return Outcome(None, None, rule, HTTP_UNAVAILABLE)
        if method == "tools/call":
            answer = answers.tool_error(message.id, _EVIDENCE, rule, modern=modern)
        else:
            answer = answers.error(message.id, answers.UNAVAILABLE, f"Blocked by callgate: {_EVIDENCE}", rule)
        if message.kind is _REQUEST:
            return Outcome(None, answer, rule, HTTP_UNAVAILABLE)
        return Outcome(answer if direction is _SERVER else None, None, rule, HTTP_UNAVAILABLE)

    # -- batches (2025-03-26) --------------------------------------------------------------------

    def _batch(self, messages: list[Message], direction: Direction) -> bytes | Outcome:
        if self.revision != "2025-03-26":
            data = b"[" + b",".join(message.data for message in messages) + b"]"
            return self.refuse(no_batches(self.revision), direction, None, data)
        forward: list[bytes] = []
        replies: list[bytes] = []
        rule = ""
        decide = self.client_message if direction is _CLIENT else self.server_message
        for message in messages:
            result = decide(message)
            if type(result) is bytes:
                forward.append(result)
                continue
            outcome: Outcome = result  # type: ignore[assignment]  # type() narrows no union for mypy
            rule = rule or outcome.rule
            if outcome.forward is not None:
                forward.append(outcome.forward)
            if outcome.reply is not None:
                replies.append(outcome.reply)
        joined = b"[" + b",".join(forward) + b"]" if forward else None
        if joined is not None and not replies and not rule:
            return joined
        return Outcome(joined, b"[" + b",".join(replies) + b"]" if replies else None, rule, HTTP_OK)

    # -- correlation -----------------------------------------------------------------------------

    def _negotiated(self, revision: str) -> None:
        if len(revision) > _REVISION_LENGTH or not (revision.isascii() and revision.isprintable()):
            revision = ""  # a peer's text, which would go into headers and into every record
        self.revision = revision
        self.conversation.revision = revision
        self.scope.revision = revision

    def _remember(self, direction: Direction, request_id: RequestId, waiting: Pending) -> None:
        """Keep an answered request for a while, where a stream may be replayed (HTTP sessions)."""
        if self.replayable and self.conversation.session:
            self._keep(direction, request_id, waiting)

    def _keep(self, direction: Direction, request_id: RequestId, waiting: Pending) -> None:
        self._answered[direction, request_id] = waiting
        if len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)

    def _late(self, direction: Direction, request_id: RequestId) -> Pending | None:
        """The request a second or late answer belongs to: after a cancel once, during a replay always."""
        waiting = self._answered.get((direction, request_id))
        if waiting is None:
            return None
        if waiting.started_ns < 0:
            waiting.started_ns = -waiting.started_ns
            if not self.replaying:
                del self._answered[direction, request_id]
            return waiting
        return waiting if self.replaying else None

    def _cancelled(self, message: Message, table: dict[RequestId, Pending], direction: Direction) -> None:
        """A cancelled request may be answered all the same: its answer is then passed once."""
        params = message.body.get("params")
        request_id = params.get("requestId") if params else None
        if type(request_id) not in (str, int):
            return
        waiting = table.pop(request_id, None)  # type: ignore[arg-type]  # checked above
        if waiting is not None:
            # The answer comes from the other side; a negative start marks "cancelled".
            other = _SERVER if direction is _CLIENT else _CLIENT
            waiting.started_ns = -waiting.started_ns
            self._keep(other, request_id, waiting)  # type: ignore[arg-type]  # checked above

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

    def answer_too_long(self, edges: list[bytes]) -> list[bytes]:
        """Errors for callers whose answer was too long to keep. `edges`: its ends, where the id stands."""
        errors: list[bytes] = []
        for edge in edges:
            for request_id in (id_at_head(edge), id_at_tail(edge)):
                if request_id is not None and self.pending.pop(request_id, None) is not None:
                    text = "Refused by callgate: the server's answer exceeds limits.response_bytes"
                    errors.append(answers.error(request_id, answers.DENIED, text, "limit-response-bytes"))
        return errors

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


def _forbid_caching(body: dict[str, Any]) -> None:
    """What is withheld changes with an approval, and may differ by caller: no cache may keep it (2026-07-28)."""
    result = body.get("result")
    if type(result) is dict:
        if "ttlMs" in result:
            result["ttlMs"] = 0
        if "cacheScope" in result:
            result["cacheScope"] = "private"


def _answered_in(batch: bytes) -> list[RequestId]:
    """The ids that a batch of the server seems to answer."""
    items = parse_leniently(batch)
    if type(items) is not list:
        return []
    found = (item.get("id") for item in items if type(item) is dict and "method" not in item)
    return list(dict.fromkeys(one for one in found if type(one) is int or type(one) is str))


def _goes_on(result: bytes | Outcome) -> bool:
    """Whether something of a message reaches the other side."""
    return type(result) is bytes or result.forward is not None  # type: ignore[union-attr]  # not bytes, so an Outcome


def _same_envelope(message: Message, original: Message) -> bool:
    return (message.kind, message.id, message.method) == (original.kind, original.id, original.method)
