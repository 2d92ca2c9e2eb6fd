"""The short way of the plainest exchange: a small call of a tool with flat arguments, and a small answer of text.

What the parser, the controls and the evidence make of the form of such a message depends on its method, its name,
and the names and types of its members. The general way (`Channel`) judges the first of a form; `Forms` keeps what
came out, and those after it are held against that in one look-up. Done for each message, here as there: canonical
bytes, the one scan, the id in flight, the controls' clearance, the record of evidence.

`call` and `answer` return None for whatever is not plain or not known. Nothing has been decided or written then,
and the general way judges the message as if it had come there first.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from callgate.errors import AuditError
from callgate.gate.hooks import CATALOG_METHODS
from callgate.gate.pending import Pending
from callgate.gate.substitutes import no_evidence
from callgate.protocol.message import Direction
from callgate.protocol.methods import NAME_MEMBERS
from callgate.vault.active import empties, no_longer

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.gate.outcome import Outcome

REMEMBERED: Final = 1024
"""Forms of each kind; a full table is emptied. A peer that invents forms costs its own messages a look-up."""
_MEMBERS: Final = 24
_TEXT_CHARACTERS: Final = 2048
_NESTED: Final = frozenset({dict, list})
_ANSWER: Final = frozenset({"content", "isError"})


class Forms:
    """What was found plain, for one gate: by method, name, and the names and types of members."""

    __slots__ = ("answers", "calls")

    def __init__(self) -> None:
        self.calls: dict[tuple[object, ...], tuple[str, str, Any]] = {}
        """Method, name, and the constant text of the record."""
        self.answers: dict[tuple[object, ...], Any] = {}
        """The constant text of the record."""
        empties(self.calls, self.answers)

    def close(self) -> None:
        """Nothing goes this way any more."""
        no_longer(self.calls, self.answers)


def call(channel: Channel, body: dict[str, Any], raw: bytes) -> bytes | Outcome | None:
    """Decide a request of the client; `body` is what `Codec.plain` read from `raw`."""
    if len(body) != 4:
        return None
    gate = channel.gate
    try:
        request_id = body["id"]
        params = body["params"]
        arguments = params["arguments"]
        form = (body["method"], params["name"], *arguments, *map(type, arguments.values()))
        method, name, head = gate.forms.calls[form]
    except (KeyError, TypeError, AttributeError):
        return None
    pending = channel.pending
    clears = gate.clears_call
    if (
        body.get("jsonrpc") != "2.0"
        or len(params) != 2
        or type(request_id) is not int
        or request_id in pending
        or len(pending) >= channel.in_flight
        or clears is None
        or gate.withheld.names
        or not clears(channel.conversation.server, method, name)
    ):
        return None
    channel.modern = False
    try:
        seq = channel.scope.record(head, request_id, raw, 0, 0)
    except AuditError:
        if channel.enforce:
            message = channel.codec.message(body, raw, Direction.CLIENT)
            return no_evidence(Direction.CLIENT, message, method, modern=False)
        seq = 0
    pending[request_id] = Pending(method, name, seq, monotonic_ns(), False)
    return raw


def answer(channel: Channel, body: dict[str, Any], raw: bytes) -> bytes | Outcome | None:
    """Decide an answer of the server; `body` is what `Codec.plain` read from `raw`."""
    if len(body) != 3:
        return None
    gate = channel.gate
    try:
        request_id = body["id"]
        result = body["result"]
        waiting = channel.pending[request_id]
        head = gate.forms.answers[(waiting.method, waiting.name, *result, *map(type, result.values()))]
        for block in result["content"]:
            if type(block) is not dict or len(block) != 2 or "text" not in block or "type" not in block:
                return None
    except (KeyError, TypeError, AttributeError):
        return None
    if (
        body.get("jsonrpc") != "2.0"
        or type(request_id) is not int
        or result.get("isError") is True
        or channel.replayable
        or gate.always["content"]
    ):
        return None
    del channel.pending[request_id]
    try:
        channel.scope.record(head, request_id, raw, waiting.seq, (monotonic_ns() - waiting.started_ns) // 1000)
    except AuditError:
        if channel.enforce:
            message = channel.codec.message(body, raw, Direction.SERVER)
            return no_evidence(Direction.SERVER, message, waiting.method, modern=waiting.modern)
    return raw


def learn_call(channel: Channel, body: dict[str, Any]) -> None:
    """Keep the form of a request that the general way has let pass as it came, where `call` would take it now."""
    gate = channel.gate
    if type(body.get("id")) is not int or gate.clears_call is None or gate.withheld.names:
        return
    method = body.get("method")
    params = body.get("params")
    if type(method) is not str or type(params) is not dict or len(params) != 2 or NAME_MEMBERS.get(method) != "name":
        return
    name, arguments = params.get("name"), params.get("arguments")
    if type(name) is not str or type(arguments) is not dict or not _NESTED.isdisjoint(map(type, arguments.values())):
        return
    form = (method, name, *arguments, *map(type, arguments.values()))
    head = channel.scope.head("call", 0, method, name, arguments)
    if head is not None and _fits(form):
        calls = gate.forms.calls
        _keep(calls, form, (method, name, head))
        if channel.scope.head("call", 0, method, name, arguments) is None:
            calls.pop(form, None)  # a secret was added this moment, and the head forgotten


def learn_answer(channel: Channel, waiting: Pending, body: dict[str, Any]) -> None:
    """Keep the form of an answer to `waiting` that the general way has let pass as it came; see `learn_call`."""
    if type(body.get("id")) is not int or channel.replayable or channel.gate.always["content"]:
        return
    result = body.get("result")
    if type(result) is not dict or not _ANSWER.issuperset(result) or type(result.get("content")) is not list:
        return
    if waiting.method in CATALOG_METHODS or type(result.get("isError")) in _NESTED or result.get("isError") is True:
        return
    form = (waiting.method, waiting.name, *result, *map(type, result.values()))
    head = channel.scope.head("content", 1, waiting.method, waiting.name, result)
    if head is not None and _fits(form):
        known = channel.gate.forms.answers
        _keep(known, form, head)
        if channel.scope.head("content", 1, waiting.method, waiting.name, result) is None:
            known.pop(form, None)  # as above


def _fits(form: tuple[object, ...]) -> bool:
    return len(form) <= 2 + 2 * _MEMBERS and sum(len(part) for part in form if type(part) is str) <= _TEXT_CHARACTERS


def _keep(table: dict[tuple[object, ...], Any], form: tuple[object, ...], found: Any) -> None:
    if len(table) >= REMEMBERED:
        table.clear()
    table[form] = found
