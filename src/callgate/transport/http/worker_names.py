"""What one worker withholds from a list the others refuse by name, too: a log in memory that all of them share.

Made before the fork. A worker adds a line under a lock and wakes the others; each reads what it has not seen, as does
one that takes the place of a worker that crashed, from the start. A line is a key and the rule that withholds it, or an
empty rule where a list showed it. A log that has grown too long is written anew from what its writer knows.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import quote, unquote

from callgate.gate.withheld import Key

MOST_BYTES: Final = 4 << 20
_ERRORS: Final = "surrogatepass"
_HEAD: Final = 16
"""The number of times it was written anew stands before the lines."""


class WorkerNames:
    """See the module. `tell` and `catch_up` raise OSError where there is no memory."""

    def __init__(self, workers: int) -> None:
        self._file = _in_memory()
        self._wakes = [os.pipe() for _ in range(workers)]
        for descriptor in (one for pair in self._wakes for one in pair):
            os.set_blocking(descriptor, False)
        self._index = 0
        self._seen = _HEAD
        self._most = MOST_BYTES
        self._times = b""
        self._known: dict[Key, str] = {}
        self._heard: Callable[[Key, str], None] = lambda _key, _rule: None

    def join(self, index: int, heard: Callable[[Key, str], None]) -> int:
        """Be worker `index`: `heard` is told at the next `catch_up` what all of them withhold, then what is new.

        The descriptor that becomes readable when it is time for that.
        """
        self._index = index
        self._heard = heard
        self._times = b""
        return self._wakes[index][0]

    def tell(self, key: Key, rule: str) -> None:
        """Let all know."""
        with self._locked():
            self._read()
            if self._known.get(key, "") == rule:
                return
            self._append({key: rule})
            self._read()
            if self._seen > self._most:
                self._anew()
        for number, (_, wake) in enumerate(self._wakes):
            if number != self._index:
                with suppress(BlockingIOError):  # it has not looked since it was woken last
                    os.write(wake, b"!")

    def catch_up(self) -> None:
        """Hear what was told since."""
        with suppress(BlockingIOError):
            while os.read(self._wakes[self._index][0], 4096):
                pass
        with self._locked():
            self._read()

    def _read(self) -> None:
        times = os.pread(self._file, _HEAD, 0)
        before: dict[Key, str] = {}
        if times != self._times:
            self._times, self._seen = times, _HEAD
            before, self._known = self._known, {}
        size = os.fstat(self._file).st_size
        data = os.pread(self._file, max(0, size - self._seen), self._seen)
        whole = data[: data.rfind(b"\n") + 1]  # its writer may have been killed in the middle
        self._seen += len(whole)
        for line in whole.splitlines():
            server, principal, method, name, rule = (unquote(one, errors=_ERRORS) for one in line.decode().split(" "))
            key = (server, principal, method, name)
            if rule:
                self._known[key] = rule
            else:
                self._known.pop(key, None)
            self._heard(key, rule)
        for key in before.keys() - self._known.keys():  # shown since, in a line that is no longer there
            self._heard(key, "")

    def _append(self, told: dict[Key, str]) -> None:
        words = ([quote(one, safe="", errors=_ERRORS) for one in (*key, rule)] for key, rule in told.items())
        os.ftruncate(self._file, self._seen)
        os.pwrite(self._file, "".join(" ".join(one) + "\n" for one in words).encode(), self._seen)

    def _anew(self) -> None:
        self._seen = _HEAD
        self._append(self._known)
        times = b"%0*d" % (_HEAD, int(self._times) + 1)
        os.pwrite(self._file, times, 0)
        self._times, self._seen = times, os.fstat(self._file).st_size
        self._most = max(MOST_BYTES, 2 * self._seen)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Of the process, not of the open file, which the workers have in common.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def _in_memory() -> int:
    """A file without a name."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("callgate-names", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.pwrite(descriptor, b"0" * _HEAD, 0)
    return descriptor
