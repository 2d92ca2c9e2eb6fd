"""The session table by itself."""

from __future__ import annotations

from typing import Any

from callgate.transport.http.sessions import ID_BYTES, IDLE_S, Session, SessionTable, session_label


class FakeChannel:
    def __init__(self) -> None:
        self.asked: dict[Any, Any] = {}
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_find_is_by_id_and_principal() -> None:
    table = SessionTable(4)
    channel: Any = FakeChannel()
    session = table.add(b"a", "alice", channel, 0.0)
    assert table.find(b"a", "alice", 1.0) is session
    assert table.find(b"a", "mallory", 1.0) is True
    assert table.find(b"b", "alice", 1.0) is False


def test_the_least_recently_used_idle_session_makes_room() -> None:
    table = SessionTable(3)
    channels: list[Any] = [FakeChannel() for _ in range(4)]
    for index, key in enumerate((b"a", b"b", b"c")):
        assert table.add(key, "p", channels[index], float(index))
    busy = table.find(b"a", "p", 3.0)
    assert isinstance(busy, Session)
    busy.busy = 1
    table.find(b"b", "p", 4.0)
    assert table.add(b"d", "p", channels[3], 5.0)
    assert table.find(b"c", "p", 5.0) is False
    assert channels[2].closed
    for session in table.sessions():
        session.busy = 1
    assert table.add(b"e", "p", channels[0], 6.0) is None


def test_idle_sessions_expire_and_busy_ones_do_not() -> None:
    table = SessionTable(10)
    one: Any = FakeChannel()
    two: Any = FakeChannel()
    first = table.add(b"a", "p", one, 0.0)
    table.add(b"b", "p", two, 0.0)
    assert first is not None
    first.busy = 1
    table.expire(IDLE_S + 1)
    assert len(table) == 2, "order is by use: the busy one is looked at first"
    first.busy = 0
    table.expire(IDLE_S + 1)
    assert len(table) == 0


def test_ids_are_bounded() -> None:
    channel: Any = FakeChannel()
    assert SessionTable(1).add(b"x" * (ID_BYTES + 1), "p", channel, 0.0) is None


def test_open_server_requests_are_bounded_and_taken_once() -> None:
    table = SessionTable(1)
    for start in range(0, 3000, 100):
        channel: Any = FakeChannel()
        channel.asked = dict.fromkeys(range(start, start + 100))
        table.ask("p", channel)
    assert table.asked("p", 0) is None
    assert table.asked("q", 2999) is None
    assert table.asked("p", 2999) is channel
    assert table.asked("p", 2999) is None


def test_labels_do_not_give_the_session_away() -> None:
    assert b"secret" not in session_label(b"secret-session").encode()
    assert session_label(b"a") != session_label(b"b")
