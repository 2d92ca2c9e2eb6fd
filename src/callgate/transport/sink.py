"""A file descriptor that is written to without ever blocking."""

from __future__ import annotations

from collections import deque
from os import close as close_fd
from os import write as write_fd
from os import writev

_JOIN_BELOW = 64 * 1024
"""Up to here one copy is cheaper than a vector of two."""


class Sink:
    """Writes at once what the descriptor takes; the rest waits for `flush`. A broken pipe closes the sink."""

    __slots__ = ("closed", "closing", "fd", "size", "waiting")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waiting: deque[bytes | memoryview] = deque()
        self.size = 0
        """Bytes that wait."""
        self.closing = False
        self.closed = False

    def write(self, data: bytes) -> bool:
        """Write now or queue; True when something waits."""
        if self.waiting or self.closed or self.closing:
            return self._queue(data)
        try:
            written = write_fd(self.fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.close()
            return False
        if written == len(data):
            return False
        self.waiting.append(memoryview(data)[written:])
        self.size = len(data) - written
        return True

    def write_line(self, line: bytes) -> bool:
        """Write `line` and a newline; a long line is not copied for it."""
        if len(line) < _JOIN_BELOW or self.waiting or self.closed or self.closing:
            return self.write(line + b"\n")
        try:
            written = writev(self.fd, (line, b"\n"))
        except BlockingIOError:
            written = 0
        except OSError:
            self.close()
            return False
        self.size = len(line) + 1 - written
        if not self.size:
            return False
        self.waiting.extend((memoryview(line)[written:], b"\n") if written < len(line) else (b"\n",))
        return True

    def _queue(self, data: bytes) -> bool:
        if self.closed or self.closing:
            return False
        self.waiting.append(data)
        self.size += len(data)
        return True

    def flush(self) -> bool:
        """Write what waits; True while something still does."""
        while self.waiting:
            data = self.waiting[0]
            try:
                written = write_fd(self.fd, data)
            except BlockingIOError:
                return True
            except OSError:
                self.close()
                return False
            self.size -= written
            if written < len(data):
                self.waiting[0] = memoryview(data)[written:]
                return True
            self.waiting.popleft()
        if self.closing:
            self.close()
        return False

    def drain(self, patience_s: float) -> None:
        """Write what waits, for as long as the reader takes something before `patience_s` are over."""
        import select

        poll = select.poll()  # whose descriptors may have any number
        poll.register(self.fd, select.POLLOUT)
        while self.waiting:
            before = self.size
            poll.poll(patience_s * 1000)
            self.flush()
            if self.size == before:
                return

    def close(self) -> None:
        """Close at once; what waits is lost. Standard streams stay open."""
        if not self.closed:
            self.closed = True
            self.waiting.clear()
            self.size = 0
            if self.fd > 2:
                close_fd(self.fd)

    def finish(self) -> None:
        """Close when everything is written."""
        if self.waiting:
            self.closing = True
        else:
            self.close()
