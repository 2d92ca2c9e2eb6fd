"""A child MCP server on stdio, for the asyncio faces of the gateway.

Own readiness callbacks over raw non-blocking pipes, 64 KiB reads: asyncio's pipe transports read with a
256 KiB buffer, which costs an mmap and munmap a read. The child gets its own session and process group,
and the whole group is gone when `ServerProcess` says it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from callgate.errors import LaunchError
from callgate.transport.lines import LineFramer
from callgate.transport.reaper import reaper
from callgate.transport.signals import signal_server
from callgate.transport.stderr_relay import StderrRelay

if TYPE_CHECKING:
    from callgate.vault.redaction import StreamRedactor

READ_BYTES = 65536
PIPE_BYTES = 1 << 20
HIGH_WATER = 1 << 20
"""Bytes waiting for the child's stdin above which `send` says False."""
GROUP_GRACE_S = 0.5
"""How long the rest of a group has between SIGTERM and SIGKILL once its leader is gone."""
QUIET_S = 0.02
"""The same where nobody holds stdout and stderr any more."""
LINGER_S = 2.0
"""How long stdout may stay open after the leader is gone."""

INHERITED = frozenset(
    ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
)
"""What a server sees of the gateway's own environment; everything else must be configured. The gateway's
environment may hold credentials of other servers."""


class ProcessEvents(Protocol):
    """What the owner of a process is told, always on the event loop."""

    def line(self, data: bytes) -> None:
        """One line of stdout, without its newline."""

    def too_long(self, edges: list[bytes], *, endless: bool) -> None:
        """Lines passed the limit and were dropped; `endless`: the process is being stopped for it.

        `edges`: their first and last bytes, each when it became known; the id often stands there.
        """

    def drained(self) -> None:
        """After `send` said False: what was waiting has been written."""

    def exited(self, how: str) -> None:
        """Once, after the last line. `how` completes "the server ...": "exited with code 1"."""


