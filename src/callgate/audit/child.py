"""A short-lived `python -P` of our own, for work that is too heavy for the process that carries messages.

It gets one line on its standard input, writes one line and is gone. No call here waits for it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

_ANSWER_BYTES: Final = 4096


def _options() -> tuple[str, ...]:
    """The interpreter's options: what is a server's PYTHONPATH, and not the gate's, is not the child's either."""
    return ("-E", "-P") if sys.flags.ignore_environment else ("-P",)


class Child:
    """At most one such process at a time. `program` is Python code, `arguments` its `sys.argv[1:]`."""

    __slots__ = ("_answer", "_arguments", "_pid", "_program")

    def __init__(self, program: str, *arguments: str) -> None:
        self._program = program
        self._arguments = arguments
        self._pid = 0
        self._answer = -1

    @property
    def busy(self) -> bool:
        """Whether an answer is still to be taken."""
        return self._answer >= 0

    def start(self, question: bytes) -> bool:
        """Ask. False when no process can be started, or one is at work."""
        self._reap()
        if self.busy or not sys.executable:
            return False
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            asked, ask, answer, reply = pipes
            os.write(ask, question + b"\n")
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *_options(), "-c", self._program, *self._arguments],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, asked, 0),
                    (os.POSIX_SPAWN_DUP2, reply, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
            os.set_blocking(answer, False)
        except OSError:  # no descriptor or no process to be had
            return False
        else:
            pipes.remove(answer)
            self._answer = answer
            return True
        finally:
            for descriptor in pipes:
                os.close(descriptor)

    def take(self) -> bytes | None:
        """The answer, after which the next may be asked for; empty when the process failed. None: not yet."""
        if not self.busy:
            return None
        try:
            answer = os.read(self._answer, _ANSWER_BYTES)
        except BlockingIOError:
            return None
        self.drop()
        return answer

    def drop(self) -> None:
        """Forget the answer under way."""
        if self.busy:
            answer, self._answer = self._answer, -1  # first: an interrupt must not leave a number that is not ours
            os.close(answer)
            self._reap()

    def _reap(self) -> None:
        """Take the exit status, so that no zombie stays longer than until the next question."""
        if self._pid:
            with suppress(ChildProcessError):
                if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                    return
            self._pid = 0
