"""Starting a configured server: the launch boundary, the `launch` hook, the process, a note in the evidence log.

What may block is done in threads: the plan (locks, stores of secrets, self-tests, container engines), the steps after
the spawn until the sandbox stands, and giving back what was leased. On the loop stay, on purpose:

- controls and evidence, which are its own: no lock stands between a message and its record;
- the spawn. A sandbox that is to die with its parent dies with the *thread* that started it (PR_SET_PDEATHSIG in
  prctl(2)), and no other thread lives as long as the servers do. It takes a millisecond;
- descriptors that the loop watches.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

from callgate.config import ServerConfig
from callgate.config.places import state_directory
from callgate.errors import AuditError, CallgateError, LaunchError
from callgate.gate.engine import Gate
from callgate.gate.events import LaunchEvent
from callgate.launching.launch import Launch
from callgate.launching.plan import Wish, plan
from callgate.sandbox.backend import Running
from callgate.transport.aside import Aside
from callgate.transport.http.waiting import place_of
from callgate.transport.launch import launch_record
from callgate.transport.process import INHERITED, ServerProcess, server_environment
from callgate.transport.sandboxed import WatchedSandbox
from callgate.transport.starts import Done, Start
from callgate.transport.stderr_relay import StderrRelay


class Launcher:
    """Starts the processes of one server, one after the other."""

    __slots__ = ("_aside", "_gate", "_line", "_loop", "_server", "_starting", "_told")

    def __init__(self, server: ServerConfig, gate: Gate, loop: asyncio.AbstractEventLoop, aside: Aside) -> None:
        self._server = server
        self._gate = gate
        self._loop = loop
        self._aside = aside
        self._line: deque[Start] = deque()
        self._starting = False
        self._told = False

    def begin(self, done: Done) -> Start:
        """One process. `done` gets it, or a LaunchError: it is refused, by whatever, or cannot be started."""
        start = Start(self._loop, done, self._refused)
        # Clients that come and go while one start takes its time leave nothing here, what they sent least of all.
        self._line = deque(one for one in self._line if not one.over)
        self._line.append(start)
        if not self._starting:
            self._starting = True
            self._loop.call_soon(self._next)
        return start

    def _next(self) -> None:
        """The first in line for whom somebody still waits."""
        while self._line:
            start = self._line.popleft()
            if not start.over:
                self._plan(start)
                return
        self._starting = False

    def _fail(self, start: Start, error: Exception, launch: Launch | None = None) -> None:
        """No process. The next start begins when all of this one is given back."""
        start.fail(error if isinstance(error, CallgateError | OSError) else self._defect(error))
        if launch is None:
            self._loop.call_soon(self._next)
        else:
            self._aside.run(launch.abandon, lambda _: self._next())

    def _refused(self, error: CallgateError | OSError) -> CallgateError:
        """Why there is no process: evidence, and one kind of error for whoever asked for it."""
        if isinstance(error, AuditError):
            return error
        if isinstance(error, CallgateError):
            reason, next_step = error.what, error.next_step
        else:  # what the system refused on the way, descriptors that are used up for example
            reason = f"it could not be started: {error.strerror}"
            next_step = "start it again; if it stays: callgate sandbox doctor"
        try:
            self._gate.journal.note("launch-failed", {"server": self._server.name, "reason": reason})
        except AuditError as lost:
            return lost
        effect = error.effect if isinstance(error, LaunchError) else ""
        return LaunchError(reason, effect=effect, next_step=next_step)

    def _defect(self, error: Exception) -> LaunchError:
        """A fault of our own: one server is not started, and the rest goes on."""
        try:
            self._gate.journal.note("internal-error", {"server": self._server.name, "error": place_of(error)})
        except AuditError:
            pass  # what follows fails closed
        return LaunchError("callgate itself failed", next_step="look into the evidence log, and report it")

    # -- one start, step by step -----------------------------------------------------------------

    def _plan(self, start: Start) -> None:
        try:
            wish = self._wish()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next in line waits
            self._fail(start, error)
            return
        config = self._gate.config
        self._aside.run(
            lambda: plan(config, wish, state_directory(config)), lambda result: self._planned(start, result)
        )

    def _wish(self) -> Wish:
        """What is to be started, if the controls let it be."""
        server = self._server
        gate = self._gate
        given = dict(server.environment)
        asked = gate.asked("launch", ())
        if asked:
            event = LaunchEvent(server.name, server.command, server.cwd, tuple(server_environment(given)))
            decision = gate.decide(asked, event, gate.config.mode_of(server.name))
            if decision.outcome in ("deny", "ask"):
                raise LaunchError(f"a control refused to start the server: {decision.reason}")
        return Wish(
            name=server.name,
            command=server.command,
            variables=os.environ,
            given=given,
            cwd=server.cwd,
            unconfined_names=tuple(INHERITED),
            configured=True,
        )

    def _planned(self, start: Start, launch: Launch | Exception) -> None:
        if isinstance(launch, Exception):
            self._fail(start, launch)
            return
        if start.over:
            self._aside.run(launch.abandon, lambda _: self._next())
            return
        try:
            process = ServerProcess(
                self._loop,
                self._server.name,
                launch.argv,
                launch.environment,
                launch.cwd,
                self._gate.config.limits.response_bytes,
                _Nobody(),
                pass_fds=launch.pass_fds,
                confined=launch.confined,
                redactor=launch.stderr(),
            )
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(start, error, launch)
            return
        process.pause()
        self._aside.until(process.closed)
        self._aside.run(
            lambda: launch.started(process.pid), lambda result: self._started(start, launch, process, result)
        )

    def _started(
        self, start: Start, launch: Launch, process: ServerProcess, running: Running | Exception | None
    ) -> None:
        if isinstance(running, Exception):
            _end(process)
            self._fail(start, running, launch)
            return
        try:
            self._watch(process, running, launch)
        except Exception as error:  # noqa: BLE001 - nothing of it may go on unwatched
            _end(process)
            if running is not None:
                self._aside.run(running.close)
            self._fail(start, error, launch)
            return
        if start.over:
            _end(process)
            self._next()
            return
        gate = self._gate
        try:
            record = launch_record(self._server.command, process.pid, self._server.name)
            gate.journal.note("launch", {**record, **launch.facts})
        except AuditError as error:
            if gate.config.mode_of(self._server.name) == "enforce":
                _end(process)
                self._fail(start, error)
                return
        self._loop.call_soon(self._next)
        start.succeed(process.hand_over)

    # -- while it runs, and after ----------------------------------------------------------------

    def _watch(self, process: ServerProcess, running: Running | None, launch: Launch) -> None:
        """Take over what the sandbox tells, until the process has ended."""
        say = StderrRelay(self._server.name).say
        if not self._told:
            self._told = True
            for line in launch.notices:
                say(line)
        watched = None if running is None else WatchedSandbox(running, self._gate.journal, self._server.name, say)
        if watched is not None and watched.fd >= 0:
            self._loop.add_reader(watched.fd, self._read, watched)
        process.closed.add_done_callback(lambda _: self._ended(watched, launch.close))

    def _read(self, watched: WatchedSandbox) -> None:
        if not watched.read():
            self._loop.remove_reader(watched.fd)

    def _ended(self, watched: WatchedSandbox | None, close: Callable[[], None]) -> None:
        """Nothing here waits for it: processes that watched it end first, leases are given back to their stores."""
        if watched is None:
            self._aside.run(close)
            return
        if watched.fd >= 0:
            self._loop.remove_reader(watched.fd)
        watched.last()

        def rest(_: object) -> None:
            watched.last()
            self._aside.run(close)

        self._aside.run(watched.let_go, rest)


class _Nobody:
    """Who listens to a process that was not handed over."""

    def line(self, data: bytes) -> None: ...

    def too_long(self, edges: list[bytes], *, endless: bool) -> None: ...

    def drained(self) -> None: ...

    def exited(self, how: str) -> None: ...


def _end(process: ServerProcess) -> None:
    """A process that nobody gets. It is read on until its pipes are at their end, as any other."""
    process.resume()
    process.kill()
