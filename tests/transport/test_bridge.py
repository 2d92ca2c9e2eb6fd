"""One conversation between a face and a server."""

from __future__ import annotations

from typing import Any, cast

from callgate.transport.bridge import Link, Upstream
from tests.gate.fakes import gate_of

NEWS = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'


class Server:
    """What is asked of it; and what its face is told."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.told: list[bytes] = []

    def resume(self) -> None:
        self.asked.append("resume")

    def stop(self, grace_s: float) -> None:
        self.asked.append(grace_s)

    def message(self, data: bytes, about: Any) -> None:
        self.told.append(data)


def test_what_a_server_says_once_its_session_is_over_is_decided_for_nobody() -> None:
    gate, journal = gate_of()
    server = Server()
    channel = gate.channel(server="s", principal="p")
    link = Link(channel, cast("Any", server), lambda events: cast("Upstream", server))
    try:
        link.line(NEWS)
        assert len(journal.decisions) == len(server.told) == 1
        link.end(2.0)
        assert server.asked == ["resume", 2.0]  # it is read on, so that it can write its last and end
        for _ in range(1000):
            link.line(NEWS)
        link.line(b"garbage")
        link.too_long([b'{"jsonrpc":"2.0","id":1'], endless=True)
        assert len(journal.decisions) == len(server.told) == 1
    finally:
        gate.close()
