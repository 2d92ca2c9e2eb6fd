"""Requests of one server process that the gate itself cancelled: an answer may be on its way already.

Such an answer is no trick: it is decided and put on record as what it is, an answer to a cancelled request, and reaches
nobody. A second one, or one to a request that was answered or never made, is not in here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from callgate.gate.answered import cancelled
from callgate.protocol.message import Direction, RequestId

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.protocol.message import Message

REMEMBERED: Final = 1024
"""Cancelled requests kept; the oldest makes room."""

Late: TypeAlias = "tuple[Channel, RequestId]"
"""The channel of a cancelled request, and the id it had there."""


class LateAnswers:
    """See the module. By the gate's id. Nothing of the requests is kept but what their channels know."""

    __slots__ = ("_cancelled",)

    def __init__(self) -> None:
        self._cancelled: OrderedDict[int, Late] = OrderedDict()

    def cancel(self, gate_id: int, channel: Channel, request_id: RequestId, note: Message) -> None:
        """The server is told that nobody waits for `gate_id`. `note` says the same under the client's own id."""
        cancelled(channel, note, Direction.CLIENT)  # also where a control objected: the server was told all the same
        self._cancelled[gate_id] = channel, request_id
        if len(self._cancelled) > REMEMBERED:
            self._cancelled.popitem(last=False)

    def take(self, gate_id: Any) -> Late | None:
        """What a late answer belongs to, once. True is not 1 here."""
        return self._cancelled.pop(gate_id, None) if type(gate_id) is int else None

    def clear(self) -> None:
        """The process is gone, and with it whatever it had to say."""
        self._cancelled.clear()
