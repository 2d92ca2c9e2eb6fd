"""A request on its way: what the answer will need to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.native import core

if TYPE_CHECKING or core is None:

    class Pending:
        """A request that waits for its answer. `seq` is its record; `started_ns` is negative once cancelled."""

        __slots__ = ("method", "modern", "name", "seq", "started_ns")

        def __init__(self, method: str, name: str, seq: int, started_ns: int, modern: bool) -> None:
            self.method = method
            self.name = name
            self.seq = seq
            self.started_ns = started_ns
            self.modern = modern

else:
    Pending = core.Pending
