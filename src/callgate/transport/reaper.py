"""No orphan, even when the gateway itself is killed: a small process that outlives it just long enough.

The gateway tells the reaper which process groups exist (`+123`, `-123`, one a line). The pipe ends
when the gateway ends, however it ended, and the reaper then stops the groups that are left: SIGTERM,
one second, SIGKILL. This needs no code between fork and exec (`preexec_fn`, which is unsafe beside
threads) and reaches whole groups, which PR_SET_PDEATHSIG does not. A process that leaves its group
(setsid) is out of reach; containing that is the sandbox's work.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # the script must start quickly: `typing` is not imported
if TYPE_CHECKING:
    import subprocess

_TERM, _KILL = 15, 9
GRACE_S = 1.0

_reapers: dict[int, Reaper] = {}


class Reaper:
    """The gateway's end of the pipe. One for each gateway process."""

    __slots__ = ("_groups", "_process")

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The reaper's process id, 0 when there is none."""
        return self._process.pid if self._process else 0

    def add(self, group: int) -> None:
        """Stop `group` should the gateway end."""
        self._groups.add(group)
        if self._process is None or not self._tell(b"+%d\n" % group):
            self._start()

    def remove(self, group: int) -> None:
        """`group` has ended and been waited for; its number may be used again."""
        self._groups.discard(group)
        if self._process is not None and not self._tell(b"-%d\n" % group):
            self._start()

    def close(self) -> None:
        """The gateway ends in good order: what is left is stopped now, and the reaper is waited for."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()

    def _tell(self, line: bytes) -> bool:
        """Write to the reaper; False when somebody has killed it."""
        process = self._process
        if process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(line)
        except OSError:
            process.stdin.close()
            process.wait()
            self._process = None
            return False
        return True

    def _start(self) -> None:
        import subprocess

        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            bufsize=0,
            start_new_session=True,
        )
        for group in self._groups:
            self._tell(b"+%d\n" % group)


def reaper() -> Reaper:
    """The reaper of this process (a forked worker gets its own)."""
    pid = os.getpid()
    found = _reapers.get(pid)
    if found is None:
        import atexit

        found = _reapers[pid] = Reaper()
        atexit.register(found.close)
    return found


def watch(source: int) -> set[int]:
    """Read announcements until the gateway is gone; the groups that are left."""
    groups: set[int] = set()
    rest = b""
    while chunk := os.read(source, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    return groups


def stop_groups(groups: set[int], number: int) -> set[int]:
    """Signal every group; those that still exist."""
    left = set()
    for group in groups:
        try:
            os.killpg(group, number)
            left.add(group)
        except OSError:
            pass
    return left


if __name__ == "__main__":
    remaining = stop_groups(watch(0), _TERM)
    if remaining:
        time.sleep(GRACE_S)
        stop_groups(remaining, _KILL)
