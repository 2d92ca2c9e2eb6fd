"""Starting a configured server: the launch boundary, the `launch` hook, the process, a note in the evidence log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from callgate.config import ServerConfig, state_directory
from callgate.errors import AuditError, CallgateError, LaunchError
from callgate.gate.engine import Gate
from callgate.gate.events import LaunchEvent
from callgate.launching.launch import Launch
from callgate.launching.plan import Wish, plan
from callgate.sandbox.backend import Running
from callgate.transport.launch import launch_record
from callgate.transport.process import INHERITED, ProcessEvents, ServerProcess, server_environment
from callgate.transport.sandboxed import WatchedSandbox
from callgate.transport.stderr_relay import StderrRelay


class Launcher:
    """Starts the processes of one server."""

    __slots__ = ("_gate", "_loop", "_server", "_told")

    def __init__(self, server: ServerConfig, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._gate = gate
        self._loop = loop
        self._told = False

    def start(self, events: ProcessEvents) -> ServerProcess:
        """One process. Raises LaunchError: it is refused by a control or the launch boundary, or cannot be started."""
        server = self._server
        gate = self._gate
        try:
            launch = self._planned()
        except (CallgateError, OSError) as error:
            raise self._refused(error) from error
        limit = gate.config.limits.response_bytes
        running: Running | None = None
        try:
            process = ServerProcess(
                self._loop,
                server.name,
                launch.argv,
                launch.environment,
                launch.cwd,
                limit,
                events,
                pass_fds=launch.pass_fds,
                confined=launch.confined,
                redactor=launch.stderr(),
            )
        except (LaunchError, OSError) as error:
            launch.abandon()
            raise self._refused(error) from error
        try:
            running = launch.started(process.pid)
            self._watch(process, running, launch)
            gate.journal.note("launch", {**launch_record(server.command, process.pid, server.name), **launch.facts})
        except AuditError:
            if gate.config.mode_of(server.name) == "enforce":
                process.kill()
                raise
        except BaseException as error:  # whatever it is, nothing of it may go on unwatched
            process.kill()
            if running is not None:
                running.close()
            launch.abandon()
            if not isinstance(error, LaunchError | OSError):
                raise
            raise self._refused(error) from error
        return process

    def _refused(self, error: CallgateError | OSError) -> LaunchError:
        """Why there is no process: evidence, and one kind of error for whoever asked for it."""
        if isinstance(error, CallgateError):
            reason, next_step = error.what, error.next_step
        else:  # what the system refused on the way, descriptors that are used up for example
            reason = f"it could not be started: {error.strerror}"
            next_step = "start it again; if it stays: callgate sandbox doctor"
        self._gate.journal.note("launch-failed", {"server": self._server.name, "reason": reason})
        effect = error.effect if isinstance(error, LaunchError) else ""
        return LaunchError(reason, effect=effect, next_step=next_step)

    def _planned(self) -> Launch:
        """The launch, if the controls and the launch boundary let it be."""
        server = self._server
        gate = self._gate
        given = dict(server.environment)
        asked = gate.asked("launch", ())
        if asked:
            event = LaunchEvent(server.name, server.command, server.cwd, tuple(server_environment(given)))
            decision = gate.decide(asked, event, gate.config.mode_of(server.name))
            if decision.outcome in ("deny", "ask"):
                raise LaunchError(f"a control refused to start the server: {decision.reason}")
        wish = Wish(
            name=server.name,
            command=server.command,
            variables=os.environ,
            given=given,
            cwd=server.cwd,
            unconfined_names=tuple(INHERITED),
        )
        return plan(gate.config, wish, state_directory(gate.config))

    def _watch(self, process: ServerProcess, running: Running | None, launch: Launch) -> None:
        """Take over what the sandbox tells, until the process has ended."""
        say = StderrRelay(self._server.name).say
        if not self._told:
            self._told = True
            for line in launch.notices:
                say(line)
        watched = None if running is None else WatchedSandbox(running, self._gate.journal, self._server.name, say)
        fd = -1 if watched is None else watched.fd
        if watched is not None and fd >= 0:
            self._loop.add_reader(fd, self._read, watched, fd)
        process.closed.add_done_callback(lambda _: self._ended(watched, fd, launch.close))

    def _read(self, watched: WatchedSandbox, fd: int) -> None:
        if not watched.read():
            self._loop.remove_reader(fd)

    def _ended(self, watched: WatchedSandbox | None, fd: int, close: Callable[[], None]) -> None:
        if watched is not None:
            if fd >= 0:
                self._loop.remove_reader(fd)
            watched.close()
        close()
