"""The stdio relay: one thread, one poller, no coroutine. Lines in, decided lines out.

    client stdin  ──► Channel.client ──► server stdin
    client stdout ◄── Channel.server ◄── server stdout
    our stderr    ◄── visible()      ◄── server stderr

Back-pressure: a source is read only while the sinks it feeds are below the high-water mark. The relay ends
when the server's output ends or the server exits; what the client still waited for is answered with an error.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from _thread import _count as _other_threads
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from callgate.errors import AuditError
from callgate.protocol.message import Direction
from callgate.text import visible
from callgate.transport import native
from callgate.transport.lane import READ_BYTES, Lane
from callgate.transport.launch import PIPE_BYTES
from callgate.transport.lines import CutLines
from callgate.transport.native import READ, READY
from callgate.transport.sandboxed import WatchedSandbox
from callgate.transport.signals import ending, signal_server
from callgate.transport.sink import Sink
from callgate.transport.stderr_relay import to_stderr

if TYPE_CHECKING:
    from callgate._core import Pump
    from callgate.audit import Journal
    from callgate.gate.channel import Channel
    from callgate.sandbox.backend import Running
    from callgate.transport.launch import Child
    from callgate.vault.redaction import StreamRedactor

HIGH_WATER = 4 * 1024 * 1024
"""A sink with more than this waiting holds the lanes that feed it."""
GRACE_S = 5.0
"""From end of input to SIGTERM, and from SIGTERM to SIGKILL."""
HANG_S = 60.0
"""A request without an answer for this long is reported, once."""
STDERR_LINE = 16 * 1024
"""Bytes of one line of the server's stderr."""
_LACKS = (
    "in its sandbox it sees what its command and settings name, nothing beside it: callgate sandbox explain -- COMMAND "
    "shows what that is, --read PATH adds a file or directory it lacks"
)
_NOT_ITS_OWN = (0, 126)
"""Exit codes that say nothing of what a confined server lacks: a good end, and a sandbox that did not hold."""
_DRAIN_S = 0.5
_IN = 1  # POLLIN and EPOLLIN agree, as do POLLOUT and EPOLLOUT
_OUT = 4


