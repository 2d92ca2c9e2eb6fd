"""The stdio relay's loop in native code, where it was built (core/)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callgate.native import core

if TYPE_CHECKING:
    from callgate._core import Pump
    from callgate.gate.channel import Channel
    from callgate.transport.lane import Lane

READY: Final = 0
"""What `Pump.turn` tells of a descriptor: it is ready, and nothing was read."""
READ: Final = 1
"""These bytes were read from it and are still to be decided."""


def pump(channel: Channel, poller: Any, up: Lane, down: Lane, active_s: float) -> Pump | None:
    """The loop for a relay whose descriptors are registered with `poller`; None where there is none.

    `active_s`: how often Python is let look up while messages pass.
    """
    express = channel.express
    if core is None or express is None or not hasattr(poller, "fileno"):
        return None
    made: Pump = core.Pump(
        poller.fileno(),
        express,
        channel,
        (up.source, up.onward_fd, up.read_bytes),
        (down.source, down.onward_fd, down.read_bytes),
        int(active_s * 1000),
    )
    return made
