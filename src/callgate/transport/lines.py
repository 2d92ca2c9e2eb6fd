"""Newline framing with a byte limit: the stdio transport's only syntax.

Pure: chunks in, lines out. Memory is bounded by the limit plus one chunk, whatever the peer writes.
"""

from __future__ import annotations

from callgate.protocol.fragments import EDGE_BYTES


class LineFramer:
    """Cuts a byte stream into lines of at most `limit` bytes.

    A longer line is dropped: `feed` yields None for it once, as soon as the limit is passed, and
    `skipping` counts the bytes thrown away until its newline comes. The first and the last bytes of
    dropped lines wait in `take_edges`, because the id of the message often stands there.
    """

    __slots__ = ("_edges", "_parts", "_size", "_tail", "limit", "skipping")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipping = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._edges: list[bytes] = []
        self._tail = b""

    @property
    def empty(self) -> bool:
        """Whether the next byte starts a line."""
        return not self._size and not self.skipping

    def take_edges(self) -> list[bytes]:
        """First and last bytes of lines dropped since the last call, each when it became known."""
        edges, self._edges = self._edges, []
        return edges

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
                lines.extend(self._within(line) for line in chunk[start:last].split(b"\n"))
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
            self._tail = (self._tail + part[-EDGE_BYTES:])[-EDGE_BYTES:]
            return []
        self._size += len(part)
        if self._size > self.limit:
            self.skipping = self._size
            whole = b"".join([*self._parts, part])
            self._edges.append(whole[:EDGE_BYTES])
            self._tail = whole[-EDGE_BYTES:]
            self._parts.clear()
            self._size = 0
            return [None]
        self._parts.append(part)
        return []

    def _complete(self, tail: bytes) -> list[bytes | None]:
        if self.skipping:
            self.skipping = 0
            self._edges.append((self._tail + tail[-EDGE_BYTES:])[-EDGE_BYTES:])
            self._tail = b""
            return []
        self._parts.append(tail)
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return [self._within(line)]

    def _within(self, line: bytes) -> bytes | None:
        if len(line) <= self.limit:
            return line
        self._edges += (line[:EDGE_BYTES], line[-EDGE_BYTES:])
        return None


class CutLines:
    """Lines for people to read: one that is longer than `limit` is given at once, cut, and skipped to its end."""

    __slots__ = ("_limit", "_rest", "_skipping")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their ends; a cut one has more than `limit` bytes."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if self._skipping:
            rest = b""
        elif len(rest) > self._limit:
            lines.append(rest)
            self._skipping = True
            rest = b""
        self._rest = rest
        return lines

    def rest(self) -> bytes:
        """The unfinished last line."""
        rest, self._rest = self._rest, b""
        return rest
