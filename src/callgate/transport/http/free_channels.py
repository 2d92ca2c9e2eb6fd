"""Channels of the modern era that wait for nothing: one stands for one exchange, and the next may have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from callgate.gate.channel import Channel

MOST: Final = 256
"""Callers they are kept for, and how many for each."""


class FreeChannels(dict[str, "list[Channel]"]):
    """See the module. By principal, the one used last at the end: it is taken from there."""

    def add(self, principal: str, channel: Channel) -> None:
        """An exchange is answered."""
        if channel.modern and not channel.pending:
            free = self.get(principal)
            if free is None:
                if len(self) >= MOST:
                    self.clear()
                free = self[principal] = []
            if len(free) < MOST:
                free.append(channel)
