"""A server's stderr, shown line by line with the server's name, in bounded length and rate.

The text is hostile: it goes through `callgate.text.visible`. A full terminal or pipe never holds the
gateway up: what cannot be written at once is counted and summed up later.
"""

from __future__ import annotations

import select
import time
from os import write

from callgate.transport.lines import CutLines

LINE_BYTES = 2048
BURST_LINES = 200
LINES_PER_S = 50.0


def to_stderr(text: str) -> None:
    """Write whole lines there now. A reader who left is no reason to stop relaying."""
    try:
        write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return


class StderrRelay:
    """Relays one server's stderr to the file descriptor `sink` (default: the gateway's stderr)."""

    __slots__ = ("_allowance", "_dropped", "_last", "_lines", "_poll", "_prefix", "_sink")

    def __init__(self, name: str, sink: int = 2) -> None:
        self._prefix = f"[{name}] "
        self._sink = sink
        self._lines = CutLines(LINE_BYTES)
        self._dropped = 0
        self._allowance = float(BURST_LINES)
        self._last = time.monotonic()
        self._poll = select.poll()
        self._poll.register(sink, select.POLLOUT)

    def feed(self, chunk: bytes) -> None:
        """Relay the lines that `chunk` completes."""
        for line in self._lines.feed(chunk):
            self._show(line)

    def close(self) -> None:
        """Relay an unfinished last line and say what was left out."""
        self._show(self._lines.rest())
        self._report_dropped()

    def say(self, text: str) -> None:
        """A line of callgate's own about the server. `text` is safe to print."""
        self._write(text)

    def _show(self, line: bytes) -> None:
        if not line.strip():
            return
        now = time.monotonic()
        self._allowance = min(BURST_LINES, self._allowance + (now - self._last) * LINES_PER_S)
        self._last = now
        if self._allowance < 1:
            self._dropped += 1
            return
        self._allowance -= 1
        self._report_dropped()
        from callgate.text import visible

        shown = visible(line[:LINE_BYTES].decode("utf-8", "backslashreplace"))
        self._write(shown if len(line) <= LINE_BYTES else shown + " …")

    def _report_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._write(f"({count} lines of stderr left out)")

    def _write(self, text: str) -> None:
        data = (self._prefix + text + "\n").encode("utf-8", "backslashreplace")
        try:
            # POLLOUT on a pipe means PIPE_BUF (4096) bytes fit, so these pieces cannot block.
            for start in range(0, len(data), 4096):
                if not self._poll.poll(0):
                    self._dropped += 1
                    return
                write(self._sink, data[start : start + 4096])
        except OSError:
            pass
