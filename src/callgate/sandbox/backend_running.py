"""One started server as its backend sees it: the parts that watch it, behind one descriptor, closed once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from callgate.sandbox.backend import Running
    from callgate.sandbox.cgroup import ControlGroup
    from callgate.sandbox.egress.gate import EgressGate
    from callgate.sandbox.spec import Sentinel


class Together:
    """The egress gate and the watchdog as one `Running`; what was opened for the server is given back at `close`."""

    def __init__(
        self, parts: Sequence[Running], give_back: Sequence[Callable[[], None]] = (), group: ControlGroup | None = None
    ) -> None:
        self._group = group
        self._parts = {part.events_fd: part for part in parts if part.events_fd >= 0}
        self._silent = [part for part in parts if part.events_fd < 0]
        self._give_back = list(give_back)
        self._last: list[dict[str, object]] = []
        self._poll = None
        self.events_fd = -1
        if len(self._parts) == 1:
            self.events_fd = next(iter(self._parts))
        elif self._parts:
            import select

            self._poll = select.epoll()  # readable when one of those in it is
            for fd in self._parts:
                self._poll.register(fd, select.EPOLLIN)
            self.events_fd = self._poll.fileno()

    def read_events(self) -> list[dict[str, object]]:
        """What the parts and the control group have to tell. When one of several parts ends, that itself is told:
        empty means all have.
        """
        events: list[dict[str, object]] = self._group.read_events() if self._group else []
        if self._last:
            last, self._last = self._last, []
            return events + last
        if self._poll is None:
            return events + [event for part in self._parts.values() for event in part.read_events()]
        for fd, _ in self._poll.poll(0):
            found = self._parts[fd].read_events()
            if not found:
                self._poll.unregister(fd)
                self._silent.append(self._parts.pop(fd))
                if self._parts:
                    events.append({"kind": "watch", "state": "ended"})
                break  # one end a call: the last one must be told alone, by nothing
            events += found
        return events

    def replace_secrets(self, sentinels: Sequence[Sentinel]) -> None:
        for part in (*self._parts.values(), *self._silent):
            part.replace_secrets(sentinels)

    def close(self) -> None:
        parts, self._silent = [*self._parts.values(), *self._silent], []
        self._parts = {}
        for part in parts:
            part.close()
            self._last += part.read_events()  # what was still open is told at its end
        if self._poll is not None:
            self._poll.close()
            self._poll = None
        give_back, self._give_back = self._give_back, []
        for one in reversed(give_back):
            one()


class Gated:
    """A started server of which there is nothing to tell but what its egress gate says, where it has one."""

    def __init__(self, gate: EgressGate | None = None) -> None:
        self._gate = gate

    @property
    def events_fd(self) -> int:
        return self._gate.events_fd if self._gate is not None else -1

    def read_events(self) -> list[dict[str, object]]:
        return self._gate.read_events() if self._gate is not None else []

    def replace_secrets(self, sentinels: Sequence[Sentinel]) -> None:
        if self._gate is not None:
            self._gate.replace_secrets(sentinels)


class Opened:
    """Descriptors that live until the spawn: closed once, whichever way it ends."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(self._fds)

    def add(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def memory(self, content: bytes) -> int:
        """A file in memory with `content`, at its start."""
        fd = self.add(os.memfd_create("data"))
        done = 0
        while done < len(content):
            done += os.write(fd, content[done:])
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        return self.add(read), self.add(write)

    def close(self, keep: tuple[int, ...] = ()) -> None:
        fds, self._fds = self._fds, list(keep)
        for fd in fds:
            if fd not in keep:
                os.close(fd)
