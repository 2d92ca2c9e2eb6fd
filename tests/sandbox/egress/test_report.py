"""A flood of connections does not become a flood of evidence."""

from __future__ import annotations

import json
import socket

from callgate.sandbox.egress.report import BURST, PER_SECOND, Report, Visit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def waiting(peer: socket.socket) -> bytes:
    peer.setblocking(False)
    data = b""
    try:
        while part := peer.recv(1 << 20):
            data += part
    except BlockingIOError:
        pass
    return data


def lines(peer: socket.socket) -> list[dict]:
    return [json.loads(line) for line in waiting(peer).splitlines()]


def test_what_is_beyond_the_rate_is_counted():
    ours, theirs = socket.socketpair()
    clock = Clock()
    with ours, theirs:
        report = Report(ours, clock)
        for _ in range(BURST + 500):
            report.tell({"kind": "egress", "outcome": "refused"})
        assert len(lines(theirs)) == BURST
        report.flush()
        assert lines(theirs) == []
        clock.now += 1.0
        report.flush()
        assert lines(theirs) == [{"kind": "egress-suppressed", "of": "egress", "outcome": "refused", "count": 500}]
        for _ in range(PER_SECOND + 5):
            report.tell({"kind": "egress", "outcome": "allowed"})
        assert len(lines(theirs)) == PER_SECOND - 1
        report.flush(last=True)
        assert lines(theirs)[-1]["count"] == 6


def test_a_reader_who_does_not_read_costs_bounded_memory():
    ours, theirs = socket.socketpair()
    clock = Clock()
    with ours, theirs:
        report = Report(ours, clock)
        for _ in range(20_000):
            clock.now += 1.0
            report.tell({"kind": "egress", "outcome": "refused", "reason": "x" * 253})
        assert len(report._waiting) < 300 * 1024
        data = waiting(theirs)
        while report._waiting:
            report.flush()
            data += waiting(theirs)
        clock.now += 1.0
        report.flush()
        data += waiting(theirs)
        got = [json.loads(line) for line in data.splitlines()]
        suppressed = sum(event["count"] for event in got if event["kind"] == "egress-suppressed")
        assert suppressed + sum(event["kind"] == "egress" for event in got) == 20_000


def test_a_reader_who_has_gone_is_no_error():
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        Report(ours).tell({"kind": "egress"})


def test_texts_are_shown_escaped_and_cut():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Report(ours).tell({"kind": "egress", "host": "\x1b[31m" + "x" * 5000})
        host = lines(theirs)[0]["host"]
        assert "\x1b" not in host
        assert len(host) < 400


def test_outcomes():
    visit = Visit("a.test", 443, reason="no")
    assert visit.event()["outcome"] == "refused"
    visit.failed = True
    assert visit.event()["outcome"] == "failed"
    reached = Visit("a.test", 443, reason="idle for too long", reached=True)
    assert reached.event()["outcome"] == "allowed"
    assert "reason" not in Visit("a.test", 443, reached=True).event()
