"""Work that may block, beside the event loop: each piece in a thread of its own, its result back on the loop.

Daemon threads, not an executor's: the interpreter waits at its end for those of an executor, and a store of secrets
that hangs must not keep a gateway from ending. `idle` waits for them as long as there is time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from callgate.errors import LaunchError

_T = TypeVar("_T")


class Aside:
    """The blocking work of one route. All methods are for the loop's thread."""

    __slots__ = ("_loop", "_pending")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: set[asyncio.Future[Any]] = set()

    def run(self, work: Callable[[], _T], then: Callable[[_T | Exception], None] | None = None) -> None:
        """Call `work` in a thread, and then `then` on the loop with what it returned or raised.

        After the loop's end the result is dropped: the process ends too.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        self.until(done)

        def finish(result: _T | Exception) -> None:
            try:
                if then is not None:
                    then(result)
            finally:
                done.set_result(None)

        def run() -> None:
            result: _T | Exception
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - whoever asked for it is told, whatever it is
                result = error
            try:
                self._loop.call_soon_threadsafe(finish, result)
            except RuntimeError:
                return  # the loop is closed

        try:
            Thread(target=run, name="callgate-aside", daemon=True).start()
        except RuntimeError:  # whoever asked for it is told, as above
            what = "callgate may start no more threads"
            self._loop.call_soon(finish, LaunchError(what, next_step="raise the limit of processes (ulimit -u)"))

    def until(self, future: asyncio.Future[Any]) -> None:
        """`idle` waits for this, too."""
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    async def idle(self, seconds: float) -> bool:
        """Wait until nothing is under way, also of what follows from it; False where that takes longer."""
        end = self._loop.time() + seconds
        while self._pending:
            left = end - self._loop.time()
            if left <= 0:
                return False
            await asyncio.wait(set(self._pending), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # what follows is put in its place by callbacks
        return True
