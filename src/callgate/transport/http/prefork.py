"""Several workers: fork after the imports, watch over them, restart what crashes.

The parent holds no connection and no evidence log. It passes SIGTERM and SIGHUP on, reaps, and ends when
all workers have. A worker whose parent has died drains and ends as well.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

QUICK_S = 2.0
"""A worker that ends sooner than this after its start did not really start."""
QUICK_LIMIT = 5
"""So many of those in a row, and the gateway gives up."""

_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def supervise(workers: int, run: Callable[[int, int], int]) -> int:
    """Keep `workers` processes running `run(index, lifeline)`; the exit code of the whole.

    `lifeline` is a file descriptor that becomes readable when the parent is gone. Returns once a stop was
    asked for and every worker has ended.
    """
    lifeline, held = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    running: dict[int, tuple[int, float]] = {}
    stopping = False
    failed = quick = 0

    def start(index: int) -> None:
        pid = os.fork()
        if pid == 0:
            os.close(held)
            # Until the worker's loop takes over: a reload is what it does anyway, a stop finds nothing to drain.
            signal.signal(signal.SIGHUP, _ignore)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            _end(lambda: run(index, lifeline))
        running[pid] = (index, time.monotonic())

    for index in range(workers):
        start(index)
    while running:
        received = signal.sigwait(_WATCHED)
        if received in (signal.SIGTERM, signal.SIGINT):
            stopping = True
            _tell(running, signal.SIGTERM)
        elif received == signal.SIGHUP:
            _tell(running, signal.SIGHUP)
        for pid, code in _reap(running):
            index, since = running.pop(pid)
            if stopping:
                failed |= code != 0
                continue
            quick = quick + 1 if time.monotonic() - since < QUICK_S else 0
            if quick >= QUICK_LIMIT:
                sys.stderr.write("callgate: workers end as soon as they start; giving up\n")
                stopping = True
                failed = 1
                _tell(running, signal.SIGTERM)
                continue
            sys.stderr.write(f"callgate: worker {index} ended unexpectedly ({_how(code)}); starting another\n")
            time.sleep(0.1 * quick)
            start(index)
    os.close(held)
    os.close(lifeline)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    return failed


def _ignore(number: int, frame: object) -> None:
    """Unlike SIG_IGN, not inherited by the programs a worker starts."""


def _end(run: Callable[[], int]) -> None:
    """The life of a child: never back into the parent's code."""
    code = 3
    try:
        code = run()
    except KeyboardInterrupt:
        code = 0
    except Exception as error:  # noqa: BLE001 - the last word of a worker; the parent starts another
        sys.stderr.write(f"callgate: worker failed: {type(error).__name__}: {error}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


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