class Relay:
    """One client on our stdin and stdout, one server in a child process."""

    def __init__(
        self,
        child: Child,
        channel: Channel,
        journal: Journal,
        name: str,
        *,
        running: Running | None = None,
        confined: bool = False,
        redactor: StreamRedactor | None = None,
    ) -> None:
        self._child = child
        self._channel = channel
        self._journal = journal
        self._name = visible(name)
        self._watched = WatchedSandbox(running, journal, self._name, self.say) if running is not None else None
        self._confined = confined
        self._redactor = redactor
        self._to_server = Sink(child.stdin)
        self._to_client = Sink(1)
        self._up = Lane(channel, Direction.CLIENT, 0, self._to_server, self._to_client, self._blocked)
        self._down = Lane(channel, Direction.SERVER, child.stdout, self._to_client, self._to_server, self._blocked)
        self._stderr = CutLines(STDERR_LINE)
        self._poll: Any = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._unit = 1 if hasattr(select, "epoll") else 1000
        self._interest: dict[int, int] = {}
        self._handlers: dict[int, Callable[[], bool | None]] = {}
        """What to call when a descriptor is ready; False says that its stream ended."""
        self._active_s = journal.tick_s
        """Sleep while there was traffic a moment ago; then evidence is synced, hangs looked for, and we sleep long."""
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
        was_blocking = [fd for fd in (0, 1) if os.get_blocking(fd)]
        try:
            self._prepare()
            pump = native.pump(self._channel, self._poll, self._up, self._down, self._active_s)
            if pump is not None:
                self._turn_native(pump)
            else:
                self._turn()
        finally:
            signal.set_wakeup_fd(-1)
            for fd in was_blocking:
                os.set_blocking(fd, True)  # the flag belongs to the file, which a terminal shares with its shell
            self._end()
        return self._exit_code()

    def _prepare(self) -> None:
        child = self._child
        for fd in (0, 1, child.stdin, child.stdout, child.stderr):
            os.set_blocking(fd, False)
        wake, alarm = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        for number in ending():
            signal.signal(number, self._on_signal)
        self._handlers = {
            0: self._up.read,
            1: lambda: self._writable(self._to_client),
            child.stdin: lambda: self._writable(self._to_server),
            child.stdout: self._down.read,
            child.stderr: self._read_stderr,
            wake: lambda: self._woken(wake),
        }
        for fd in (0, child.stdout, child.stderr, wake):
            self._watch(fd, _IN)
        if self._watched is not None and self._watched.fd >= 0:
            self._handlers[self._watched.fd] = self._read_sandbox
            self._watch(self._watched.fd, _IN)
        if hasattr(os, "pidfd_open"):
            exited = os.pidfd_open(child.pid)
            self._handlers[exited] = lambda: self._on_exit(exited)
            self._watch(exited, _IN)

    def _turn(self) -> None:
        poll = self._poll.poll
        handlers = self._handlers
        active = self._active_s * self._unit
        timeout: float | None = active
        sync_at = monotonic() + self._active_s
        while self._server_open:
            events = poll(timeout)
            if events:
                for fd, _ in events:
                    if handlers[fd]() is False:
                        self._ended(fd)
                if monotonic() >= sync_at:
                    self._look_up()  # between messages that keep coming there is no idle time for it
                    sync_at = monotonic() + self._active_s
                timeout = active
            else:
                timeout = self._idle()
            left = self._left()
            if left is not None:
                timeout = left * self._unit

    def _turn_native(self, pump: Pump) -> None:
        """The same, with plain lines passing below."""
        handlers = self._handlers
        up, down = self._up, self._down
        lanes = {up.source: up, down.source: down}
        active = int(self._active_s * 1000)
        timeout = active
        sync_at = monotonic() + self._active_s
        while self._server_open:
            # Where no other thread runs, the interpreter's lock need not be given up for each message.
            told = pump.turn(timeout, up.free, down.free, _other_threads() == 0)
            if told is None:
                wait = self._idle()
                timeout = -1 if wait is None else int(wait * 1000)
            else:
                timeout = active
                passed = pump.take_passed()
                if passed[1]:
                    down.refused = 0
                if monotonic() >= sync_at:
                    self._look_up()  # between messages that keep coming there is no idle time for it
                    sync_at = monotonic() + self._active_s
                for fd, what, data in told:
                    if what == READY:
                        going = handlers[fd]()
                    elif what == READ:
                        going = lanes[fd].received(data or b"")
                    else:
                        lanes[fd].unwritten(data)
                        going = True
                    if going is False:
                        self._ended(fd)
            left = self._left()
            if left is not None:
                timeout = int(left * 1000) + 1

    def _left(self) -> float | None:
        """Seconds until the next step towards the server's end, taken here when it is due; None: no end is near."""
        if self._ending is None:
            if not self._to_server.closed:
                return None
            self._ending = monotonic() + GRACE_S  # it is deaf, or ending: what is asked now has no answer
        if monotonic() >= self._ending:
            self._escalate()
        return max(0.0, self._ending - monotonic())

    def _idle(self) -> float | None:
        """Nothing happened for a while: sync evidence, look for hangs. How long to sleep now; None: until woken."""
        if self._look_up():
            return self._active_s * self._unit
        return HANG_S / 4 * self._unit if self._channel.pending else None

    def _look_up(self) -> bool:
        """Look for hangs, let the journal sync and sign what is due; True when it wants to be asked again."""
        self._report_hangs()
        try:
            return self._journal.tick()
        except AuditError as error:
            self.say(error.what)  # the next decision fails closed by itself
            return False

    def _report_hangs(self) -> None:
        for request_id, method, seconds in self._channel.overdue(HANG_S):
            if request_id not in self._reported:
                self._reported.add(request_id)
                self.say(f"no answer to {visible(method)} (id {visible(str(request_id), 40)}) for {seconds:.0f} s")
                self._note("server-slow", {"method": method, "seconds": round(seconds, 1), "server": self._name})
        if self._reported:
            self._reported.intersection_update(self._channel.pending)

    # -- reading, writing, back-pressure ---------------------------------------------------------

    def _ended(self, fd: int) -> None:
        if fd == 0:
            self._client_gone()
        else:
            self._unwatch(fd)
            self._server_open = False

    def _read_stderr(self) -> None:
        fd = self._child.stderr
        try:
            chunk = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._unwatch(fd)
            self._end_of_stderr()
            return
        if self._redactor is not None:
            chunk = self._redactor.feed(chunk)
        to_stderr("".join(_shown(line) for line in self._stderr.feed(chunk)))

    def _end_of_stderr(self) -> None:
        """What a server says last often has no line end."""
        held = self._redactor.close() if self._redactor is not None else b""
        lines = self._stderr.feed(held)
        if rest := self._stderr.rest():
            lines.append(rest)
        to_stderr("".join(_shown(line) for line in lines))

    def _read_sandbox(self) -> None:
        watched = self._watched
        if watched is not None and not watched.read():
            self._unwatch(watched.fd)

    def _blocked(self, sink: Sink, lane: Lane) -> None:
        """`sink` did not take everything: wait for it, and past the mark stop reading what feeds it."""
        self._watch(sink.fd, _OUT)
        if sink.size > HIGH_WATER:
            # Unregistered, not merely without interest: a hang-up would be reported again and again.
            self._unwatch(lane.source)

    def _writable(self, sink: Sink) -> None:
        fd = sink.fd
        if sink.flush():
            return
        self._unwatch(fd)
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
            self._pump_file(fd)
            return
        self._interest[fd] = events

    def _unwatch(self, fd: int) -> None:
        if self._interest.pop(fd, None) is not None:
            try:
                self._poll.unregister(fd)
            except OSError:
                return  # a closed descriptor has left the poller by itself

    def _pump_file(self, fd: int) -> None:
        """A regular file cannot be polled and is always ready: read our input from it until a sink is full.

        `_writable` watches our input again, which leads back here.
        """
        if fd != 0:
            return
        while self._up.read():
            if self._to_server.waiting or self._to_client.waiting or self._signal:
                return
        self._client_gone()

    # -- ending ----------------------------------------------------------------------------------

    def _client_gone(self) -> None:
        """The client closed its end: so do we towards the server, and give it time to finish."""
        self._client_open = False
        self._unwatch(0)
        self._up.end()
        fd = self._to_server.fd
        self._to_server.finish()
        if self._to_server.closed:
            self._interest.pop(fd, None)
        self._ending = monotonic() + GRACE_S

    def _on_signal(self, number: int, frame: object) -> None:
        del frame
        self._signal = number

    def _woken(self, wake: int) -> None:
        try:
            os.read(wake, 512)
        except BlockingIOError:
            return
        if self._signal and self._escalation == 0:
            self._kill(self._signal)
            self._escalation = 1
            self._ending = monotonic() + GRACE_S

    def _on_exit(self, pidfd: int) -> None:
        """The server process ended; what it wrote before may still be in the pipe, however long it takes to decide."""
        self._unwatch(pidfd)
        os.close(pidfd)
        deadline = monotonic() + _DRAIN_S
        held = PIPE_BYTES // self._down.read_bytes + 1
        while _readable(self._child.stdout) and self._down.read():
            held -= 1
            if held <= 0 and monotonic() >= deadline:
                break  # somebody whom it left behind goes on writing
        self._server_open = False

    def _escalate(self) -> None:
        self._escalation += 1
        self._ending = monotonic() + GRACE_S
        if self._escalation == 1:
            if self._client_open:
                self.say("the server closed its input, did not end, and is stopped")
            self._kill(signal.SIGTERM)
        elif self._escalation == 2:
            self.say("the server did not end in time and is killed")
            self._kill(signal.SIGKILL)
        else:
            self._server_open = False

    def _kill(self, number: int) -> None:
        signal_server(self._child.pid, number, confined=self._confined)

    def _end(self) -> None:
        """Collect the server, answer who still waits, flush, leave no process behind."""
        self._read_rest_of_stderr()
        status = self._reap()
        died = self._client_open and self._signal == 0
        if self._down.given_up:
            self.say("the server wrote nothing but lines that are not MCP, and was stopped")
        elif died:
            self.say(f"the server ended ({_how(status)})")
            if self._confined and os.WIFEXITED(status) and os.WEXITSTATUS(status) not in _NOT_ITS_OWN:
                self.say(_LACKS)
        if self._down.end():
            self.say("the server ended in the middle of a message, which was discarded")
        for answer in self._channel.unanswered(f"the server {self._name} ended ({_how(status)}); restart it"):
            self._to_client.write(answer + b"\n")
        self._flush_to_client()
        self._to_server.close()
        self._kill(signal.SIGKILL)  # whatever the server started and left behind
        if self._watched is not None:
            self._watched.close()
        self._exit = status
        self._note("server-exit", {"server": self._name, "status": _how(status)})
        self._channel.close("the server ended" if died else "the client ended")

    def _flush_to_client(self) -> None:
        """Give the client what is left, as long as it keeps reading."""
        os.set_blocking(1, False)
        self._to_client.drain(GRACE_S)
        os.set_blocking(1, True)

    def _note(self, kind: str, fields: dict[str, object]) -> None:
        """A slow event that is not worth ending for when it cannot be recorded."""
        try:
            self._journal.note(kind, fields)
        except AuditError as error:
            self.say(error.what)

    def _read_rest_of_stderr(self) -> None:
        """What a pipe may hold, and no more: whoever is left may go on writing for ever."""
        for _ in range(PIPE_BYTES // READ_BYTES):
            if self._interest.get(self._child.stderr) and _readable(self._child.stderr):
                self._read_stderr()
        if self._interest.get(self._child.stderr):
            self._end_of_stderr()

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
        to_stderr(f"callgate: {self._name}: {text}\n")


def _readable(fd: int) -> bool:
    """Whether a read finds something now. The number may be too high for `select`."""
    poll = select.poll()
    poll.register(fd, _IN)
    return bool(poll.poll(0))


def _shown(line: bytes) -> str:
    cut = " …" if len(line) > STDERR_LINE else ""
    return visible(line[:STDERR_LINE].decode("utf-8", "replace").rstrip("\r"), STDERR_LINE) + cut + "\n"


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
