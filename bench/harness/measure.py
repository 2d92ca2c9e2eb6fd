"""One measurement: start what is needed, put it where the mode says, run the load, take its JSON line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.harness.build import program
from bench.harness.machine import CLIENT_CPU, GATEWAY_CPU, Placement, command_of, cpu_ns, memory_kb, process_tree
from bench.harness.results import Sample
from bench.harness.series import Series
from bench.harness.subjects import HttpSubject, StdioSubject

TIMEOUT_S = 120.0
SERVER_NAME = "stdio_echo"


def stdio(subject: StdioSubject, series: Series, placement: Placement, scratch: Path, server: list[str]) -> Sample:
    """Run stdio_load once in front of the subject."""
    pinned = series.mode != "free"
    if pinned and server[0] == program(SERVER_NAME):
        server = [*server, str(CLIENT_CPU[series.mode]), *(("poll",) if series.mode == "split" else ())]
    seconds = max(series.seconds, subject.pace_s)
    command = [
        *placement.prefix(series.mode, series.realtime),
        program("stdio_load"),
        *("--seconds", str(seconds), "--warmup", str(series.warmup)),
        *(("--client-cpu", str(CLIENT_CPU[series.mode])) if pinned else ()),
        *(("--child-cpu", str(GATEWAY_CPU[series.mode])) if pinned else ()),
        *(("--first-answer",) if series.kind == "start" else ()),
        *(("--poll",) if series.mode == "split" else ()),
        *series.load,
        *subject.load,
        "--",
        *subject.command(server, scratch),
    ]
    environment = {**os.environ, **subject.environment(scratch)}
    try:
        run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": f"no end after {TIMEOUT_S:.0f} s"}
    return _sample(run.stdout, run.stderr)


class Gateway:
    """A running HTTP gateway, or the server itself for `direct`."""

    def __init__(
        self, subject: HttpSubject, process: subprocess.Popen[bytes], port: int, load: tuple[str, ...]
    ) -> None:
        self.subject = subject
        self.process = process
        self.port = port
        self.load = load

    def pids(self) -> list[int]:
        """The gateway's processes; an echo server that it started itself is not one of them."""
        return [pid for pid in process_tree(self.process.pid) if command_of(pid) != SERVER_NAME]


class StartError(Exception):
    """A gateway did not listen in time, or could not be set up."""


@contextlib.contextmanager
def echo_server(prefix: list[str], *, polling: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The HTTP server behind every gateway, and its port."""
    port = free_port()
    process = _start([*prefix, program("http_echo"), str(port), *(("poll",) if polling else ())], {}, None)
    try:
        _wait_for(process, port, 5, None)
        yield process, port
    finally:
        stop(process)


def start_gateway(subject: HttpSubject, server: tuple[subprocess.Popen[bytes], int], prefix: list[str],
                  scratch: Path) -> Gateway:  # fmt: skip
    """Start the subject in front of the server. Raises StartError with the end of its log."""
    process, server_port = server
    if subject.launch is None:
        return Gateway(subject, process, server_port, subject.load)
    scratch.mkdir(parents=True, exist_ok=True)
    port = free_port()
    launch = subject.launch(port, server_port, scratch)
    log = scratch / "gateway.log"
    process = _start([*prefix, *launch.command], launch.environment, log)
    try:
        _wait_for(process, port, subject.start_timeout_s, log)
        more = launch.setup() if launch.setup else ()
    except Exception as error:
        stop(process)
        raise error if isinstance(error, StartError) else StartError(f"setup: {error}") from error
    return Gateway(subject, process, port, (*subject.load, *more))


def http(gateway: Gateway, series: Series, placement: Placement, server: int) -> Sample:
    """Run http_load once. CPU time is the gateway's own, between the load's MEASURE and END."""
    pids = gateway.pids()
    placement.pin(process_tree(server), CLIENT_CPU[series.mode])
    placement.pin(pids, GATEWAY_CPU[series.mode])
    client_cpu = CLIENT_CPU[series.mode]
    command = [
        *placement.prefix(series.mode, series.realtime),
        program("http_load"),
        *("--port", str(gateway.port)),
        *("--seconds", str(max(series.seconds, gateway.subject.pace_s)), "--warmup", str(series.warmup)),
        *(("--client-cpu", str(client_cpu)) if client_cpu >= 0 else ()),
        *(("--poll",) if series.mode == "split" else ()),
        *series.load,
        *gateway.load,
    ]
    before = used = calls = 0
    messages: list[str] = []
    # To read a gateway's CPU time on its own CPU is to interrupt it, which is what brings the clock up to date.
    placement.pin([os.getpid()], GATEWAY_CPU[series.mode])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        assert load.stderr is not None
        for line in load.stderr:
            if line.startswith("MEASURE"):
                before = cpu_ns(pids)
            elif line.startswith("END"):
                used, calls = cpu_ns(pids) - before, int(line.split()[1])
            else:
                messages.append(line)
        output = load.stdout.read()
    placement.pin([os.getpid()], -1)
    sample = _sample(output, "".join(messages))
    sample["cpu_us"] = used / 1000 / calls if calls else 0.0
    sample["rss_kb"], sample["pss_kb"] = memory_kb(pids)
    sample["processes"] = len(pids)
    return sample


def _sample(output: str, messages: str) -> Sample:
    try:
        sample: Sample = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"ok": False, "error": messages[-400:] or "no result"}
    if not sample.get("ok"):
        sample["error"] = messages[-400:]
    return sample


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(command: list[str], environment: Mapping[str, str], log: Path | None) -> subprocess.Popen[bytes]:
    """In a process group of its own, so that stop() ends all of it."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=log.parent if log else None,
        )


def _wait_for(process: subprocess.Popen[bytes], port: int, timeout_s: float, log: Path | None) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    state = "ended" if process.poll() is not None else f"not listening after {timeout_s:.0f} s"
    tail = log.read_text(errors="replace")[-400:] if log else ""
    raise StartError(f"{state}: {tail}".strip())


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, SIGKILL after four seconds."""
    for number, grace_s in ((signal.SIGTERM, 4.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
