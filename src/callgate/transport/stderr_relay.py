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
PIECE = 4096
"""POLLOUT on a pipe means that so many bytes (PIPE_BUF) fit: such pieces cannot block."""
PATIENCE_S = 1.0
"""How long `to_stderr` waits, once, for somebody to read."""
_CUT = " …\n"


_left_out = 0
"""Lines that nobody read in time, since somebody read last."""
_cut = False
"""Whether the last line was written in part."""


def to_stderr(text: str) -> None:
    """Write whole lines there. Who left, or reads nothing for a while, does not stop the relay: what is left out is
    counted and summed up as soon as somebody reads again.
    """
    global _left_out, _cut
    if not text:
        return
    end = time.monotonic() + (0.0 if _left_out else PATIENCE_S)
    told = f"{_CUT if _cut else ''}callgate: ({_left_out} lines of stderr left out)\n".encode() if _left_out else b""
    data = told + text.encode("utf-8", "backslashreplace")
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    start = 0
    try:
        while start < len(data):
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                break
            try:
                start += write(2, data[start : start + PIECE])
            except BlockingIOError:  # it shares its flags with stdin or stdout, and takes less than a piece
                if time.monotonic() >= end:
                    break
                time.sleep(0.001)
    except OSError:
        return
    if start:
        _cut = not data.endswith(b"\n", 0, start)
    if start >= len(told):
        _left_out = 0
    _left_out += data.count(b"\n", max(start, len(told)))


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
            for start in range(0, len(data), PIECE):
                if not self._poll.poll(0):
                    self._dropped += 1
                    return
                write(self._sink, data[start : start + PIECE])
        except OSError:
            pass
