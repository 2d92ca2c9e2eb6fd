"""Server-sent events for a relay: whole events with their bytes, from chunks cut anywhere.

The WHATWG rules (HTML, section 9.2.6): lines end in LF, CR or CRLF, an empty line ends an event, one byte
order mark may open the stream. Unlike a browser the parser also hands on what a browser drops: comments
(keep-alives), events with an id but no data (the priming events of 2025-11-25), unknown fields.
"""

from __future__ import annotations

from collections.abc import Iterable

from callgate.errors import LimitExceeded

_BOM = b"\xef\xbb\xbf"
_MAX_LINES = 100_000
"""Lines of one event. A message needs one; pretty-printed JSON some thousands."""

_SEPARATORS = (b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
_COMMON_PREFIXES = (b"event: message\r\n", b"event: message\n")


class SseEvent:
    """One event, or a block of comments.

    `raw` is the event as it came, with the empty line that ends it, but safe to be sent to any reader: see `_tame`.
    `data` is the data lines joined by LF, None when there was none (empty data is b"": a browser ignores both, a
    resuming client does not). `event` and `id` are None when not given, `id` also when it holds NUL; `retry` is
    in milliseconds.
    """

    __slots__ = ("_offset", "data", "event", "id", "raw", "retry")

    def __init__(
        self,
        raw: bytes,
        data: bytes | None,
        event: bytes | None = None,
        id: bytes | None = None,
        retry: int | None = None,
        offset: int = -1,
    ) -> None:
        self.raw = raw
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry
        self._offset = offset

    def with_data(self, data: bytes) -> bytes:
        """The event with other data, everything else as it came.

        Returns `raw` itself when the data is the same; line breaks in `data` become further data lines.
        """
        if data == self.data:
            return self.raw
        raw, at = self.raw, self._offset
        in_place = at >= 0 and self.data is not None and b"\n" not in data and b"\r" not in data
        if in_place and (raw[at - 1 : at] == b" " or not data.startswith(b" ")):
            return raw[:at] + data + raw[at + len(self.data or b"") :]
        kept: list[bytes] = []
        where: int | None = None
        for line in raw.splitlines():
            if line == b"data" or line.startswith(b"data:"):
                where = len(kept) if where is None else where
            elif line:
                kept.append(line)
        where = len(kept) if where is None else where
        kept[where:where] = _data_lines(data)
        return _tame(b"\n".join(kept) + b"\n\n")

    def __repr__(self) -> str:
        size = "none" if self.data is None else f"{len(self.data)} B"
        return f"<SseEvent event={self.event!r} id={self.id!r} data={size}>"


class SseParser:
    """Feed bytes, get events. Holds at most `max_event_bytes` and one chunk.

    After LimitExceeded the parser is of no more use: close the stream.
    """

    __slots__ = ("_buffer", "_limit", "_scanned", "_skip_lf", "_start")

    def __init__(self, max_event_bytes: int = 32 * 1024 * 1024) -> None:
        self._limit = max_event_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._start = True
        self._skip_lf = False

    @property
    def pending(self) -> int:
        """Bytes of an event that has not ended; at the end of a stream they are to be discarded."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that end in `chunk`. Raises LimitExceeded for one that is too large."""
        if self._start or self._skip_lf:
            chunk = self._open(chunk)
        if not chunk:
            return []
        if not self._buffer:
            if len(chunk) <= self._limit:
                event = _single(chunk)
                if event is not None:
                    return [event]
            events, rest = self._cut(chunk, 0)
            if rest < len(chunk):
                self._keep(memoryview(chunk)[rest:])
            return events
        self._keep(chunk)
        buffer = self._buffer
        if _Ends(buffer, self._scanned).next(0)[1] < 0:
            # Only the last byte can still be the first half of an end.
            self._scanned = len(buffer) - 1
            return []
        whole = bytes(buffer)
        buffer.clear()
        events, rest = self._cut(whole, self._scanned)
        self._scanned = 0
        if rest < len(whole):
            self._keep(memoryview(whole)[rest:])
        return events

    def _open(self, chunk: bytes) -> bytes:
        """Drop the byte order mark of a stream, and the LF of a CRLF whose CR ended the last chunk."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if self._start and chunk:
            seen = bytes(self._buffer) + chunk
            self._buffer.clear()
            if len(seen) < 3 and _BOM.startswith(seen):
                self._buffer += seen
                return b""
            self._start = False
            chunk = seen.removeprefix(_BOM)
        return chunk

    def _keep(self, rest: bytes | memoryview) -> None:
        self._buffer += rest
        # A chunk may end several events; only what has no end counts.
        if len(self._buffer) > self._limit and _Ends(self._buffer, self._scanned).next(0)[1] < 0:
            raise self._too_large()

    def _cut(self, data: bytes, scanned: int) -> tuple[list[SseEvent], int]:
        """All whole events of `data`, and where the rest starts. No empty line ends before `scanned`."""
        events: list[SseEvent] = []
        ends = _Ends(data, scanned)
        start = 0
        while True:
            stop, after = ends.next(start)
            if after < 0:
                return events, start
            if after - start > self._limit:
                raise self._too_large()
            events.append(_parse(data[start:after], stop - start))
            start = after
            if start == len(data):
                self._skip_lf = data.endswith(b"\r")
                return events, start

    def _too_large(self) -> LimitExceeded:
        return LimitExceeded(
            "limit-response-bytes",
            f"an event of the stream exceeds the limit of {self._limit} bytes",
            next_step="send less in one message, or raise limits.response_bytes",
        )


def encode_event(
    data: bytes | None, event: bytes | None = None, id: bytes | None = None, retry: int | None = None
) -> bytes:
    """One event. Raises ValueError for a line break in `event` or `id`, or NUL in `id`."""
    for value in (event, id):
        if value is not None and (b"\n" in value or b"\r" in value):
            raise ValueError("an event name or id cannot hold a line break")
    if id is not None and b"\0" in id:
        raise ValueError("an event id cannot hold NUL")
    lines: list[bytes] = []
    if event is not None:
        lines.append(b"event: " + event)
    if id is not None:
        lines.append(b"id: " + id)
    if retry is not None:
        lines.append(b"retry: %d" % retry)
    if data is not None:
        lines.extend(_data_lines(data))
    return b"\n".join(lines) + b"\n\n"


def _tame(raw: bytes) -> bytes:
    """An event in which nothing but its data lines can become data, wherever and by whomever it is read.

    A byte order mark that starts it gets an empty line before it: as the first of a stream it would vanish, and
    what follows it become a field. Characters at which some readers of lines end one (httpx-sse before
    0.4.2 splits as Python's str.splitlines does) become '?' in all lines but data, where JSON forbids or escapes them.
    """
    if any(separator in raw for separator in _SEPARATORS):
        lines = raw.splitlines(keepends=True)
        for index, line in enumerate(lines):
            if not line.startswith((b"data:", b"data\n", b"data\r")):
                for separator in _SEPARATORS:
                    line = line.replace(separator, b"?")  # noqa: PLW2901 - each replacement works on the last
                lines[index] = line
        raw = b"".join(lines)
    return b"\n" + raw if raw.startswith(_BOM) else raw


def _data_lines(data: bytes) -> Iterable[bytes]:
    if b"\n" not in data and b"\r" not in data:
        return (b"data: " + data,)
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [b"data: " + line for line in text.split(b"\n")]


class _Ends:
    """Finds the ends of events: two line ends in a row, LF LF, LF CR or CR CR (CR LF is one line end).

    Each pair is searched for once, so that no mix of line ends costs more than a few passes over the data.
    """

    __slots__ = ("_data", "_from", "_next", "_pairs")

    def __init__(self, data: bytes | bytearray, scanned: int = 0) -> None:
        self._data = data
        self._from = scanned
        self._pairs = (b"\n\n", b"\n\r", b"\r\r") if data.find(b"\r", scanned) >= 0 else (b"\n\n",)
        self._next = [-2] * len(self._pairs)

    def next(self, start: int) -> tuple[int, int]:
        """(where the next event's last line end starts, where the event after it starts), or (-1, -1)."""
        data = self._data
        start = max(start, self._from)
        stop = -1
        for index, pair in enumerate(self._pairs):
            at = self._next[index]
            if at != -1 and at < start:
                at = self._next[index] = data.find(pair, start)
            if at >= 0 and (stop < 0 or at < stop):
                stop = at
        if stop < 0:
            return -1, -1
        after = stop + 2
        if data[after - 1] == 13 and data[after : after + 1] == b"\n":
            after += 1
        return stop, after


def _single(chunk: bytes) -> SseEvent | None:
    """The event, when `chunk` is just one with one data line (nearly every chunk is); else None."""
    if chunk.endswith(b"\r\n\r\n"):
        stop, first, other = len(chunk) - 4, b"\r", b"\n"
    elif chunk.endswith(b"\n\n"):
        stop, first, other = len(chunk) - 2, b"\n", b"\r"
    else:
        return None
    event = None
    offset = 0
    for prefix in _COMMON_PREFIXES:
        if chunk.startswith(prefix):
            offset = len(prefix)
            event = b"message"
            break
    if not chunk.startswith(b"data: ", offset):
        return None
    offset += 6
    if chunk.find(first, offset) != stop or chunk.find(other, offset, stop) >= 0:
        return None
    return SseEvent(chunk, chunk[offset:stop], event, None, None, offset)


def _parse(raw: bytes, stop: int) -> SseEvent:
    """The event in `raw`, whose last line ends at `stop`."""
    if stop and raw[stop] == 10 and raw[stop - 1] == 13:
        stop -= 1
    offset = 0
    event = None
    for prefix in _COMMON_PREFIXES:
        if raw.startswith(prefix):
            offset = len(prefix)
            event = b"message"
            break
    if raw.startswith(b"data:", offset):
        offset += 6 if raw.startswith(b" ", offset + 5) else 5
        if raw.find(b"\n", offset, stop) < 0 and raw.find(b"\r", offset, stop) < 0:
            return SseEvent(raw, raw[offset:stop], event, None, None, offset)
    return _parse_lines(raw)


def _parse_lines(raw: bytes) -> SseEvent:
    """The event in `raw`, line by line."""
    if raw.count(b"\n") + raw.count(b"\r") > _MAX_LINES:
        raise LimitExceeded(
            "limit-sse-lines",
            f"an event of the stream has more than {_MAX_LINES} lines",
            next_step="send the message as one data line",
        )
    raw = _tame(raw)
    found = SseEvent(raw, None)
    data: list[bytes] = []
    for line in raw.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            found.event = value
        elif name == b"id":
            if b"\0" not in value:
                found.id = value
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            found.retry = int(value)
    if data:
        found.data = b"\n".join(data)
    return found
