"""Requests that were answered or cancelled, kept for a while: a replay or a late answer is recognised by them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from callgate.protocol.message import Direction, Message, RequestId

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.gate.pending import Pending

REMEMBERED: Final = 256
"""Requests kept of one session; the oldest makes room."""


class Answered(OrderedDict[tuple[Direction, RequestId], "Pending"]):
    """By who answers and by id."""

    __slots__ = ()

    def keep(self, direction: Direction, request_id: RequestId, waiting: Pending) -> None:
        """Remember a request; `direction` is where its answer comes from."""
        self[direction, request_id] = waiting
        if len(self) > REMEMBERED:
            self.popitem(last=False)

    def late(self, direction: Direction, request_id: RequestId, *, replaying: bool) -> Pending | None:
        """The request a second or late answer belongs to: after a cancel once, during a replay always."""
        waiting = self.get((direction, request_id))
        if waiting is None:
            return None
        if waiting.started_ns < 0:
            waiting.started_ns = -waiting.started_ns
            if not replaying:
                del self[direction, request_id]
            return waiting
        return waiting if replaying else None


def cancelled(channel: Channel, message: Message, direction: Direction) -> None:
    """A cancelled request may be answered all the same: its answer is then passed once."""
    request_id = message.names("requestId")
    if request_id is None:
        return
    from_client = direction is Direction.CLIENT
    table = channel.pending if from_client else channel.asked
    waiting = table.pop(request_id, None)
    if waiting is not None:
        # The answer comes from the other side; a negative start marks "cancelled".
        waiting.started_ns = -waiting.started_ns
        other = Direction.SERVER if from_client else Direction.CLIENT
        channel.answered.keep(other, request_id, waiting)
