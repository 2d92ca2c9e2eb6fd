"""Several workers: fork after the imports, watch over them, restart what crashes.

The parent holds no connection and no evidence log. It passes SIGTERM and SIGHUP on, reaps, and ends when
all workers have. A worker whose parent has died drains and ends as well.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from callgate.errors import CallgateError
from callgate.text import visible
from callgate.transport.stderr_relay import to_stderr

QUICK_S = 2.0
"""A worker that ends sooner than this after its start did not really start."""
QUICK_LIMIT = 5
"""So many of those in a row, and the gateway gives up."""

RETRY_S = 1
"""Until a worker is started again for which the machine had no process."""

_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM}


class Terminal:
    """The terminal that a gateway was started in, if any: when it is closed, SIGHUP means the end and no reload."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = next((fd for fd in (2, 0) if os.isatty(fd)), -1)

    def gone(self) -> bool:
        """Whether there was one, and it hung up."""
        return self._fd >= 0 and not os.isatty(self._fd)


def supervise(workers: int, run: Callable[[int, int], int]) -> int:
    """Keep `workers` processes running `run(index, lifeline)`; the exit code of the whole.

    `lifeline` is a file descriptor that becomes readable when the parent is gone. Signals are taken in good order
    before the first worker starts. Returns once a stop was asked for and every worker has ended.
    """
    lifeline, held = os.pipe()
    terminal = Terminal()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    running: dict[int, tuple[int, float]] = {}
    waiting: list[int] = []
    stopping = False
    failed = quick = 0

    def start(index: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            say(f"worker {index} cannot be started: {error.strerror}; trying again")
            waiting.append(index)
            signal.alarm(RETRY_S)
            return
        if pid == 0:
            _live(lambda: run(index, lifeline), held)
        running[pid] = (index, time.monotonic())

    for index in range(workers):
        start(index)
    while running or waiting:
        received = signal.sigwait(_WATCHED)
        if received in (signal.SIGTERM, signal.SIGINT) or (received == signal.SIGHUP and terminal.gone()):
            stopping = True
            waiting.clear()
            _tell(running, signal.SIGTERM)
        elif received == signal.SIGALRM:
            again, waiting[:] = waiting[:], ()
            for index in again:
                start(index)
        elif received == signal.SIGHUP:
            _tell(running, signal.SIGHUP)
        for pid, code in _reap(running):
            index, since = running.pop(pid)
            if stopping:
                failed |= code != 0
                continue
            quick = quick + 1 if time.monotonic() - since < QUICK_S else 0
            if quick >= QUICK_LIMIT:
                say("workers end as soon as they start; giving up")
                stopping = True
                waiting.clear()
                failed = 1
                _tell(running, signal.SIGTERM)
                continue
            say(f"worker {index} ended unexpectedly ({_how(code)}); starting another")
            time.sleep(0.1 * quick)
            start(index)
    os.close(held)
    os.close(lifeline)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    return failed


def _live(run: Callable[[], int], held: int) -> NoReturn:
    """The life of a child: never back into the parent's code, whatever happens, and from its first moment on."""
    code = 3
    try:
        os.close(held)
        # Until the worker's loop takes over: a reload is done then, a stop finds nothing to drain. No exception
        # says so: it would surface anywhere, even where an event loop cannot be closed.
        signal.signal(signal.SIGHUP, _later)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        code = run()
    except CallgateError as error:
        say(f"worker failed: {error.diagnostics()}")
    except Exception as error:  # noqa: BLE001 - the last word of a worker; the parent starts another
        say(f"worker failed: {type(error).__name__}: {visible(str(error), 300)}")
    finally:
        os._exit(code)


def finished() -> None:
    """A worker is done: a further signal changes nothing of its exit code, although its event loop is closed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)


def reload_is_due() -> bool:
    """Whether a reload was asked for before the worker's loop could be told: its configuration may be an older one."""
    return bool(_asked)


_asked: list[int] = []


def _later(number: int, _frame: object) -> None:
    _asked.append(number)


def _leave(_number: int, _frame: object) -> None:
    os._exit(0)


def say(text: str) -> None:
    """One line on stderr, if anybody reads it."""
    to_stderr(f"callgate: {text}\n")


def _reap(running: dict[int, tuple[int, float]]) -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    for pid in running:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def _tell(running: dict[int, tuple[int, float]], number: signal.Signals) -> None:
    for pid in running:
        os.kill(pid, number)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
