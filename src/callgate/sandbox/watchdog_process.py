"""The watchdog's own program: looks at a server's processes once a second and ends them all when they are too much.

A process of its own, started as the stub is (`python -I -S -c BOOT FD`), so that the message path never waits for
it. It imports nothing that is not built in. It ends with the server, or with callgate: then its pipe breaks.
"""

import posix
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callgate.sandbox.watchdog import Watched

_PIDFD, _EVENTS = 4, 5
_KILL, _STOP = 9, 19
_MOST_FILES = 200_000
_DISK_EVERY = 5
"""Turns from one look at the disk to the next, and more when the look takes long."""
_BLOCK = 512
_NAME_TOO_LONG = 36


def children(pid: int) -> "list[int]":
    """The processes that a process started."""
    found: list[int] = []
    try:
        for thread in posix.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(word) for word in file.read().split()]
    except OSError:
        pass
    return found


def tree(root: int) -> "list[int]":
    """A process and all below it."""
    found: list[int] = []
    waiting = [root]
    while waiting and len(found) < 100_000:
        pid = waiting.pop()
        found.append(pid)
        waiting += children(pid)
    return found


def anonymous_bytes(pid: int, page: int) -> int:
    """Memory of its own, quickly: what it shares with a parent counts for both."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * page


def proportional_bytes(pid: int) -> int:
    """Memory with a fair part of what it shares: exact, and dear. Where that is refused, all it has."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss_Anon:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return anonymous_bytes(pid, posix.sysconf("SC_PAGESIZE"))


def threads(pid: int) -> int:
    """How many threads a process has; 0 when it is gone."""
    try:
        return max(0, posix.stat(f"/proc/{pid}/task").st_nlink - 2)
    except OSError:
        return 0


def disk_bytes(directories: "list[str]") -> int:
    """What the files below the directories take, links not followed; too many files, or too deep: too much."""
    total, seen, waiting = 0, 0, list(directories)
    while waiting:
        try:
            with posix.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > _MOST_FILES:
                        return 1 << 62
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
        except OSError as error:
            if error.errno == _NAME_TOO_LONG:
                return 1 << 62  # nested so deep that nobody can look: nothing in there would be counted
            continue
    return total


def excess(watched: "Watched", turn: int) -> "tuple[str, int, int] | None":
    """What is over its limit: (name, used, allowed)."""
    pids = tree(watched["pid"])
    if watched["processes"]:
        used = sum(threads(pid) for pid in pids)
        # bubblewrap and its own first process are in the tree and not in the limit
        if used > watched["processes"] + watched["own_processes"]:
            return "processes", used - watched["own_processes"], watched["processes"]
    if watched["memory"]:
        page = posix.sysconf("SC_PAGESIZE")
        if sum(anonymous_bytes(pid, page) for pid in pids) > watched["memory"]:
            used = sum(proportional_bytes(pid) for pid in pids)
            if used > watched["memory"]:
                return "memory", used, watched["memory"]
    if watched["disk"] and turn % _DISK_EVERY == 0:
        used = disk_bytes(watched["directories"])
        if used > watched["disk"]:
            return "disk", used, watched["disk"]
    return None


def kills(path: str) -> int:
    """How often the kernel ended something in the control group."""
    try:
        with open(path) as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def started_at(pid: int) -> str:
    """When a process was started, in the kernel's ticks: with its number, what tells it from a later one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def end(root: int, *, alone: bool) -> None:
    """Kill the server. Where no process namespace dies with it: stop all below it until there is no new one, then
    kill them, the server last, because callgate is done with us when it ends.
    """
    if not alone:
        _signal(root, _KILL)
        return
    stopped: list[int] = []
    for _ in range(100):
        pids = [pid for pid in tree(root) if pid not in stopped]
        if not pids:
            break
        for pid in pids:
            _signal(pid, _STOP)
        stopped += pids
    for pid in reversed(stopped):
        _signal(pid, _KILL)


def _signal(pid: int, number: int) -> None:
    try:
        posix.kill(pid, number)
    except OSError:
        return


def main(watched: "Watched") -> None:
    """Watch until the server or callgate ends, or a limit is passed. With `alone`, nothing of it stays behind."""
    posix.closerange(_EVENTS + 1, 1 << 20)
    poll = select.poll()
    poll.register(_PIDFD, select.POLLIN)
    poll.register(_EVENTS, 0)
    root, alone = watched["pid"], watched["alone"]
    known: dict[int, str] = {}
    turn = ended = 0
    while not poll.poll(watched["every_ms"]):
        turn += 1
        before, ended = ended, max(ended, kills(watched["kills"]))
        if ended > before:
            posix.write(_EVENTS, f"ended {ended} 0\n".encode())
        found = excess(watched, turn)
        if found:
            end(root, alone=alone)
            name, used, allowed = found
            posix.write(_EVENTS, f"{name} {used} {allowed}\n".encode())
            break
        if alone:
            known = {pid: started_at(pid) for pid in tree(root)}
    for pid, since in known.items():
        if since and started_at(pid) == since:
            _signal(pid, _KILL)
    posix._exit(0)


if __name__ == "__main__":
    sys.exit("this program is started by callgate")
