from __future__ import annotations

import time

import pytest
from httpx2._sse import _SSEParser
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.errors import LimitExceeded
from callgate.protocol.sse import _SEPARATORS, SseEvent, SseParser, encode_event

MESSAGE = b'{"jsonrpc":"2.0","id":1,"result":{}}'


def parse(data, **options):
    return SseParser(**options).feed(data)


def said(events):
    return [(e.data, e.event, e.id, e.retry) for e in events]


def reference(stream):
    """The rules of the standard, line by line, keeping what a browser drops."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events, data, event, id_, retry = [], None, None, None, None
    for line in lines[:-1]:
        if not line:
            events.append((data, event, id_, retry))
            data = event = id_ = retry = None
            continue
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            data = value if data is None else data + b"\n" + value
        elif name == b"event":
            event = _tamed(value)
        elif name == b"id" and b"\0" not in value:
            id_ = _tamed(value)
        elif name == b"retry" and value and all(48 <= digit < 58 for digit in value):
            retry = int(value)
    return [event for event in events if event != (None, None, None, None)]


def _tamed(value):
    """What the relay makes of characters at which some readers of lines would end one (sse.py)."""
    for separator in (b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9"):
        value = value.replace(separator, b"?")
    return value


pieces = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"\n\n", b"data: x", b"data:y", b"data", b"data:", b"data:  z", b"datax: q", b"id: 7",
     b"id",
     b"id: a\0b", b"retry: 10", b"retry: x", b"retry:", b"event: message", b"event: message\n", b"event: message\r\n",
     b"event: ping", b": note", b":", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x85", b"\x0b\x0c", b'data: {"a":1}']
)  # fmt: skip
streams = st.lists(pieces, max_size=25).map(b"".join) | st.binary(max_size=60)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def chunks(stream, sizes):
    at = index = 0
    while at < len(stream):
        size = sizes[index % len(sizes)]
        yield stream[at : at + size]
        at += size
        index += 1


@given(streams)
@example(b"event: ping\xe2\x80\xa8\n\n")
@example(b"id: a\x0bb\ndata: x\xe2\x80\xa8y\n\n")
def test_events_are_those_of_the_standard(stream):
    events = parse(stream)
    assert [event for event in said(events) if event != (None, None, None, None)] == reference(stream)


@given(streams, cuts)
@example(b"data: x\r\rdata: y\r\n\r\n", [8])
@example(b"\xef\xbb\xbfdata: x\n\n", [1])
def test_any_chunking_yields_the_same_events(stream, sizes):
    whole, parser = SseParser(), SseParser()
    expected = whole.feed(stream)
    got = [event for chunk in chunks(stream, sizes) for event in parser.feed(chunk)]
    assert said(got) == said(expected)
    normal = [event.raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r") for event in got]
    assert normal == [event.raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r") for event in expected]


@given(streams)
def test_no_byte_is_lost(stream):
    parser = SseParser()
    events = parser.feed(stream)
    rest = stream.removeprefix(b"\xef\xbb\xbf")
    if not any(odd in rest for odd in (b"\xef\xbb\xbf", *_SEPARATORS)):
        assert b"".join(event.raw for event in events) + bytes(parser._buffer) == rest
    for event in events:  # each also stands for itself, as the first of another stream
        assert said(parse(event.raw)) in ([*said([SseEvent(b"", None)]), *said([event])], said([event]))


@given(st.text(max_size=60) | st.lists(pieces, max_size=25).map(lambda parts: b"".join(parts).decode(errors="replace")))
def test_the_sdk_reads_the_same_data(text):
    """httpx2, under the SDK's client, sees every event with data that we see, and no other."""
    text = text.removeprefix("\ufeff")
    # It waits for what follows a final CR; we do not.
    theirs = _SSEParser(None).decode(text + "\n" if text.endswith("\r") else text)
    expected = [event.data for event in theirs if event.data]
    assert [event.data.decode() for event in parse(text.encode()) if event.data] == expected


