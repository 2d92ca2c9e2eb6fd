"""One direction of a stdio relay: read what is there, decide line by line, write."""

from __future__ import annotations

from collections.abc import Callable
from os import read as read_fd
from typing import TYPE_CHECKING

from callgate.errors import LimitExceeded
from callgate.protocol.message import Direction
from callgate.transport.lines import LineFramer
from callgate.transport.sink import Sink

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.gate.outcome import Outcome

READ_BYTES = 64 * 1024
"""Small reads stay clear of mmap-sized allocations, which cost more than the bytes they bring."""
_LONG_READ_BYTES = 128 * 1024
"""Read at once while a long line is under way; larger reads cost more in page faults than they save in calls."""


REFUSED_IN_A_ROW = 1000
"""So many lines of a server in a row that are not MCP, and it is stopped: each costs a record of evidence."""


class Lane:
    """From `source` through the gate to `onward`; refusals go to `back`.

    `blocked(sink, lane)` is called when a sink did not take everything, so that the relay can hold the
    lane until it does.
    """

    __slots__ = (
        "_back",
        "_between",
        "_blocked",
        "_channel",
        "_decide",
        "_direction",
        "_framer",
        "_onward",
        "read_bytes",
        "refused",
        "source",
    )

    def __init__(
        self,
        channel: Channel,
        direction: Direction,
        source: int,
        onward: Sink,
        back: Sink,
        blocked: Callable[[Sink, Lane], None],
    ) -> None:
        limits = channel.limits
        client = direction is Direction.CLIENT
        self.source = source
        self.refused = 0
        """Lines in a row of which nothing went on."""
        self._channel = channel
        self._direction = direction
        self._decide = channel.client if client else channel.server
        self._framer = LineFramer(limits.request_bytes if client else limits.response_bytes)
        self.read_bytes = min(READ_BYTES, self._framer.limit)
        """Read at once between lines: no whole line of so many bytes is too long."""
        self._between = True
        """Whether the next byte starts a line."""
        self._onward = onward
        self._back = back
        self._blocked = blocked

    def read(self) -> bool:
        """Relay what one read brings; False at the end of the stream, and when it brings nothing but refusals."""
        try:
            chunk = read_fd(self.source, self.read_bytes if self._between else _LONG_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(chunk) and self.received(chunk)

    @property
    def onward_fd(self) -> int:
        """Where lines go that may pass."""
        return self._onward.fd

    @property
    def free(self) -> bool:
        """Whether the next byte starts a line, and nothing waits to be written before it."""
        onward = self._onward
        return self._between and not (onward.waiting or onward.closed or onward.closing)

    def unwritten(self, rest: bytes | None) -> None:
        """`rest` was decided, and the sink did not take it; None: nobody reads there any more."""
        if rest is None:
            self._onward.close()
        elif self._onward.write(rest):
            self._blocked(self._onward, self)

    def received(self, chunk: bytes) -> bool:
        """Relay what was read; see `read`."""
        if self._between and (end := chunk.find(b"\n")) == len(chunk) - 1 and end > 1:
            # One whole line, as nearly always between a client that waits and a server that answers.
            result = self._decide(chunk[:end])
            if type(result) is bytes:
                self.refused = 0
                onward = self._onward
                if onward.write(result + b"\n"):
                    self._blocked(onward, self)
                return True
            self._carry_out(result)  # type: ignore[arg-type]  # not bytes, so an Outcome
            return not self.given_up
        framer = self._framer
        lines = framer.feed(chunk)
        self._between = framer.empty
        self._relay(lines)
        if edges := framer.take_edges():
            self._tell_callers(edges)
        return not self.given_up

    @property
    def given_up(self) -> bool:
        """Whether a server wrote so much that is not MCP that it is listened to no longer."""
        return self.refused > REFUSED_IN_A_ROW and self._direction is Direction.SERVER

    def end(self) -> bool:
        """Relay an unfinished last line of a client; True when a server ended in the middle of one."""
        rest = self._framer.rest()
        if rest and self._direction is Direction.CLIENT:
            self._relay([rest])
            return False
        return bool(rest)

    def _relay(self, lines: list[bytes | None]) -> None:
        if len(lines) == 1 and lines[0]:
            result = self._decide(lines[0])
            if type(result) is not bytes:
                self._carry_out(result)  # type: ignore[arg-type]  # not bytes, so an Outcome
            else:
                self.refused = 0
                if self._onward.write_line(result):
                    self._blocked(self._onward, self)
            return
        out: list[bytes] = []
        for line in lines:
            if line is None:
                result = self._channel.refuse(_too_long(self._direction), self._direction)
            elif not line or line == b"\r":
                continue
            else:
                result = self._decide(line)
            if type(result) is bytes:
                self.refused = 0
                out.append(result)
                continue
            if out:
                self._send(self._onward, out)
                out = []
            self._carry_out(result)  # type: ignore[arg-type]  # not bytes, so an Outcome
        if out:
            self._send(self._onward, out)

    def _carry_out(self, outcome: Outcome) -> None:
        if outcome.forward is None:
            self.refused += 1
        else:
            self.refused = 0
            self._send(self._onward, [outcome.forward])
        if outcome.reply is not None:
            self._send(self._back, [outcome.reply])

    def _tell_callers(self, edges: list[bytes]) -> None:
        """A client that waits for an answer that was too long learns of it; a client's own refusal went out already."""
        if self._direction is Direction.SERVER and (errors := self._channel.answer_too_long(edges)):
            self._send(self._onward, errors)

    def _send(self, sink: Sink, lines: list[bytes]) -> None:
        lines.append(b"")
        if sink.write(b"\n".join(lines)):
            self._blocked(sink, self)


def _too_long(direction: Direction) -> LimitExceeded:
    name = "request_bytes" if direction is Direction.CLIENT else "response_bytes"
    return LimitExceeded(
        f"limit-{name.replace('_', '-')}",
        f"a line longer than limits.{name}",
        next_step=f"send less, or raise limits.{name}",
    )
