"""The stdio relay: one thread, one poller, no coroutine. Lines in, decided lines out.

    client stdin  ──► Channel.client ──► server stdin
    client stdout ◄── Channel.server ◄── server stdout
    our stderr    ◄── visible()      ◄── server stderr

Back-pressure: a source is read only while the sink it feeds is below its high-water mark. A line past the
byte limit is skipped to its end without being kept. The relay ends when the server's output ends or the
server exits; what the client still waited for is answered with an error.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from callgate.errors import LimitExceeded
from callgate.protocol.message import Direction
from callgate.text import visible
from callgate.transport.lines import LineFramer

if TYPE_CHECKING:
    from callgate.audit import Journal
    from callgate.gate.channel import Channel
    from callgate.gate.outcome import Outcome
    from callgate.transport.launch import Child

READ_BYTES = 64 * 1024
"""Small reads stay clear of mmap-sized allocations, which cost more than the bytes they bring."""
HIGH_WATER = 4 * 1024 * 1024
"""A sink with more than this waiting stops its source."""
GRACE_S = 5.0
"""From end of input to SIGTERM, and from SIGTERM to SIGKILL."""
HANG_S = 60.0
"""A request without an answer for this long is reported, once."""
STDERR_LINE = 16 * 1024
_DRAIN_S = 0.5
_IN = 1  # POLLIN and EPOLLIN agree, as do POLLOUT and EPOLLOUT
_OUT = 4


class Sink:
    """A file descriptor written to without blocking; what it does not take waits."""

    __slots__ = ("closed", "closing", "fd", "size", "waiting")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waiting: list[bytes | memoryview] = []
        self.size = 0
        self.closing = False
        self.closed = False

    def write(self, data: bytes) -> bool:
        """Write now or queue; True when something waits. A broken pipe closes the sink."""
        if self.closed or self.closing:
            return False
        if self.waiting:
            self.waiting.append(data)
            self.size += len(data)
            return True
        try:
            written = os.write(self.fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.close()
            return False
        if written == len(data):
            return False
        self.waiting.append(memoryview(data)[written:])
        self.size = len(data) - written
        return True

    def flush(self) -> bool:
        """Write what waits; True while something still does."""
        while self.waiting:
            data = self.waiting[0]
            try:
                written = os.write(self.fd, data)
            except BlockingIOError:
                return True
            except OSError:
                self.close()
                return False
            self.size -= written
            if written < len(data):
                self.waiting[0] = memoryview(data)[written:]
                return True
            del self.waiting[0]
        if self.closing:
            self.close()
        return False

    def close(self) -> None:
        """Close at once; what waits is lost."""
        if not self.closed:
            self.closed = True
            self.waiting.clear()
            self.size = 0
            if self.fd > 2:
                os.close(self.fd)

    def finish(self) -> None:
        """Close when everything is written."""
        if self.waiting:
            self.closing = True
        else:
            self.close()


class Relay:
    """One client on our stdin and stdout, one server in a child process."""

    def __init__(self, child: Child, channel: Channel, journal: Journal, name: str) -> None:
        limits = channel.limits
        self._child = child
        self._channel = channel
        self._journal = journal
        self._name = visible(name)
        self._to_server = Sink(child.stdin)
        self._to_client = Sink(1)
        self._from_client = LineFramer(limits.request_bytes)
        self._from_server = LineFramer(limits.response_bytes)
        self._stderr = LineFramer(STDERR_LINE)
        self._poll: Any = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._interest: dict[int, int] = {}
        self._reported: set[object] = set()
        self._client_open = True
        self._server_open = True
        self._exit: int | None = None
        self._ending: float | None = None
        """When to escalate: SIGTERM, then SIGKILL, then give up waiting."""
        self._escalation = 0
        self._signal = 0

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> int:
        """Relay until one side ends; the exit code is the server's (128 + N when a signal N ended it)."""
        child = self._child
        was_blocking = [fd for fd in (0, 1) if os.get_blocking(fd)]
        for fd in (0, 1, child.stdin, child.stdout, child.stderr):
            os.set_blocking(fd, False)
        wake, alarm = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        exited = os.pidfd_open(child.pid) if hasattr(os, "pidfd_open") else -1
        readers: dict[int, Callable[[], None]] = {
            0: self._read_client,
            child.stdout: self._read_server,
            child.stderr: self._read_stderr,
            wake: lambda: self._drain_wakeups(wake),
        }
        for fd in readers:
            self._watch(fd, _IN)
        if exited >= 0:
            readers[exited] = lambda: self._on_exit(exited)
            self._watch(exited, _IN)
        try:
            self._turn(readers)
        finally:
            signal.set_wakeup_fd(-1)
            for fd in was_blocking:
                os.set_blocking(fd, True)  # the flag belongs to the file, which a terminal shares with its shell
            self._end()
        return self._exit_code()

    def _turn(self, readers: dict[int, Callable[[], None]]) -> None:
        poll = self._poll.poll
        writers = {self._to_server.fd: self._to_server, 1: self._to_client}
        quiet = False
        turns = 0
        while self._server_open:
            events = poll(self._timeout(quiet))
            if not events:
                quiet = not self._idle()
                continue
            quiet = False
            turns += 1
            if not turns & 1023:
                self._journal.tick()  # under load there is no idle time to sync in
            for fd, event in events:
                if event & ~_OUT:
                    reader = readers.get(fd)
                    if reader is not None and self._interest.get(fd, 0) & _IN:
                        reader()
                        continue
                if fd in writers:
                    self._writable(writers[fd])
            if self._ending is not None and monotonic() >= self._ending:
                self._escalate()

    def _timeout(self, quiet: bool) -> float | None:
        """How long to sleep: until the evidence wants syncing, a hang is due, or the next escalation."""
        seconds = -1.0
        if self._ending is not None:
            seconds = max(0.0, self._ending - monotonic())
        elif not quiet:
            seconds = 0.25
        elif self._channel.pending:
            seconds = HANG_S / 4
        if seconds < 0:
            return None
        return seconds if hasattr(select, "epoll") else seconds * 1000

    def _idle(self) -> bool:
        """Nothing happened for a while: sync evidence, look for hangs. True when there is more to come back for."""
        if self._ending is not None and monotonic() >= self._ending:
            self._escalate()
        self._report_hangs()
        return bool(self._journal.tick())

    def _report_hangs(self) -> None:
        for request_id, method, seconds in self._channel.overdue(HANG_S):
            if request_id not in self._reported:
                self._reported.add(request_id)
                self.say(f"no answer to {visible(method)} (id {visible(str(request_id), 40)}) for {seconds:.0f} s")
                self._journal.note(
                    "server-slow", {"server": self._name, "method": method, "seconds": round(seconds, 1)}
                )
        if self._reported:
            self._reported.intersection_update(self._channel.pending)

    # -- reading ---------------------------------------------------------------------------------

    def _read_client(self) -> None:
        try:
            chunk = os.read(0, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._client_gone()
            return
        lines = self._from_client.feed(chunk)
        self._forward(lines, Direction.CLIENT, self._channel.client, self._to_server, self._to_client, 0)
        self._from_client.take_edges()  # the refusal went out with the id null

    def _read_server(self) -> None:
        fd = self._child.stdout
        try:
            chunk = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._unwatch(fd)
            self._server_open = False
            return
        lines = self._from_server.feed(chunk)
        self._forward(lines, Direction.SERVER, self._channel.server, self._to_client, self._to_server, fd)
        for error in self._channel.answer_too_long(self._from_server.take_edges()):
            self._send(self._to_client, error + b"\n", fd)

    def _forward(
        self,
        lines: list[bytes | None],
        direction: Direction,
        decide: Callable[[bytes], bytes | Outcome],
        onward: Sink,
        back: Sink,
        source: int,
    ) -> None:
        out: list[bytes] = []
        for line in lines:
            if line is None:
                result: bytes | Outcome = self._channel.refuse(_too_long(direction), direction)
            elif not line or line == b"\r":
                continue
            else:
                result = decide(line[:-1] if line.endswith(b"\r") else line)
            if type(result) is bytes:
                out.append(result)
                continue
            if out:
                self._send(onward, b"\n".join(out) + b"\n", source)
                out = []
            self._outcome(result, onward, back, source)  # type: ignore[arg-type]  # not bytes, so an Outcome
        if out:
            out.append(b"")
            if onward.write(b"\n".join(out)):
                self._blocked(onward, source)

    def _outcome(self, outcome: Outcome, onward: Sink, back: Sink, source: int) -> None:
        if outcome.forward is not None:
            self._send(onward, outcome.forward + b"\n", source)
        if outcome.reply is not None:
            self._send(back, outcome.reply + b"\n", source)

    def _send(self, sink: Sink, data: bytes, source: int) -> None:
        if sink.write(data):
            self._blocked(sink, source)

    def _read_stderr(self) -> None:
        fd = self._child.stderr
        try:
            chunk = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._unwatch(fd)
            return
        _to_stderr("".join(_shown(line) for line in self._stderr.feed(chunk)))
        self._stderr.take_edges()

    # -- writing and back-pressure ---------------------------------------------------------------

    def _blocked(self, sink: Sink, source: int) -> None:
        """`sink` did not take everything: wait for it, and past the mark stop reading what feeds it."""
        self._watch(sink.fd, _OUT)
        if sink.size > HIGH_WATER:
            # Unregistered, not merely without interest: a hang-up would be reported again and again.
            self._unwatch(source)

    def _writable(self, sink: Sink) -> None:
        if sink.flush():
            return
        self._unwatch(sink.fd)
        if not self._to_server.waiting and not self._to_client.waiting:
            if self._client_open:
                self._watch(0, _IN)
            if self._server_open:
                self._watch(self._child.stdout, _IN)

    def _watch(self, fd: int, events: int) -> None:
        known = self._interest.get(fd)
        if known == events:
            return
        try:
            if known is None:
                self._poll.register(fd, events)
            else:
                self._poll.modify(fd, events)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            # A regular file on stdin or stdout is always ready and cannot be polled: read it at once.
            self._relay_file(fd)
            return
        self._interest[fd] = events

    def _unwatch(self, fd: int) -> None:
        if self._interest.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _relay_file(self, fd: int) -> None:
        if fd == 0:
            os.set_blocking(self._to_server.fd, True)
            while self._client_open:
                self._read_client()
            if not self._to_server.closed:
                os.set_blocking(self._to_server.fd, False)

    # -- ending ----------------------------------------------------------------------------------

    def _client_gone(self) -> None:
        """The client closed its end: so do we towards the server, and give it time to finish."""
        self._client_open = False
        self._unwatch(0)
        last = self._from_client.rest()
        if last:
            self._forward([last], Direction.CLIENT, self._channel.client, self._to_server, self._to_client, 0)
        fd = self._to_server.fd
        self._to_server.finish()
        if self._to_server.closed:
            self._interest.pop(fd, None)
        self._ending = monotonic() + GRACE_S

    def _on_signal(self, number: int, frame: object) -> None:
        del frame
        self._signal = number

    def _drain_wakeups(self, wake: int) -> None:
        try:
            os.read(wake, 512)
        except BlockingIOError:
            return
        if self._signal and self._escalation == 0:
            self._kill(self._signal)
            self._escalation = 1
            self._ending = monotonic() + GRACE_S

    def _on_exit(self, pidfd: int) -> None:
        """The server process ended; what it wrote before may still be in the pipe."""
        self._unwatch(pidfd)
        os.close(pidfd)
        deadline = monotonic() + _DRAIN_S
        out = self._child.stdout
        while self._server_open and monotonic() < deadline:
            ready, _, _ = select.select([out], [], [], 0)
            if not ready:
                break
            self._read_server()
        self._server_open = False

    def _escalate(self) -> None:
        self._escalation += 1
        self._ending = monotonic() + GRACE_S
        if self._escalation == 1:
            self._kill(signal.SIGTERM)
        elif self._escalation == 2:
            self.say("the server did not end in time and is killed")
            self._kill(signal.SIGKILL)
        else:
            self._server_open = False

    def _kill(self, number: int) -> None:
        try:
            os.killpg(self._child.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def _end(self) -> None:
        """Collect the server, answer who still waits, flush, leave no process behind."""
        self._read_rest_of_stderr()
        status = self._reap()
        died = self._client_open and self._signal == 0
        if died:
            self.say(f"the server ended ({_how(status)})")
        if self._from_server.rest():
            self.say("the server ended in the middle of a message, which was discarded")
        for answer in self._channel.unanswered(f"the server {self._name} ended ({_how(status)}); restart it"):
            self._to_client.write(answer + b"\n")
        os.set_blocking(1, True)
        self._to_client.flush()
        self._to_server.close()
        self._kill(signal.SIGKILL)  # whatever the server started and left behind
        self._exit = status
        self._journal.note("server-exit", {"server": self._name, "status": _how(status)})
        self._channel.close("the server ended" if died else "the client ended")

    def _read_rest_of_stderr(self) -> None:
        while self._interest.get(self._child.stderr):
            ready, _, _ = select.select([self._child.stderr], [], [], 0)
            if not ready:
                return
            self._read_stderr()

    def _reap(self) -> int:
        """The wait status of the server; by force when it closed its output and stays."""
        deadline = monotonic() + (GRACE_S if self._signal == 0 else 1.0)
        number = signal.SIGTERM
        self._to_server.close()
        pause = 0.001
        while True:
            try:
                pid, status = os.waitpid(self._child.pid, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid:
                return status
            if monotonic() > deadline:
                self._kill(number)
                number = signal.SIGKILL
                deadline = monotonic() + 1.0
            select.select([], [], [], pause)
            pause = min(pause * 2, 0.05)

    def _exit_code(self) -> int:
        code = os.waitstatus_to_exitcode(self._exit or 0)
        return code if code >= 0 else 128 - code

    def say(self, text: str) -> None:
        """One line on stderr, from callgate itself. `text` is safe to print."""
        _to_stderr(f"callgate: {self._name}: {text}\n")


def _shown(line: bytes | None) -> str:
    if line is None:
        return "(a longer line of the server's stderr was left out)\n"
    return visible(line.decode("utf-8", "replace").rstrip("\r"), STDERR_LINE) + "\n"


def _to_stderr(text: str) -> None:
    try:
        os.write(2, text.encode())
    except OSError:
        return  # nobody reads our stderr; that is no reason to stop relaying


def _too_long(direction: Direction) -> LimitExceeded:
    name = "request_bytes" if direction is Direction.CLIENT else "response_bytes"
    return LimitExceeded(
        f"limit-{name.replace('_', '-')}",
        f"a line longer than limits.{name}",
        next_step=f"send less, or raise limits.{name}",
    )


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
