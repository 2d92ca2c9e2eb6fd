"""Signals for a server that may stand behind a sandbox's own processes.

bubblewrap ends at once on a signal and takes the server with it by SIGKILL, which leaves a server no time to put
its things in order. So a signal goes to the processes inside; only SIGKILL goes to the outermost one.
"""

from __future__ import annotations

import os
import signal

SANDBOX_PROCESSES = (b"bwrap\n",)
"""Names (of /proc/PID/comm) of processes that belong to a sandbox, not to the server."""
_MOST = 512
"""Processes looked at; a server with more gets the signal at its outermost process."""


def ending() -> list[signal.Signals]:
    """The signals at which a relay ends. A SIGHUP that is ignored stays so: that is what nohup is for."""
    heard = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if heard else [])]


def signal_server(pid: int, number: int, *, confined: bool) -> None:
    """Signal the server whose outermost process, leader of its group, is `pid`. Nothing happens if it is gone."""
    inside = inner_processes(pid) if confined and number != signal.SIGKILL else []
    for process in inside:
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue
    if not inside:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            return


def inner_processes(pid: int) -> list[int]:
    """The processes below a sandbox's `pid` that are not the sandbox's own; empty where `pid` is no sandbox."""
    found: list[int] = []
    waiting = [pid]
    seen = 0
    while waiting:
        seen += 1
        if seen > _MOST:
            return []
        process = waiting.pop()
        try:
            with open(f"/proc/{process}/comm", "rb") as file:
                sandbox = file.read() in SANDBOX_PROCESSES
            with open(f"/proc/{process}/task/{process}/children", "rb") as file:
                waiting += [int(child) for child in file.read().split()]
        except OSError:
            continue
        if not sandbox:
            if process == pid:
                return []
            found.append(process)
    return found