@given(streams, st.sampled_from([MESSAGE, b"", b"two\nlines", b"cr\rlf", b"a\r\nb\n", b" lead", b"\xc3\xbc"]))
@example(b"data:y\n\n", b" lead")
def test_an_event_with_other_data_keeps_the_rest(stream, data):
    for event in parse(stream):
        changed = parse(event.with_data(data))
        assert len(changed) == 1
        expected = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if event.data == data:
            assert event.with_data(data) is event.raw
        assert said(changed) == [(expected, event.event, event.id, event.retry)]
        comments = [line for line in event.raw.splitlines() if line.startswith(b":")]
        assert [line for line in changed[0].raw.splitlines() if line.startswith(b":")] == comments


plain = st.binary(max_size=20).map(lambda value: value.translate(None, b"\r\n\0\v\f\x1c\x1d\x1e"))


@given(
    data=st.none() | st.binary(max_size=40),
    event=st.none() | plain,
    id=st.none() | plain,
    retry=st.none() | st.integers(0, 10**9),
)
@example(data=None, event=None, id=b"\xc2\x85", retry=None)
def test_what_is_encoded_is_read_back(data, event, id, retry):
    encoded = encode_event(data, event, id, retry)
    expected = None if data is None else data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if (data, event, id, retry) != (None, None, None, None):
        assert said(parse(b"data: before\n\n" + encoded)) == [
            (b"before", None, None, None),
            (expected, event if event is None else _tamed(event), id if id is None else _tamed(id), retry),
        ]


@pytest.mark.parametrize(("event", "id"), [(b"a\nb", None), (b"a\rb", None), (None, b"1\n2"), (None, b"1\x002")])
def test_fields_cannot_be_smuggled(event, id):
    with pytest.raises(ValueError, match="cannot hold"):
        encode_event(b"x", event, id)


# -- examples --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + MESSAGE + b"\n\n",
        b"data:" + MESSAGE + b"\n\n",
        b"event: message\ndata: " + MESSAGE + b"\n\n",
        b"event: message\r\ndata: " + MESSAGE + b"\r\n\r\n",
        b"event: message\rdata: " + MESSAGE + b"\r\r",
        b"data: " + MESSAGE + b"\nevent: message\n\n",
        b"id: 4\nevent: message\ndata: " + MESSAGE + b"\n\n",
    ],
)
def test_the_usual_forms_of_a_message(stream):
    (event,) = parse(stream)
    assert event.raw == stream
    assert event.data == MESSAGE
    assert event.event in {None, b"message"}
    assert event.with_data(MESSAGE) is event.raw
    assert parse(event.with_data(b"{}"))[0].data == b"{}"


def test_priming_keep_alive_and_endpoint_events():
    events = parse(b"id: 0\nretry: 500\ndata:\n\n: ping\r\n\r\nevent: endpoint\ndata: /messages?s=1\n\nid: 9\n\n")
    assert said(events) == [
        (b"", None, b"0", 500), (None, None, None, None), (b"/messages?s=1", b"endpoint", None, None),
        (None, None, b"9", None),
    ]  # fmt: skip
    assert events[1].raw == b": ping\r\n\r\n"


