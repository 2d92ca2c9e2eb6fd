"""Starting a configured server: the `launch` hook, the process, a note in the evidence log."""

from __future__ import annotations

import asyncio

from callgate.config import ServerConfig
from callgate.errors import AuditError, LaunchError
from callgate.gate.engine import Gate
from callgate.gate.events import LaunchEvent
from callgate.transport.launch import launch_record
from callgate.transport.process import ProcessEvents, ServerProcess, server_environment


class Launcher:
    """Starts the processes of one server."""

    __slots__ = ("_gate", "_loop", "_server")

    def __init__(self, server: ServerConfig, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._gate = gate
        self._loop = loop

    def start(self, events: ProcessEvents) -> ServerProcess:
        """One process. Raises LaunchError: it is refused by a control, or cannot be started."""
        server = self._server
        gate = self._gate
        environment = server_environment(server.environment)
        asked = gate.asked("launch", ())
        if asked:
            event = LaunchEvent(server.name, server.command, server.cwd, tuple(environment))
            decision = gate.decide(asked, event, gate.config.mode_of(server.name))
            if decision.outcome in ("deny", "ask"):
                raise LaunchError(f"a control refused to start the server: {decision.reason}")
        limit = gate.config.limits.response_bytes
        try:
            process = ServerProcess(self._loop, server.name, server.command, environment, server.cwd, limit, events)
        except LaunchError as error:
            gate.journal.note("launch-failed", {"server": server.name, "reason": error.what})
            raise
        try:
            gate.journal.note("launch", launch_record(server.command, process.pid, server.name))
        except AuditError:
            if gate.config.mode_of(server.name) == "enforce":
                process.kill()
                raise
        return process
