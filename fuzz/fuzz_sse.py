"""Any bytes, cut anywhere, into the SSE parser.

- Nothing but LimitExceeded comes out, and what is held never exceeds the limit by more than one chunk.
- Cut or whole, the same events come out, no byte is lost, and each stands for itself as first of a stream.
- An event given other data reads back with that data and everything else as it was.

The first byte of an input says how to cut the rest.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["callgate"]):
    from callgate.errors import LimitExceeded
    from callgate.protocol.sse import _SEPARATORS, SseEvent, SseParser

BOM = b"\xef\xbb\xbf"


def said(events: list[SseEvent]) -> list[tuple[object, ...]]:
    return [(event.data, event.event, event.id, event.retry) for event in events]


def feed(parser: SseParser, stream: bytes, size: int) -> list[SseEvent]:
    return [event for at in range(0, len(stream), size) for event in parser.feed(stream[at : at + size])]


def one_input(data: bytes) -> None:
    if not data:
        return
    size, stream = 1 + data[0] % 16, data[1:]
    whole, cut = SseParser(), SseParser()
    events, pieces = whole.feed(stream), feed(cut, stream, size)
    assert said(events) == said(pieces)
    rest = stream.removeprefix(BOM)
    if BOM not in rest and not any(separator in rest for separator in _SEPARATORS):
        assert b"".join(event.raw for event in events) + bytes(whole._buffer) == rest
    for event in events:
        other = b'{"a":"b"}' if data[0] & 1 else b"two\nlines"
        (changed,) = SseParser().feed(event.with_data(other))
        assert said([changed]) == [(other, event.event, event.id, event.retry)]
        assert said(SseParser().feed(event.raw))[-1:] == said([event])
    small = SseParser(max_event_bytes=32)
    try:
        for at in range(0, len(stream), size):
            for event in small.feed(stream[at : at + size]):
                assert len(event.raw.removeprefix(b"\n")) <= 32
            assert small.pending <= 32 + size
    except LimitExceeded:
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