def test_only_the_first_byte_order_mark_is_one():
    assert parse(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n")[0].data == b"a"
    assert parse(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n")[1].data is None


def test_a_later_mark_cannot_become_the_first():
    """Were the event before it refused, its mark would open the client's stream and vanish."""
    _, event = parse(b"data: refused\n\n\xef\xbb\xbfdata: smuggled\n\n")
    for sent in (event.raw, event.with_data(b"other")):
        assert b"smuggled" not in b"".join(seen.data or b"" for seen in parse(sent))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
@pytest.mark.parametrize("line", [": note", "id: 1", "event: ping", "unknown: x", "da"])
def test_readers_that_split_lines_elsewhere_find_no_data_in_other_lines(separator, line):
    stream = f"{line}{separator}data: smuggled{separator}{separator}\ndata: seen\n\n".encode()
    (event,) = parse(stream)
    assert event.data == b"seen"
    for sent in (event.raw, event.with_data(b"seen"), event.with_data(b"other")):
        found = [text for text in sent.decode().splitlines() if text.startswith("data")]
        assert found in (["data: seen"], ["data: other"])
    (event,) = parse(f"{line}{separator}data: smuggled{separator}{separator}\n\n".encode())
    assert event.data is None
    assert not [text for text in event.raw.decode().splitlines() if text.startswith("data")]


def test_line_separators_of_unicode_do_not_end_a_line():
    text = "data: a\u2028b\u2029c\x85d\x0be\n\n".encode()
    assert parse(text)[0].data == "a\u2028b\u2029c\x85d\x0be".encode()


def test_an_event_is_handed_on_at_its_last_byte():
    parser = SseParser()
    assert parser.feed(b"data: x\r\n\r") != []
    assert parser.feed(b"\n") == []
    assert said(parser.feed(b"data: y\r\r")) == [(b"y", None, None, None)]
    assert said(parser.feed(b"\ndata: z\n\n")) == [(b"z", None, None, None)]


def test_an_unfinished_event_is_pending():
    parser = SseParser()
    assert parser.feed(b"data: x\n") == []
    assert parser.pending == 8
    parser.feed(b"\n")
    assert parser.pending == 0


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_an_event_past_the_limit_is_refused_however_it_comes(size):
    stream = b"data: " + b"x" * 200 + b"\n\n"
    parser = SseParser(max_event_bytes=len(stream) - 1)
    with pytest.raises(LimitExceeded) as caught:
        for chunk in chunks(stream, [size]):
            assert parser.feed(chunk) == []
    assert caught.value.rule == "limit-response-bytes"
    exact = SseParser(max_event_bytes=len(stream))
    assert sum(len(exact.feed(chunk)) for chunk in chunks(stream * 3, [size])) == 3


def test_memory_is_bounded_without_an_end():
    parser = SseParser(max_event_bytes=1000)
    with pytest.raises(LimitExceeded):
        for _ in range(1000):
            parser.feed(b"x" * 100)
            assert parser.pending <= 1100


def test_a_chunk_of_many_events_may_exceed_the_limit_of_one():
    parser = SseParser(max_event_bytes=20)
    assert parser.feed(b"data: x\n\n" * 100 + b"dat") != []
    assert len(parser.feed(b"a: y\n\n" + b"data: x\n\n" * 100)) == 101


def test_lines_are_limited():
    with pytest.raises(LimitExceeded) as caught:
        parse(b"data\n" * 100_001 + b"\n")
    assert caught.value.rule == "limit-sse-lines"
    assert parse(b"data: a\n" * 1000 + b"\n")[0].data == b"\n".join([b"a"] * 1000)


@pytest.mark.parametrize("piece", [b"\n\n", b"\r\r", b"\r\n\r\n", b"data\r", b"\n\r\n", b"x\n"])
def test_no_mix_of_line_ends_is_quadratic(piece):
    parser = SseParser()
    stream = piece * 40_000 + b"\r" + b"\n\n" * 40_000
    started = time.process_time()
    assert parser.feed(stream)
    assert time.process_time() - started < 5  # quadratic work would take minutes


def test_a_large_event_in_small_chunks_is_linear():
    parser = SseParser()
    stream = b"data: " + b"x" * (8 << 20) + b"\n\n"
    (event,) = [event for chunk in chunks(stream, [65536]) for event in parser.feed(chunk)]
    assert len(event.data) == 8 << 20


def test_an_event_shows_itself_briefly():
    assert repr(SseEvent(b"", b"abc", b"message", b"1")) == "<SseEvent event=b'message' id=b'1' data=3 B>"
    assert repr(SseEvent(b": x\n\n", None)) == "<SseEvent event=None id=None data=none>"
