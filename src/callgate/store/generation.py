"""A counter all processes of one state directory share: "something that decides calls has changed".

Eight bytes in a file, mapped into memory. Reading it is one comparison of memory, so a hot path can ask
before each call. Raised after a change is committed, under an advisory lock, so two writers never leave
the same number.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

from callgate.errors import StoreError

FILE_NAME: Final = "generation"
_SIZE: Final = 8


class Generation:
    """The counter of one state directory. The file is made (mode 0600) when it is not there."""

    __slots__ = ("_descriptor", "map")

    def __init__(self, state_dir: Path) -> None:
        path = state_dir / FILE_NAME
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with _Locked(self._descriptor):
                found = os.fstat(self._descriptor)
                if found.st_size != _SIZE or not found.st_blocks:
                    # Written, not only made longer: a mapped hole ends the process (SIGBUS) once the disk is full.
                    now = os.pread(self._descriptor, _SIZE, 0)
                    os.ftruncate(self._descriptor, _SIZE)
                    os.pwrite(self._descriptor, now.ljust(_SIZE, b"\0"), 0)
            self.map = mmap.mmap(self._descriptor, _SIZE)
            """Compare `map[:]` with what it was: the cheapest way to ask whether anything changed."""
        except OSError as error:
            raise StoreError(
                f"cannot use {path}: {error.strerror}", next_step="check the state directory's owner and free space"
            ) from error

    @property
    def value(self) -> int:
        """The number now."""
        return int.from_bytes(self.map[:], "little")

    def advance(self) -> int:
        """Raise the counter by one; the new number."""
        with _Locked(self._descriptor):
            number = (self.value + 1) % 2**64
            self.map[:] = number.to_bytes(_SIZE, "little")
        return number

    def close(self) -> None:
        """Unmap. Other processes and other objects keep theirs."""
        try:
            self.map.close()
        except BufferError:
            pass  # the native lane still looks at it; it is unmapped with the last who does
        os.close(self._descriptor)


class _Locked:
    """An advisory lock on a descriptor for the length of a block."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *exception: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
