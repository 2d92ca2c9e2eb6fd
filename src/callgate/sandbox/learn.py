"""Watch a server at work, and say what it would need: for a person to read, never applied by itself.

Inside the sandbox (the default) everything it is refused is seen, and nothing happens to the machine. In the open,
only when asked for by name, it does what it does, and what it touched is seen.
"""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from callgate.errors import SandboxError
from callgate.sandbox.backend import Backend, Prepared, Running
from callgate.sandbox.learn_trace import OPTIONS, Trace, read_traces
from callgate.sandbox.spec import Destination, SandboxSpec

STRACE = ("/usr/bin/strace", "/usr/local/bin/strace")
NOBODYS = "refused-and-noted.invalid"
"""Stands in an empty network list while learning, so that the gate is there and notes what it refuses."""
PROTOCOL = "2025-06-18"
_OUTPUT_BYTES = 16 * 1024 * 1024
_END_S = 3.0
_QUIET_S = 0.3
_SETTLE_S = 2.0


@dataclass(slots=True)
class Observation:
    """What one run did."""

    trace: Trace | None = None
    """None without strace: only the gate's refusals are known then."""
    asked: set[tuple[str, int]] = field(default_factory=set)
    """Hosts and ports that the egress gate refused or let through."""
    answered: bool = False
    """Whether it answered `initialize`."""
    tools: int = -1
    """How many tools it listed; -1: none were listed."""
    seconds: float = 0.0
    confined: bool = True
    backend: str = ""


def strace() -> str:
    """The program that traces system calls; empty where it is not installed."""
    return next((path for path in STRACE if os.access(path, os.X_OK)), "")


def observe(
    backend: Backend | None,
    spec: SandboxSpec,
    argv: Sequence[str],
    *,
    seconds: float,
    until_listed: bool = False,
    attach: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Observation:
    """Run the server once: `initialize`, `tools/list`, then until it ends or `seconds` are over.

    `until_listed`: no longer than it needs to list its tools.
    `backend` None: in the open, with `environment`. `attach`: stdin and stdout are the caller's, for a client that
    works with it meanwhile. Raises SandboxError.
    """
    tracer = strace()
    if backend is None and not tracer:
        raise SandboxError("in the open nothing is seen without strace", next_step="install the package strace")
    if backend is None:
        prepared = Prepared(argv=tuple(argv), environment=dict(environment or {}), cwd=spec.cwd, backend="none")
    else:
        network = spec.network or (Destination(NOBODYS),)
        prepared = backend.prepare(replace(spec, network=network), argv)
    with tempfile.TemporaryDirectory(prefix="callgate-learn-") as folder:
        command = list(prepared.argv)
        # A container is started by a daemon or a monitor: tracing the client would show the client.
        traced = bool(tracer) and prepared.backend not in ("podman", "docker")
        if traced:
            command = [tracer, *OPTIONS, "-o", os.path.join(folder, "t"), "--", *command]
        found = _Run(prepared, command, seconds, until_listed=until_listed, attach=attach).run()
        found.trace = read_traces(folder, argv) if traced else None
    found.confined, found.backend = backend is not None, prepared.backend
    found.asked = {one for one in found.asked if one[0] != NOBODYS}
    return found


class _Run:
    def __init__(
        self, prepared: Prepared, command: list[str], seconds: float, *, until_listed: bool, attach: bool
    ) -> None:
        self._prepared = prepared
        self._command = command
        self._seconds = seconds
        self._until_listed = until_listed
        self._attach = attach
        self._found = Observation()
        self._kept = b""
        self._total = 0

    def run(self) -> Observation:
        begin = time.monotonic()
        pipe = None if self._attach else subprocess.PIPE
        prepared = self._prepared
        try:
            process = subprocess.Popen(
                self._command,
                env=dict(prepared.environment),
                cwd=prepared.cwd or None,
                pass_fds=prepared.pass_fds,
                stdin=pipe,
                stdout=pipe,
                stderr=None if self._attach else subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            if prepared.abandon:
                prepared.abandon()
            raise SandboxError(f"{self._command[0]} cannot be started: {error.strerror}") from error
        running: Running | None = None
        try:
            running = prepared.started(process.pid) if prepared.started else None
            self._watch(process, running, begin + self._seconds)
        finally:
            self._end(process)
            if running is not None:
                self._settle(running)
                running.close()
        self._found.seconds = time.monotonic() - begin
        return self._found

    def _watch(self, process: subprocess.Popen[bytes], running: Running | None, end: float) -> None:
        with selectors.DefaultSelector() as selector:
            if process.stdin and process.stdout:
                self._send(process, 1, "initialize", _INITIALIZE)
                selector.register(process.stdout, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0 and process.poll() is None:
                if self._until_listed and self._found.tools >= 0:
                    return
                if not selector.get_map():
                    time.sleep(min(left, 0.1))
                for _ in selector.select(min(left, 0.1)) if selector.get_map() else ():
                    chunk = process.stdout.read1(65536) if process.stdout else b""  # type: ignore[attr-defined]
                    if not chunk:
                        return
                    self._read(process, chunk)
                if running is not None:
                    self._events(running)

    def _settle(self, running: Running) -> None:
        """The gate tells of a connection when it has ended, and the server's end ended them all."""
        end = time.monotonic() + _SETTLE_S
        while running.events_fd >= 0 and (left := end - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(running.events_fd, select.POLLIN)
            if not poll.poll(min(left, _QUIET_S) * 1000) or not self._events(running):
                return

    def _events(self, running: Running) -> bool:
        """Take what there is; whether there was anything."""
        found = running.read_events()
        for event in found:
            host, port = event.get("host"), event.get("port")
            if isinstance(host, str) and isinstance(port, int):
                self._found.asked.add((host, port))
        return bool(found)

    def _read(self, process: subprocess.Popen[bytes], chunk: bytes) -> None:
        self._total += len(chunk)
        if self._total > _OUTPUT_BYTES:
            return
        *lines, self._kept = (self._kept + chunk).split(b"\n")
        for line in lines:
            message = _message(line)
            if message.get("id") == 1 and not self._found.answered:
                self._found.answered = True
                self._send(process, None, "notifications/initialized", {})
                self._send(process, 2, "tools/list", {})
            elif message.get("id") == 2:
                result = message.get("result")
                tools = result.get("tools") if isinstance(result, dict) else None
                self._found.tools = len(tools) if isinstance(tools, list) else 0

    def _send(self, process: subprocess.Popen[bytes], number: int | None, method: str, params: dict[str, Any]) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({"id": number} if number else {})
        try:
            if process.stdin:
                process.stdin.write(json.dumps(message).encode() + b"\n")
                process.stdin.flush()
        except OSError:
            return  # it has ended: what it did until then is seen

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin:
            try:
                process.stdin.close()
            except OSError:
                pass  # it has ended
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            pass
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(_END_S)
            except (ProcessLookupError, PermissionError):
                break
            except subprocess.TimeoutExpired:
                continue
        if process.stdout:
            process.stdout.close()
        process.wait()


_INITIALIZE = {
    "protocolVersion": PROTOCOL,
    "capabilities": {},
    "clientInfo": {"name": "callgate-learn", "version": "0"},
}


def _message(line: bytes) -> dict[str, Any]:
    import jiter

    try:
        found = jiter.from_json(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
