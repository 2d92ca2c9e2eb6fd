"""Events with ids, and what is kept of them for a client that comes back."""

import pytest

from callgate.transport.event_stream import LOG_BYTES, LOG_EVENTS, EventLog, EventStream, parse_event_id
from callgate.transport.http.exchange import Exchange
from tests.transport.exchanges import Answer


def exchange(answer: Answer) -> Exchange:
    return Exchange(answer, b"GET", "/x/mcp", "", [], b"", "p", "x")


def test_a_stream_goes_on_over_another_connection() -> None:
    log = EventLog()
    stream = EventStream(3, log)
    first, second = Answer(), Answer()
    stream.attach(exchange(first), [])
    stream.send(b"{1}")
    assert first.data == b"id: 3-1\nevent: message\ndata: {1}\n\n"
    stream.exchange = None
    stream.send(b"{2}")
    stream.send(b"{3}")
    stream.attach(exchange(second), [], log.after(3, 1))
    stream.finish()
    assert second.event_ids == ["3-2", "3-3"]
    assert second.done


def test_a_finished_stream_is_replayed_and_closed() -> None:
    log = EventLog()
    stream = EventStream(1, log)
    stream.send(b"{}")
    stream.finish()
    answer = Answer()
    stream.attach(exchange(answer), [], log.after(1, 0))
    assert (answer.event_ids, answer.done) == (["1-1"], True)


def test_what_is_kept_is_bounded_and_gaps_are_known() -> None:
    log = EventLog()
    for number in range(1, LOG_EVENTS + 11):
        log.add(1, number, b"e")
    assert log.after(1, 9) is None
    assert len(log.after(1, 10) or []) == LOG_EVENTS
    log.add(2, 1, b"x" * (LOG_BYTES + 1))
    assert log.after(2, 0) is None
    assert log._bytes == 0


def test_a_stream_without_a_log_has_no_ids_and_keep_alives_are_comments() -> None:
    answer = Answer()
    stream = EventStream(0, None)
    stream.keep_alive()  # nobody is there
    stream.attach(exchange(answer), [])
    stream.keep_alive()
    stream.send(b"{}")
    assert answer.data == b":\n\nevent: message\ndata: {}\n\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [(b"1-2", (1, 2)), (b"10-0", (10, 0)), (b"", None), (b"-", None), (b"1-", None), (b"1-2-3", None), (b"a-1", None),
     (b"-1-2", None), ("١-٢".encode(), None), (b"1" * 100 + b"-1", None)],
)  # fmt: skip
def test_event_ids(text: bytes, place: tuple[int, int] | None) -> None:
    assert parse_event_id(text) == place
