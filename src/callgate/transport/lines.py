"""Newline framing with a byte limit: the stdio transport's only syntax.

Pure: chunks in, lines out. Memory is bounded by the limit plus one chunk, whatever the peer writes.
"""

from __future__ import annotations


class LineFramer:
    """Cuts a byte stream into lines of at most `limit` bytes.

    A longer line is dropped: `feed` yields None for it once, as soon as the limit is passed, and
    `skipping` counts the bytes thrown away until its newline comes.
    """

    __slots__ = ("_parts", "_size", "limit", "skipping")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipping = 0
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The lines that `chunk` completes, without their newline; None stands for an over-long one."""
        first = chunk.find(b"\n")
        if first < 0:
            return self._hold(chunk)
        lines: list[bytes | None] = []
        start = 0
        if self._size or self.skipping:
            lines.extend(self._complete(chunk[:first]))
            start = first + 1
        last = chunk.rfind(b"\n")
        if start <= last:
            if last - start <= self.limit:
                lines.extend(chunk[start:last].split(b"\n"))
            else:
                lines.extend(line if len(line) <= self.limit else None for line in chunk[start:last].split(b"\n"))
        if last + 1 < len(chunk):
            lines.extend(self._hold(chunk[last + 1 :]))
        return lines

    def rest(self) -> bytes:
        """What came after the last newline, once the stream has ended."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return rest

    def _hold(self, part: bytes) -> list[bytes | None]:
        if self.skipping:
            self.skipping += len(part)
            return []
        self._size += len(part)
        if self._size > self.limit:
            self.skipping = self._size
            self._parts.clear()
            self._size = 0
            return [None]
        self._parts.append(part)
        return []

    def _complete(self, tail: bytes) -> list[bytes | None]:
        if self.skipping:
            self.skipping = 0
            return []
        size = self._size + len(tail)
        self._parts.append(tail)
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return [line if size <= self.limit else None]
