"""The relay's native loop: what passes below, what it tells Python, in which order, and when it lets Python look up."""

from __future__ import annotations

import _thread
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import pytest

from callgate.config import Config
from callgate.gate.engine import Gate
from tests.audit.evidence import new_journal, report_of
from tests.core.messages import answer, call, needs_core
from tests.core.test_lane import cleared

READY, READ, UNWRITTEN = 0, 1, 2
ACTIVE_MS = 250
_LATE_S = 20.0
"""A loop that does not come back is ended by then, and the test fails."""


class Pipes:
    """A client, a server and a waker, as pipes, around one loop."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.journal = new_journal(state)
        self.gate = Gate(Config(), [cleared()], self.journal)
        self.channel = self.gate.channel(server="s", principal="p")
        self.client, self.to_server, self.server, self.to_client, self.wake = (os.pipe() for _ in range(5))
        self.poller = select.epoll()
        for pair in (self.client, self.to_server, self.server, self.to_client, self.wake):
            for fd in pair:
                os.set_blocking(fd, False)
        for fd in (self.client[0], self.server[0], self.wake[0]):
            self.poller.register(fd, select.EPOLLIN)
        self.make_pump()
        for number in (1001, 1002):  # the forms are known from here on
            self.channel.client(call(number))
            self.channel.server(answer(number))

    def make_pump(self) -> None:
        self.pump = needs_core().Pump(
            self.poller.fileno(), self.channel.express, self.channel,
            (self.client[0], self.to_server[1], 65536), (self.server[0], self.to_client[1], 65536), ACTIVE_MS,
        )  # fmt: skip

    def says(self, *lines: bytes) -> None:
        os.write(self.client[1], b"".join(line + b"\n" for line in lines))

    def serves(self, *lines: bytes) -> None:
        os.write(self.server[1], b"".join(line + b"\n" for line in lines))

    def turn(self, timeout_ms: int = 0, *, alone: bool = False) -> Any:
        return self.pump.turn(timeout_ms, True, True, alone)

    def close(self) -> None:
        del self.pump  # here, where it was made: else whichever thread collects garbage next drops it, and may not
        self.gate.close()
        self.journal.close()
        self.poller.close()
        for pair in (self.client, self.to_server, self.server, self.to_client, self.wake):
            for fd in pair:
                try:
                    os.close(fd)
                except OSError:
                    continue


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Pipes]:
    needs_core()
    made = Pipes(tmp_path)
    yield made
    made.close()
    assert report_of(tmp_path).verified


@pytest.fixture
def in_time() -> Iterator[None]:
    """A signal ends a wait that nothing ends."""

    def late(number: int, frame: object) -> None:
        raise AssertionError("the loop did not come back")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _LATE_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_plain_lines_pass_in_one_write_and_are_on_record(pipes: Pipes) -> None:
    before = pipes.journal.seq
    pipes.says(call(1), call(2), call(3))
    assert pipes.turn() is None
    assert os.read(pipes.to_server[0], 65536) == b"".join(call(n) + b"\n" for n in (1, 2, 3))
    assert list(pipes.channel.pending) == [1, 2, 3]
    pipes.serves(answer(2), answer(1))
    assert pipes.turn() is None
    assert os.read(pipes.to_client[0], 65536) == answer(2) + b"\n" + answer(1) + b"\n"
    assert list(pipes.channel.pending) == [3]
    assert pipes.journal.seq == before + 5
    assert pipes.pump.take_passed() == (True, True)
    assert pipes.pump.take_passed() == (False, False)


@pytest.mark.parametrize(
    "rest",
    [
        call(7)[:-5], call(7) + b"\r\n", b"\n" + call(7) + b"\n", b" " + call(7) + b"\n", call(7, name="bad") + b"\n",
        call(1) + b"\n" + call(7) + b"\n", b"\0\n", b"\xff\n" + call(8) + b"\n", call(7, {"n": 1.5}) + b"\n",
    ],
)  # fmt: skip
def test_what_is_not_plain_comes_to_python_with_all_behind_it(pipes: Pipes, rest: bytes) -> None:
    os.write(pipes.client[1], call(1) + b"\n" + rest)
    before = pipes.journal.seq
    assert pipes.turn() == [(pipes.client[0], READ, rest)]
    assert os.read(pipes.to_server[0], 65536) == call(1) + b"\n"
    assert pipes.journal.seq == before + 1


def test_a_lane_that_is_not_free_is_not_read(pipes: Pipes) -> None:
    pipes.says(call(1))
    assert pipes.pump.turn(0, False, True, False) == [(pipes.client[0], READY, None)]
    assert os.read(pipes.client[0], 65536) == call(1) + b"\n"


def test_ends_and_broken_pipes(pipes: Pipes) -> None:
    os.close(pipes.to_server[0])
    pipes.says(call(1))
    assert pipes.turn() == [(pipes.client[0], UNWRITTEN, None)]
    os.close(pipes.client[1])
    assert pipes.turn() == [(pipes.client[0], READY, None)]


def test_a_line_begun_is_told_before_what_else_goes_to_its_reader(pipes: Pipes) -> None:
    """A refusal for the client, decided first, would stand in the middle of an answer that the pipe took half of."""
    size = fcntl.fcntl(pipes.to_client[1], fcntl.F_SETPIPE_SZ, 4096)
    for number in (1, 2, 3):
        pipes.channel.client(call(number))
    pipes.says(b"not JSON")
    pipes.serves(*(answer(number, "x" * (size // 2)) for number in (1, 2, 3)))
    os.write(pipes.wake[1], b"x")
    told = pipes.turn()
    assert [what for _, what, _ in told] == [UNWRITTEN, READ, READY]
    assert told[0][0] == pipes.server[0]
    half = os.read(pipes.to_client[0], 65536)
    assert half + told[0][2] == b"".join(answer(number, "x" * (size // 2)) + b"\n" for number in (1, 2, 3))


def test_what_was_read_is_told_before_what_is_only_ready(pipes: Pipes) -> None:
    """Of an exit that is handled first Python would read on, and have the end of the stream before its middle."""
    os.write(pipes.wake[1], b"x")
    assert pipes.turn() == [(pipes.wake[0], READY, None)]  # the first in the poller's order
    pipes.serves(b"not JSON")
    assert pipes.turn() == [(pipes.server[0], READ, b"not JSON\n"), (pipes.wake[0], READY, None)]


def test_after_a_message_there_is_an_idle_moment(pipes: Pipes, in_time: None) -> None:
    """However long it was to wait for the first one: its evidence waits for the disk."""
    pipes.says(call(1))
    started = time.monotonic()
    assert pipes.turn(-1) is None
    assert 0.2 < time.monotonic() - started < _LATE_S / 2
    assert list(pipes.channel.pending) == [1]


@pytest.mark.parametrize("pause", [0.02, 0.002])
def test_traffic_that_never_pauses_does_not_keep_python_from_looking_up(
    pipes: Pipes, in_time: None, pause: float
) -> None:
    """Timers run out while messages pass, and there is evidence to sync."""
    done = Event()

    def talk() -> None:
        number = 0
        while not done.wait(pause):
            number += 1
            pipes.says(call(number))

    talking = Thread(target=talk)
    talking.start()
    try:
        started = time.monotonic()
        assert pipes.turn(-1) == []
        assert 0.2 < time.monotonic() - started < _LATE_S / 2
        assert len(pipes.channel.pending) > 1
    finally:
        done.set()
        talking.join()


STEADY = 40
"""More rounds than it takes until the loop waits in its cheaper way."""


class Talk(Thread):
    """A client that asks again as soon as its request has arrived; then `last` is done."""

    def __init__(self, pipes: Pipes, last: Callable[[], object]) -> None:
        super().__init__()
        self._pipes = pipes
        self._last = last
        self.arrived = bytearray()

    def run(self) -> None:
        for number in range(STEADY):
            self._pipes.says(call(number))
            self.until(number + 1)
        self._last()

    def until(self, lines: int) -> None:
        """Read what arrives at the server, till it is so many lines."""
        source = self._pipes.to_server[0]
        while self.arrived.count(b"\n") < lines:
            if select.select([source], [], [], _LATE_S)[0]:
                self.arrived += os.read(source, 65536)


def told_until_ready(pipes: Pipes, fd: int) -> list[Any]:
    """What the loop tells, up to and with `fd` being ready."""
    told: list[Any] = []
    while (fd, READY, None) not in told:
        told += pipes.turn(-1) or []
    return told


def test_steady_traffic_ends_with_its_stream(pipes: Pipes, in_time: None) -> None:
    """The end comes together with a line: no news of it may be lost."""

    def last() -> None:
        pipes.says(call(STEADY))
        os.close(pipes.client[1])

    talk = Talk(pipes, last)
    talk.start()
    assert told_until_ready(pipes, pipes.client[0]) == [(pipes.client[0], READY, None)]
    talk.until(STEADY + 1)
    talk.join()
    assert bytes(talk.arrived) == b"".join(call(number) + b"\n" for number in range(STEADY + 1))


def test_steady_traffic_is_relayed_whole_when_it_is_more_than_one_read(pipes: Pipes, in_time: None) -> None:
    """Of what a read left behind, a poller that reports only news says nothing. Here each read ends with a line."""
    fcntl.fcntl(pipes.client[1], fcntl.F_SETPIPE_SZ, 1 << 20)
    fcntl.fcntl(pipes.to_server[1], fcntl.F_SETPIPE_SZ, 1 << 20)
    many = [call(2000 + number, {"a": "x" * (2047 - len(call(2000, {"a": ""})))}) for number in range(64)]

    def last() -> None:
        pipes.says(*many)
        talk.until(STEADY + len(many))
        os.write(pipes.wake[1], b"x")

    talk = Talk(pipes, last)
    talk.start()
    assert told_until_ready(pipes, pipes.wake[0]) == [(pipes.wake[0], READY, None)]
    talk.join()
    assert bytes(talk.arrived).endswith(b"".join(line + b"\n" for line in many))


def test_after_steady_traffic_the_poller_is_python_s_as_before(pipes: Pipes, in_time: None) -> None:
    talk = Talk(pipes, lambda: os.write(pipes.wake[1], b"x"))
    talk.start()
    assert told_until_ready(pipes, pipes.wake[0]) == [(pipes.wake[0], READY, None)]
    talk.join()
    os.read(pipes.wake[0], 1)
    pipes.says(call(STEADY))
    for _ in range(2):  # as long as it is not read
        assert pipes.poller.poll(0) == [(pipes.client[0], select.EPOLLIN)]


def test_steady_traffic_goes_on_where_one_source_is_not_waited_for(pipes: Pipes, in_time: None) -> None:
    pipes.poller.unregister(pipes.server[0])
    talk = Talk(pipes, lambda: os.write(pipes.wake[1], b"x"))
    talk.start()
    assert told_until_ready(pipes, pipes.wake[0]) == [(pipes.wake[0], READY, None)]
    talk.join()
    assert pipes.poller.poll(0) == [(pipes.wake[0], select.EPOLLIN)]


def test_a_terminal_s_lines_come_one_by_one_and_none_waits(pipes: Pipes, in_time: None) -> None:
    """A read brings one line of it, however many there are: here only a poller that says so each time is enough."""
    master, terminal = os.openpty()
    settings = termios.tcgetattr(terminal)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
    os.set_blocking(terminal, False)
    os.dup2(terminal, pipes.client[0], inheritable=False)
    os.dup2(master, pipes.client[1], inheritable=False)
    os.close(terminal)
    os.close(master)
    pipes.poller.register(pipes.client[0], select.EPOLLIN)
    pipes.make_pump()

    def last() -> None:
        pipes.says(*(call(STEADY + number) for number in range(8)))
        talk.until(STEADY + 8)
        os.write(pipes.wake[1], b"x")

    talk = Talk(pipes, last)
    talk.start()
    assert told_until_ready(pipes, pipes.wake[0]) == [(pipes.wake[0], READY, None)]
    talk.join()
    assert talk.arrived.count(b"\n") == STEADY + 8


def test_a_thread_that_did_not_begin_yet_begins_while_it_waits(pipes: Pipes) -> None:
    """A thread counts once it has run; one that was started a moment ago waits for the interpreter's lock unseen."""
    alarm = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, _LATE_S)
    try:
        _thread.start_new_thread(os.write, (pipes.wake[1], b"x"))
        assert pipes.turn(-1, alone=True) == [(pipes.wake[0], READY, None)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)


