"""Starting programs for a test and making sure that none is left."""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

CALLGATE = str(Path(sys.executable).with_name("callgate"))
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


PORTS = range(20_000, 32_000)
"""Below those that systems give out: no connection of another test takes one before the program that is to have it."""
_next_port = itertools.count(os.getpid() * 97)


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago, and that this process has not given to another test."""
    for number in itertools.islice(_next_port, len(PORTS)):
        port = PORTS[number % len(PORTS)]
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port of 127.0.0.1 is free")


def wait_until(condition: object, seconds: float = 60.0, what: str = "the condition") -> None:
    """Poll `condition()` until it is true. Raises AssertionError with `what` when it never is."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.01)


@contextlib.contextmanager
def lasting_input() -> Iterator[int]:
    """A stdin that neither says anything nor ends: a server ends by itself, however long it took to start."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, *, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on `port` of 127.0.0.1, until the end of the block; then SIGTERM, then SIGKILL."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(log, "ab")) if log else subprocess.DEVNULL
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            wait_until(lambda: process.poll() is not None or listening(port), 90, f"{command[0]} listening")
            said = log.read_text(errors="replace")[-2000:] if log and log.exists() else ""
            assert process.poll() is None, f"{' '.join(command)} ended with {process.returncode}:\n{said}"
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes], seconds: float = 10.0) -> int:
    """End a program started in a session of its own, and whatever it left behind."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def alive(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def rss_bytes(pid: int) -> int:
    """Memory of a process now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def peak_rss_bytes(pid: int) -> int:
    """The most memory a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Pipe:
    """A program's stdin and stdout as lines, with a deadline on every read."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, stderr: Path | None = None
    ) -> None:
        self._stderr = open(stderr, "ab") if stderr else None  # noqa: SIM115 - closed in close()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr or subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def send(self, line: bytes) -> None:
        """Write one line (or, without a newline at the end of `line`, one line all the same)."""
        data = memoryview(line if line.endswith(b"\n") else line + b"\n")
        while data:
            data = data[self._stdin.write(data) :]

    def write(self, data: bytes) -> None:
        self._stdin.write(data)

    def read(self, seconds: float = 60.0) -> bytes:
        """The next line without its newline; b"" when the program closed its output."""
        deadline = time.monotonic() + seconds
        while True:
            if self._lines:
                return self._lines.pop(0)
            left = deadline - time.monotonic()
            assert left > 0, f"no line within {seconds} s"
            if not self._selector.select(left):
                continue
            chunk = os.read(self._stdout.fileno(), 1 << 18)
            if not chunk:
                return b""
            self._buffer += chunk
            if b"\n" in chunk:
                *lines, rest = bytes(self._buffer).split(b"\n")
                self._lines += lines
                self._buffer = bytearray(rest)

    def close_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()

    def close_output(self) -> None:
        self._selector.unregister(self._stdout)
        self._stdout.close()

    def wait(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)

    def close(self) -> None:
        self.close_input()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        stop(self.process)
        self._selector.close()
        self._stdout.close()
        if self._stderr:
            self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
