"""Decisions in the terminal as they are made, without the gateway ever waiting for the terminal."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from typing import TextIO

from callgate.audit.live import live_line
from callgate.audit.records import parse

WAITING = 2000
"""Records that may wait for the terminal; more are counted, not shown."""


class LiveLines:
    """Prints records from a thread of its own: a terminal that is held (Ctrl-S) holds up nobody else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        self._queue: queue.Queue[bytes] = queue.Queue(WAITING)
        self._skipped = 0
        threading.Thread(target=self._print, name="live", daemon=True).start()

    def show(self, record: bytes) -> None:
        """Take one record of the evidence log. Never blocks, never raises."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._skipped += 1

    def _print(self) -> None:
        while True:
            record = parse(self._queue.get())
            if record is None or record.get("kind") not in ("decision", "note"):
                continue
            width = shutil.get_terminal_size().columns if self._terminal else 100
            line = live_line(record, width=width, colour=self._colour)
            skipped, self._skipped = self._skipped, 0
            try:
                if skipped:
                    self._stream.write(f"… {skipped} lines not shown; callgate audit show has them\n")
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return
