"""When written records reach the disk: at most `sync_ms` after they were written, without stopping the gate.

A kill of the process loses nothing that was assigned to the mapping; only a crash of the machine or a
loss of power does, and against that the file is synced, in a thread, as fdatasync may take many milliseconds.
"""

from __future__ import annotations

import _thread
import errno
import os
import time
from typing import Final

from callgate.audit.spool import Spool

EARLY: Final = 0.25
"""The part of `sync_ms` from one look for what is due to the next, and by which a sync is begun early: what becomes due
just after a look waits for the next."""


class Syncer:
    """Starts at most one sync at a time. `error` is the last failure, None when all went well."""

    __slots__ = ("_busy", "_due", "_interval", "_spool", "_synced", "error")

    def __init__(self, spool: Spool, sync_ms: int) -> None:
        self._spool = spool
        self._interval = sync_ms / 1000 * (1 - EARLY)
        self._due = time.monotonic() + self._interval
        self._synced = 0
        self._busy = False
        self.error: OSError | None = None

    def tick(self, seq: int, *, urgent: bool = False) -> bool:
        """Start a sync when something was written since the last one and the interval is over.

        True when there is something that no sync has been started for. `urgent`: do not wait for the interval.
        """
        if seq == self._synced:
            return False
        now = time.monotonic()
        if self._busy or (now < self._due and not urgent):
            return True
        self._due = now + self._interval
        self._busy = True
        finished = self._spool.finished
        copies: list[int] = []  # the writer closes its own at the end
        try:
            copies += (os.dup(descriptor) for descriptor in (*finished, self._spool.segment, self._spool.tail_file))
            _thread.start_new_thread(self._sync, tuple(copies))
        except (OSError, RuntimeError) as error:  # no descriptor or no thread to be had: the next record syncs itself
            self.error = OSError(errno.EAGAIN, str(error))
            self._busy = False
            for descriptor in copies:
                os.close(descriptor)
            return True
        while finished:
            os.close(finished.pop())  # the copies are with the thread
        self._synced = seq
        return False

    def now(self) -> None:
        """Sync and wait for it. Raises OSError."""
        while self._spool.finished:
            os.fdatasync(self._spool.finished[0])
            os.close(self._spool.finished.pop(0))
        os.fdatasync(self._spool.segment)
        os.fdatasync(self._spool.tail_file)
        self.error = None

    def _sync(self, *descriptors: int) -> None:
        try:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
        except OSError as error:
            self.error = error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            self._busy = False
