"""A start that somebody waits for, and how long: told once, whether it came to something or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from callgate.errors import CallgateError, LaunchError
from callgate.transport.bridge import Connect

START_S = 90.0
"""From the request that needs a server to the server: it waits for stores of secrets, engines, other starts of it."""

Done: TypeAlias = Callable[[Connect | CallgateError], None]
"""Told on the loop, never before `begin` has returned: what hands the upstream over, or why there is none."""

Begin: TypeAlias = "Callable[[Done], Start]"
"""Starts an upstream, and does not wait for it."""


class Start:
    """One start. `over`: nobody waits for it, because they were told or went away."""

    __slots__ = ("_done", "_patience", "_refused", "over")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        done: Done,
        refused: Callable[[CallgateError | OSError], CallgateError],
    ) -> None:
        """`refused` puts a failure on record, and says what the one who waits is told."""
        self.over = False
        self._done = done
        self._refused = refused
        self._patience = loop.call_later(START_S, self._late)

    def succeed(self, connect: Connect) -> None:
        """There is an upstream."""
        self._end()
        self._done(connect)

    def fail(self, error: CallgateError | OSError) -> None:
        """There is none. Nothing happens where nobody waits any more: that is on record already."""
        if not self.over:
            self._end()
            self._done(self._refused(error))

    def cancel(self, why: str) -> None:
        """Who waited has gone: `why` goes on record, and nobody is told."""
        if not self.over:
            self._end()
            self._refused(LaunchError(why))

    def _late(self) -> None:
        what = f"it was not ready to be started within {START_S:g} s"
        self.fail(LaunchError(what, next_step="look at what it waits for: a store of secrets, a container engine"))

    def _end(self) -> None:
        self.over = True
        self._patience.cancel()


def handed(result: Connect | CallgateError) -> Connect:
    """The upstream, or the error raised."""
    if isinstance(result, CallgateError):
        raise result
    return result
