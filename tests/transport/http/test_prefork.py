"""What a parent of workers lives through: signals at any moment, no process to be had, nobody who reads its stderr."""

from __future__ import annotations

import subprocess
import sys

HEAD = """
import os, signal, sys, time
from callgate.transport.http import prefork

def stop():
    os.kill(os.getppid(), signal.SIGTERM)

def wait(lifeline):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    os.read(lifeline, 1)
    return 0
"""


def ran(program: str, *, readers: bool = True) -> tuple[int, str]:
    """The exit code and stderr of a process; without `readers` its stderr leads nowhere."""
    command = [sys.executable, "-c", HEAD + program]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        if not readers:
            process.stderr.close()
        said = process.stderr.read() if readers else ""
        return process.wait(60), said


def test_a_stop_that_finds_workers_before_they_begin_is_a_good_end() -> None:
    program = """
def run(index, lifeline):
    time.sleep(20)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(prefork.supervise(6, run))
"""
    assert [ran(program) for _ in range(3)] == [(0, "")] * 3


def test_a_stop_while_an_event_loop_begins_is_no_failure() -> None:
    program = """
import asyncio
async def life():
    stop()
    while True:
        await asyncio.sleep(0)
def run(index, lifeline):
    return asyncio.run(life())
sys.exit(prefork.supervise(1, run))
"""
    assert ran(program) == (0, "")


def test_a_worker_that_is_done_takes_no_more_signals() -> None:
    program = """
def run(index, lifeline):
    prefork.finished()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    stop()
    return 0
sys.exit(prefork.supervise(1, run))
"""
    assert ran(program) == (0, "")


def test_workers_wait_for_a_machine_that_has_no_process_for_them() -> None:
    program = """
fork, refused = os.fork, []
def scarce():
    if len(refused) < 2:
        refused.append(1)
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = scarce
def run(index, lifeline):
    if index == 0:
        stop()
    return wait(lifeline)
sys.exit(prefork.supervise(2, run))
"""
    code, said = ran(program)
    assert code == 0
    assert said.count("cannot be started: Resource temporarily unavailable; trying again") == 2


def test_a_stop_does_not_wait_for_workers_that_cannot_start() -> None:
    program = """
def never():
    raise BlockingIOError(11, "Resource temporarily unavailable")
os.fork = never
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(prefork.supervise(2, None))
"""
    assert ran(program)[0] == 0


def test_nobody_who_reads_stderr_is_needed_to_start_a_worker_again() -> None:
    program = """
place = os.memfd_create("runs")
def run(index, lifeline):
    if os.fstat(place).st_size == 0:
        os.write(place, b"1")
        raise ValueError("crashes once")
    stop()
    return wait(lifeline)
sys.exit(prefork.supervise(1, run))
"""
    assert ran(program, readers=False) == (0, "")