def server_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server that the gateway starts: a few harmless variables and `extra`."""
    environment = {name: value for name, value in os.environ.items() if name in INHERITED}
    environment.update(extra)
    return environment


def describe_exit(code: int) -> str:
    """A return code of `subprocess` in words: negative is a signal."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def spawn(
    command: Sequence[str], environment: Mapping[str, str], cwd: str = "", pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `command` (never through a shell) in its own session. Raises LaunchError."""
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=cwd or None,
            bufsize=0,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise launch_error(error, command[0], cwd) from error


def launch_error(error: Exception, program: str, cwd: str) -> LaunchError:
    """Why a program did not start, and what to do."""
    number = getattr(error, "errno", None)
    if cwd and getattr(error, "filename", None) == cwd:
        return LaunchError(f"cannot start {program!r}: its directory {cwd!r} cannot be entered", next_step="check cwd")
    if number == errno.ENOENT:
        return LaunchError(
            f"cannot start {program!r}: no such program", next_step="install it, or write its full path in command"
        )
    if number == errno.EACCES:
        return LaunchError(f"cannot start {program!r}: not executable", next_step="check the file's permissions")
    if number == errno.ENOEXEC:
        return LaunchError(
            f"cannot start {program!r}: not a program", next_step="name its interpreter first in command"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return LaunchError(f"cannot start {program!r}: {reason}", next_step="check command, cwd and environment")


class ServerProcess:
    """A running server. Must be made on the event loop's thread; starts reading at once.

    `limit` is the largest line in bytes; a line of four times that without an end stops the server.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: str,
        limit: int,
        events: ProcessEvents,
        *,
        pass_fds: Sequence[int] = (),
        confined: bool = False,
        redactor: StreamRedactor | None = None,
    ) -> None:
        child = spawn(command, environment, cwd, pass_fds)
        self.name = name
        self.pid = child.pid
        self.closed: asyncio.Future[int] = loop.create_future()
        """Resolves to the return code when the whole group is gone."""
        self.queued = 0
        """Bytes waiting for the child's stdin."""
        self._loop = loop
        self._child = child
        self._events = events
        self._framer = LineFramer(limit)
        self._stderr = StderrRelay(name)
        self._redactor = redactor
        self._confined = confined
        self._waiting: deque[memoryview] = deque()
        self._held = False
        self._paused = False
        self._leader_gone = False
        self._told = False
        self._term_at = inf
        self._timers: list[asyncio.TimerHandle] = []
        taken: list[int] = []
        try:
            taken.extend(_take(pipe) for pipe in (child.stdin, child.stdout, child.stderr))
        except OSError:
            for fd in taken:
                os.close(fd)
            with child:  # closes its pipes, and waits
                child.kill()
            raise
        self._in, self._out, self._err = taken
        reaper().add(self.pid)
        loop.add_reader(self._out, self._readable)
        loop.add_reader(self._err, self._stderr_readable)
        self._pidfd = _pidfd(self.pid)
        if self._pidfd >= 0:
            loop.add_reader(self._pidfd, self._leader_ended)
        else:
            self._poll_leader()

    def hand_over(self, events: ProcessEvents) -> ServerProcess:
        """After `pause`, before anything was read: these are told from now on, its end as well if it has ended."""
        self._events = events
        self.resume()
        return self

    # -- to the server ---------------------------------------------------------------------------

    def send(self, line: bytes) -> bool:
        """Write one message and its newline. False: more than HIGH_WATER is waiting, hold back until `drained`.

        After the server's stdin is gone the message is dropped: `exited` follows.
        """
        if self._in < 0:
            return True
        data = memoryview(line + b"\n")
        if not self._waiting:
            written = self._write(data)
            if written == len(data) or self._in < 0:
                return True
            data = data[written:]
            self._loop.add_writer(self._in, self._writable)
        self._waiting.append(data)
        self.queued += len(data)
        self._held = self.queued > HIGH_WATER
        return not self._held

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._in, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.stop(0.0)
            return 0

    def _writable(self) -> None:
        while self._waiting:
            data = self._waiting[0]
            written = self._write(data)
            if self._in < 0:
                return
            self.queued -= written
            if written < len(data):
                self._waiting[0] = data[written:]
                break
            self._waiting.popleft()
        else:
            self._loop.remove_writer(self._in)
        if self._held and self.queued <= HIGH_WATER // 2:
            self._held = False
            self._events.drained()

    def _close_stdin(self) -> None:
        if self._in >= 0:
            if self._waiting:
                self._loop.remove_writer(self._in)
            os.close(self._in)
            self._in = -1
            self._waiting.clear()
            self.queued = 0

    # -- from the server -------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading stdout: the server blocks once its pipe is full."""
        if not self._paused:
            self._paused = True
            if self._out >= 0:
                self._loop.remove_reader(self._out)

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if self._out >= 0:
                self._loop.add_reader(self._out, self._readable)

    def _readable(self) -> None:
        try:
            chunk = os.read(self._out, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._end_of_output()
            return
        for line in self._framer.feed(chunk):
            if line and line != b"\r":
                self._events.line(line)
        edges = self._framer.take_edges()
        if edges:
            self._events.too_long(edges, endless=False)
        if self._framer.skipping > 4 * self._framer.limit and self._term_at == inf:
            self._events.too_long([], endless=True)
            self.stop(0.0)

    def _end_of_output(self) -> None:
        if self._out < 0:
            return
        if not self._paused:
            self._loop.remove_reader(self._out)
        os.close(self._out)
        self._out = -1
        rest = self._framer.rest()
        if rest.strip():
            self._events.line(rest)
        if self._leader_gone:
            self._tell_exit()
            self._settle()
        else:
            self.stop(0.2)  # no answer can come any more

    def _stderr_readable(self) -> None:
        try:
            chunk = os.read(self._err, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if chunk:
            self._stderr.feed(chunk if self._redactor is None else self._redactor.feed(chunk))
        else:
            self._close_stderr()

    def _close_stderr(self) -> None:
        if self._err >= 0:
            self._loop.remove_reader(self._err)
            os.close(self._err)
            self._err = -1
            if self._redactor is not None:
                self._stderr.feed(self._redactor.close())
            self._stderr.close()
            self._settle()

    # -- the end ---------------------------------------------------------------------------------

    def stop(self, grace_s: float) -> None:
        """Close stdin; SIGTERM to the group after `grace_s`; SIGKILL after as long again, at least 0.5 s.

        Called again, the shorter grace counts.
        """
        term_at = self._loop.time() + grace_s
        if term_at >= self._term_at or self.closed.done():
            return
        self._term_at = term_at
        self._close_stdin()
        if not self._leader_gone:
            self._later(grace_s, self._signal, signal.SIGTERM)
            self._later(grace_s + max(grace_s, GROUP_GRACE_S), self._signal, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to the group, now."""
        self._close_stdin()
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # The leader is not waited for before the group is gone, so its number cannot belong to others.
        if not self.closed.done():
            signal_server(self.pid, number, confined=self._confined)

    def _later(self, delay_s: float, call: object, *args: object) -> None:
        self._timers.append(self._loop.call_later(delay_s, call, *args))  # type: ignore[arg-type]

    def _poll_leader(self) -> None:
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self._leader_ended()
        else:
            self._loop.call_later(0.05, self._poll_leader)

    def _leader_ended(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._leader_gone = True
        self._close_stdin()
        for timer in self._timers:
            timer.cancel()
        self._signal(signal.SIGTERM)
        self._later(GROUP_GRACE_S, self._group_ended)
        if self._out < 0:
            self._tell_exit()
            self._settle()
        else:
            self._later(LINGER_S, self._give_up_output)

    def _give_up_output(self) -> None:
        # A paused reader still gets what is in the pipe once it resumes.
        if not self._paused:
            self._end_of_output()
        elif self._out >= 0:
            self._later(LINGER_S, self._give_up_output)

    def _settle(self) -> None:
        """With both pipes at their end there is hardly anybody left in the group to wait for."""
        if self._leader_gone and self._out < 0 and self._err < 0:
            self._later(QUIET_S, self._group_ended)

    def _group_ended(self) -> None:
        if self.closed.done():
            return
        self._signal(signal.SIGKILL)
        code = self._child.wait()
        reaper().remove(self.pid)
        self.closed.set_result(code)
        self._close_stderr()

    def _tell_exit(self) -> None:
        if self._told:
            return
        self._told = True
        self._events.exited(describe_exit(self._leader_code()))

    def _leader_code(self) -> int:
        """The leader's return code, without waiting for it: its zombie keeps the group's number taken."""
        if self.closed.done():
            return self.closed.result()
        status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if status is None:
            return 0
        return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def _take(pipe: object) -> int:
    """The pipe's descriptor, non-blocking and ours alone (`Popen` would close it behind the loop's back)."""
    fd = os.dup(pipe.fileno())  # type: ignore[attr-defined]
    pipe.close()  # type: ignore[attr-defined]
    os.set_blocking(fd, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # beyond the user's share the default size does as well
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return fd


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
