"""The short way of a plain exchange in native code, where it was built (core/). See `express` for what it does.

Beside what `express` knows it takes messages of any size, nested arguments and results, and requests of revision
2026-07-28: it reads a message without making objects of it. What it does not recognise goes the way in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callgate.gate.hooks import CATALOG_METHODS
from callgate.native import core
from callgate.protocol.methods import META_VERSION, NAME_MEMBERS
from callgate.vault.active import clean, empties

if TYPE_CHECKING:
    from callgate._core import Express, Forms
    from callgate.gate.channel import Channel
    from callgate.gate.pending import Pending
    from callgate.protocol.message import Message


def forms(limits: Any) -> Forms | None:
    """An empty memory of forms, for one gate; None where there is no native lane."""
    if core is None:
        return None
    known: Forms = core.Forms(limits)
    empties(known)
    return known


def express(channel: Channel) -> Express | None:
    """The short way of one channel; None where there is none, or a control wants to see every message."""
    gate = channel.gate
    if core is None or gate.native is None or gate.clears_call is None or gate.always["content"]:
        return None
    if not isinstance(gate.journal, core.Place):
        return None  # evidence that is not written to a log
    made: Express = core.Express(
        gate.native,
        channel.pending,
        gate.withheld.names,
        channel.scope,
        gate.journal,
        gate.clears_call,
        gate.clearance_stamp,
        gate.automaton.scan,
        channel.conversation.server,
        channel.in_flight,
        ascii_is_clear=gate.ascii_is_clear,
    )
    return made


def learn_call(channel: Channel, message: Message) -> None:
    """Keep the form of a request that the general way has let pass as it came, where the lane would take it now."""
    gate = channel.gate
    if gate.journal.limit < 0 or gate.withheld.names:
        return
    known = gate.native
    raw = message.data
    params = message.body.get("params")
    method = message.method
    if known is None or message.hits or type(params) is not dict or NAME_MEMBERS.get(method or "") != "name":
        return
    if method is None or not known.reads_call(raw):
        return
    name = params["name"]
    head = channel.scope.constant("call", 0, method, name, params["arguments"])
    if head is None:
        return
    revision = None
    if META_VERSION in params.get("_meta", ()):
        revision = channel.revision
        if params["_meta"][META_VERSION] != revision:
            return  # one that nobody took note of: headers must repeat what the body says, not what is noted
    known.learn_call(channel.conversation.server, raw, method, name, head, revision)
    if clean(head) != head:
        known.clear()  # a secret was added this moment


def learn_answer(channel: Channel, waiting: Pending, message: Message) -> None:
    """Keep the form of an answer to `waiting` that the general way has let pass as it came; see `learn_call`."""
    if channel.gate.journal.limit < 0 or channel.replayable:
        return
    known = channel.gate.native
    raw = message.data
    result = message.body.get("result")
    if known is None or message.hits or type(result) is not dict or result.get("isError") is True:
        return
    if waiting.method in CATALOG_METHODS:
        return
    if result.get("resultType", "complete") != "complete" or not known.reads_answer(raw):
        return
    head = channel.scope.constant("content", 1, waiting.method, waiting.name, result)
    if head is None:
        return
    known.learn_answer(raw, waiting.method, waiting.name, head)
    if clean(head) != head:
        known.clear()  # as above