def test_a_signal_ends_a_wait(pipes: Pipes) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert pipes.turn(int(_LATE_S * 1000), alone=True) == []
        assert seen == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)


HANGING = """
import sys
from callgate.cli.main import main
from callgate.transport import stdio
stdio.HANG_S = 0.2
sys.exit(main())
"""
TICKING = """
import os, sys
from callgate.audit.writer import Journal
from callgate.cli.main import main
def tick(self, before=Journal.tick):
    os.write(2, b"tick\\n")
    return before(self)
Journal.tick = tick
sys.exit(main())
"""
DEAF_TO_SEVEN = """
import sys
for line in sys.stdin.buffer:
    number = line.partition(b'"id":')[2].partition(b",")[0]
    if number != b"7":
        sys.stdout.buffer.write(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\\n' % number)
        sys.stdout.buffer.flush()
"""
ECHO = """
import sys
for line in sys.stdin.buffer:
    number = line.partition(b'"id":')[2].partition(b",")[0]
    sys.stdout.buffer.write(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\\n' % number)
    sys.stdout.buffer.flush()
"""


class Running:
    """`callgate run`, as `program` makes it, before the server `script`."""

    def __init__(self, program: str, script: str, state: Path, lane: str) -> None:
        if lane == "on":
            needs_core()
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, "run", "--name", "t", "--", sys.executable, "-c", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "CALLGATE_STATE_DIR": str(state), "CALLGATE_NATIVE": lane},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin, self._stdout, self._stderr = self._process.stdin, self._process.stdout, self._process.stderr
        os.set_blocking(self._stderr.fileno(), False)

    def send(self, number: int) -> None:
        self._stdin.write(call(number) + b"\n")
        self._stdin.flush()

    def ask(self, number: int) -> None:
        self.send(number)
        assert self._stdout.readline()

    def said(self) -> bytes:
        """What is there to be read of its stderr."""
        return self._stderr.read() or b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.parametrize("lane", ["on", "off"])
def test_a_request_that_hangs_is_reported_between_messages_that_keep_coming(tmp_path: Path, lane: str) -> None:
    said = b""
    with Running(HANGING, DEAF_TO_SEVEN, tmp_path, lane) as relay:
        relay.send(7)
        until = time.monotonic() + _LATE_S
        number = 10
        while b"no answer to" not in said and time.monotonic() < until:
            number += 1
            relay.ask(number)
            time.sleep(0.01)
            said += relay.said()
    assert b"no answer to tools/call (id 7)" in said


@pytest.mark.parametrize("lane", ["on", "off"])
def test_evidence_is_synced_between_messages_that_keep_coming(tmp_path: Path, lane: str) -> None:
    """Calls of an unlisted tool, which Python judges each: at every one there is something to do."""
    with Running(TICKING, ECHO, tmp_path, lane) as relay:
        for number in range(60):
            relay.ask(number)
            time.sleep(0.02)
        ticks = relay.said().count(b"tick\n")
    assert ticks >= 3
