"""Limits that the kernel does not hold here: a small process watches, and ends the server that passes one.

What a control group or the user namespace holds is left out; where nothing is left to watch, there is no watchdog.
A look costs about 0.02 ms a process, once a second, in a process of its own; the message path is not touched.
"""

from __future__ import annotations

import fcntl
import os
import time

from callgate.sandbox import stub_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict

    from callgate.sandbox.cgroup import ControlGroup
    from callgate.sandbox.spec import SandboxSpec, Sentinel
else:
    TypedDict = dict

EVERY_MS = 1000
"""Between two looks. Disk is looked at every fifth time."""
_ORDER, _PIDFD, _EVENTS = 3, 4, 5
_ABOVE = 10
_LINE_BYTES = 4096
_MONOTONIC = 1
_END_S = 0.3
_NICE = "/usr/bin/nice"


class Watched(TypedDict):
    """What the watchdog's program is told, in types that marshal knows. Zero: not watched."""

    pid: int
    memory: int
    processes: int
    own_processes: int
    disk: int
    directories: list[str]
    every_ms: int
    alone: bool
    kills: str
    """The file in which the kernel counts what it ended in the control group; empty: there is none."""


class Watchdog:
    """The watching process as a `Running`. It is started at the first turn, when the server's own start is over:
    `events_fd` becomes readable then, and `read_events` starts it. `close` ends it.
    """

    def __init__(self, watched: Watched, group: ControlGroup | None = None) -> None:
        import select

        self._watched = watched
        self._group = group
        self._pid = 0
        self._events = -1
        self._pidfd = os.pidfd_open(watched["pid"])  # now: later the number may be another process'
        self._timer = _timer(watched["every_ms"])
        self._poll = select.epoll()
        self._poll.register(self._timer, select.EPOLLIN)

    @property
    def events_fd(self) -> int:
        return -1 if self._poll.closed else self._poll.fileno()

    def read_events(self) -> list[dict[str, object]]:
        """That it looks from now on, what the kernel ended in the control group, then the limit that was passed, once:
        `{"kind": "limit", "limit": NAME, "used": N, "allowed": N, "reason": TEXT}`; bytes, or a count.
        """
        if self._timer >= 0:
            return self._begin() if self._poll.poll(0) else []
        if self._events < 0:
            return []
        try:
            text = os.read(self._events, _LINE_BYTES).decode()
        except BlockingIOError:
            return []
        events: list[dict[str, object]] = []
        for line in text.splitlines():
            name, used, allowed = line.split()
            if name == "ended":  # the group tells it, unless somebody asked it just before
                told = self._group.read_events() if self._group else []
                events += told or [{"kind": "watch", "state": "told"}]
                continue
            reason = f"{name}: {used} used, {allowed} allowed"
            events.append(
                {"kind": "limit", "limit": name, "used": int(used), "allowed": int(allowed), "reason": reason}
            )
        return events

    def _begin(self) -> list[dict[str, object]]:
        import select

        self._events, told = os.pipe()
        os.set_blocking(self._events, False)
        self._poll.register(self._events, select.EPOLLIN)
        os.close(self._timer)
        self._timer = -1
        self._start(told)
        return [{"kind": "watch", "state": "started"}]

    def _start(self, told: int) -> None:
        # With less weight than the server and the gate have.
        weight = [_NICE, "-n", "10"] if os.access(_NICE, os.X_OK) else []
        command = [*weight, *stub_start.command(_ORDER)]
        opened = [told]
        try:
            opened.append(stub_start.program_file(dict(self._watched), "watchdog_process"))
            # The three get fixed numbers in the child: taken from above those, they cannot run into each other.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in (opened[1], self._pidfd, told)]
            opened += high
            self._pid = os.posix_spawn(
                command[0],
                command,
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 1),
                    (os.POSIX_SPAWN_DUP2, 0, 2),
                    (os.POSIX_SPAWN_DUP2, high[0], _ORDER),
                    (os.POSIX_SPAWN_DUP2, high[1], _PIDFD),
                    (os.POSIX_SPAWN_DUP2, high[2], _EVENTS),
                ],
                setpgroup=0,
            )
        finally:
            for fd in opened:
                os.close(fd)

    def replace_secrets(self, sentinels: Sequence[Sentinel]) -> None:
        """Nothing to do with secrets."""

    def close(self) -> None:
        """Its pipe breaks, and it ends by itself after what it has to do; a moment later it is killed."""
        if not self._poll.closed:
            self._poll.close()
        fds, self._events, self._timer, self._pidfd = (self._events, self._timer, self._pidfd), -1, -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
        pid, self._pid = self._pid, 0
        if not pid:
            return
        until = time.monotonic() + _END_S
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > until:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                return
            time.sleep(0.002)


def _timer(milliseconds: int) -> int:
    """A descriptor that becomes readable after a time (timerfd_create(2); Python has it from 3.13 on)."""
    import sys

    from callgate.sandbox.stub import _call, _function

    fd = _call(_function("timerfd_create"), "timerfd", _MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
    seconds, rest = divmod(milliseconds, 1000)
    once = b"".join(one.to_bytes(8, sys.byteorder) for one in (0, 0, seconds, rest * 1_000_000))
    _call(_function("timerfd_settime"), "timerfd", fd, 0, once, None)
    return fd


def watch(
    pid: int,
    spec: SandboxSpec,
    group: ControlGroup | None,
    *,
    alone: bool = False,
    directories: Sequence[str] = (),
    every_ms: int = EVERY_MS,
) -> Watchdog | None:
    """Watch what neither `group` nor the sandbox itself holds; None where that is nothing.

    `alone`: there is no process and no user namespace. `directories` count for the disk beside the spec's home.
    """
    held = group.held if group else frozenset()
    counted = "processes" in held or (not alone and os.getuid() != 0)
    kept = [path for path in (spec.home, *directories) if path]
    watched = Watched(
        pid=pid,
        memory=0 if "memory" in held else spec.limits.memory_bytes,
        processes=0 if counted else spec.limits.processes,
        own_processes=0 if alone else 2,
        disk=spec.limits.disk_bytes if kept else 0,
        directories=kept,
        every_ms=every_ms,
        alone=alone,
        kills=group.kill_count if group and "memory" in held else "",
    )
    if not (watched["memory"] or watched["processes"] or watched["disk"]):
        return None
    return Watchdog(watched, group)
