"""A scope of systemd's for a server: a control group of version 2 that we may not make ourselves.

On a desktop every control group belongs to systemd, which asks that nobody else makes any. So its manager (the
user's own, or the system's for root) is asked for a transient scope with the limits, by its private socket. A scope
needs a process: a small shell, the keeper, is the first in it. It holds the scope, and the kernel's count of what was
ended in it, until callgate is done; and when callgate dies, whatever way, it ends what is left there.

Putting a process into a group takes the kernel 8 to 25 ms, when nothing did so in the last moment (it waits for all
processors to have seen it). So the scope is asked for before the sandbox is made, and the stub waits for it
(`admit`) as the last thing before it becomes the server, of which nothing runs outside.

Where systemd refuses, nothing is held by this: the watchdog takes over, and `refusal` says why.
"""

from __future__ import annotations

import os
import sys
import time

# The C half: importing the other one costs a launch 3 ms.
from _socket import AF_UNIX, CMSG_SPACE, SO_PASSCRED, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socketpair

from callgate.errors import SandboxError
from callgate.sandbox.cgroup import ROOT, kill_all, kill_count, kills, memory_event, read
from callgate.sandbox.systemd_bus import Connection
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callgate.sandbox.spec import Limits
    from callgate.sandbox.systemd_bus import Property

SECONDS = 5.0
"""For systemd's answer, once it is waited for. A machine that needs longer gets the watchdog."""
STUB_SECONDS = 10.0
"""For the stub to come up: as long as bubblewrap gets."""
_SHELL = "/bin/sh"
_KEEPER = """\
read -r _
read -r group </proc/self/cgroup
case $group in */"$0") echo 1 >"/sys/fs/cgroup${group#0::}/cgroup.kill" ;; esac
"""
"""Waits for the end of its input, that is of callgate, then ends all of the scope, if it is in it."""
_CREDENTIALS = 12
_GO = b"g"
_END_S = 2.0


def manager_socket(user: int) -> str:
    """Where the manager of a user listens; root's is the system's."""
    if user == 0:
        return "/run/systemd/private"
    place = os.environ.get("XDG_RUNTIME_DIR", "")
    # A relative one is to be ignored (XDG Base Directory Specification); it would be below the server's project.
    return os.path.join(place if os.path.isabs(place) else f"/run/user/{user}", "systemd", "private")


def ask(limits: Limits, *, path: str = "", root: str = ROOT) -> Scope | None:
    """Ask for a scope with these limits, and do not wait for it. None: no systemd here, or nothing to limit."""
    if not (limits.memory_bytes or limits.processes or limits.cpus):
        return None
    path = path or manager_socket(os.getuid())
    if not os.path.exists(path) or not os.path.exists(os.path.join(root, "cgroup.controllers")):
        return None
    return Scope(limits, path, root)


class Scope:
    """One server's scope: asked for, then settled, then entered by the stub."""

    fds: tuple[int, ...] = ()

    def __init__(self, limits: Limits, path: str, root: str) -> None:
        self.name = f"callgate-{os.getpid()}-{os.urandom(6).hex()}.scope"
        self.refusal = ""
        """Why it is not in force, in words for a person."""
        self.held = _wanted(limits)
        """Of `memory`, `processes`, `cpus`; until `settle` what was asked for."""
        self._limits = limits
        self._root = root
        self._directory = ""
        self._told = 0
        self._serial = 0
        self._connection: Connection | None = None
        self._own, self._stubs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self._own.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)  # the kernel says who speaks, in our numbers
        self._keeper, self._lifeline = _start_keeper(self.name)
        try:
            self._connection = Connection(path, os.getuid(), SECONDS)
            manager, user = self._connection.peer()
            if user not in (0, os.getuid()):
                raise SandboxError(f"who listens in place of systemd's manager is another user ({user})")
            if not _same_processes(manager):
                raise SandboxError("systemd's manager does not see the same processes as callgate")
            self._serial = self._connection.start_scope(self.name, self._properties())
        except SandboxError as error:
            self._refuse(error.what)
        except BaseException:
            self.close()  # the keeper would wait as long as callgate runs
            raise

    @property
    def meeting(self) -> int:
        """A descriptor for the stub: there it says that it is up, and waits until it is in the group."""
        return self._stubs.fileno()

    def _properties(self) -> list[Property]:
        limits = self._limits
        found: list[Property] = [
            ("Description", "s", f"an MCP server of callgate, process {os.getpid()}"),
            ("PIDs", "au", [self._keeper]),
            ("Delegate", "b", True),
            ("CollectMode", "s", "inactive-or-failed"),
        ]
        if limits.memory_bytes:
            found += [("MemoryMax", "t", limits.memory_bytes), ("MemorySwapMax", "t", 0)]
        if limits.processes:
            found.append(("TasksMax", "t", limits.processes + 1))  # the keeper is one
        if limits.cpus:
            found.append(("CPUQuotaPerSecUSec", "t", int(limits.cpus * 1_000_000)))
        return found

    def settle(self) -> None:
        """Wait for systemd's answer, and look whether it is true. What it does not hold is not in `held` any more."""
        connection = self._connection
        if connection is None or self._directory:
            return
        connection.more_time(SECONDS)
        try:
            while True:
                found = connection.read()
                if found.member == "JobRemoved" and found.words[1:2] == [self.name]:
                    break
            group = _group_of(self._keeper)
            if found.words[2:] != ["done"] or not group.endswith(f"/{self.name}") or "/../" in group:
                raise SandboxError(f"systemd did not start the scope: {visible(' '.join(found.words[2:]), 40)}")
            self._directory = self._root + group
            self.held &= self._in_force()
            if not os.access(_common(_group_of(os.getpid()) or "/", group, self._root), os.W_OK):
                # The stub is where only systemd can take it away: see now that it does.
                connection.attach(self.name, [self._keeper])
        except SandboxError as error:
            self._refuse(error.what)

    def _in_force(self) -> frozenset[str]:
        """What the kernel says that it limits."""
        limits, found = self._limits, set()
        swap = self._number("memory.swap.max")
        if 0 < self._number("memory.max") <= limits.memory_bytes and swap <= 0:
            found.add("memory")
        if 0 < self._number("pids.max") <= limits.processes + 1:
            found.add("processes")
        quota, _, period = read(os.path.join(self._directory, "cpu.max")).strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(quota) <= limits.cpus * int(period) + 1:
            found.add("cpus")
        return frozenset(found)

    def _number(self, name: str) -> int:
        """-1: there is no such file; a limit that is not set is very high."""
        text = read(os.path.join(self._directory, name)).strip()
        return int(text) if text.isdigit() else -1 if not text else 1 << 62

    def _refuse(self, reason: str) -> None:
        self.held = frozenset()
        self.refusal = reason
        self._disconnect()

    def admit(self) -> None:
        """The server's sandbox was spawned: wait for its stub, take it into the scope, let it go on.

        Raises SandboxError where it cannot be taken in after all: it must be killed then. A stub that does not come
        because its sandbox failed is left to who reads its end.
        """
        self.settle()
        self._stubs.close()
        try:
            pid = self._arrived()
            if pid and not self.refusal:
                self._take_in(pid)
            if pid:
                self._own.send(_GO)
        except OSError as error:
            raise SandboxError(f"the server's sandbox did not come up: {error.strerror or 'no time left'}") from error
        finally:
            self.entered()

    def _arrived(self) -> int:
        """The stub's process id as we see it, which the kernel tells; 0 when it ended."""
        self._own.settimeout(STUB_SECONDS)
        found, beside, _, _ = self._own.recvmsg(1, CMSG_SPACE(_CREDENTIALS))
        if not found:
            return 0
        return int.from_bytes(beside[0][2][:4], sys.byteorder) if beside else 0

    def _take_in(self, pid: int) -> None:
        try:
            with open(os.path.join(self._directory, "cgroup.procs"), "w") as file:
                file.write(str(pid))
        except OSError:  # it comes from a group that is not ours: only systemd may move it
            if self._connection is None:
                raise
            self._connection.more_time(SECONDS)
            self._connection.attach(self.name, [pid])
        if self._root + _group_of(pid) != self._directory:
            raise SandboxError("the server could not be put into its control group", next_step="start it again")

    def entered(self) -> None:
        """Nobody enters it any more."""
        self._own.close()
        self._stubs.close()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def kill_count(self) -> str:
        """It is there until `close`, because the keeper is."""
        return kill_count(self._directory) if self._directory else ""

    def read_events(self) -> list[dict[str, object]]:
        """That the kernel ended something in it, once for each time somebody asks after it did."""
        now, before = kills(self.kill_count), self._told
        self._told = max(now, before)
        return [memory_event(now - before)] if now > before else []

    def close(self) -> None:
        """End what is left in it; systemd removes it. Safe to call twice."""
        self.entered()
        keeper, self._keeper = self._keeper, 0
        if not keeper:
            return
        os.close(self._lifeline)
        if self._directory:
            kill_all(self._directory)
        until = time.monotonic() + _END_S
        while os.waitpid(keeper, os.WNOHANG)[0] == 0:
            if time.monotonic() > until:
                os.kill(keeper, 9)
                os.waitpid(keeper, 0)
                break
            time.sleep(0.001)
        while self._directory and "populated 1" in read(os.path.join(self._directory, "cgroup.events")):
            if time.monotonic() > until:
                break
            time.sleep(0.001)


def _wanted(limits: Limits) -> frozenset[str]:
    pairs = (("memory", limits.memory_bytes), ("processes", limits.processes), ("cpus", limits.cpus))
    return frozenset(name for name, value in pairs if value)


def _start_keeper(name: str) -> tuple[int, int]:
    """Its process id, and the descriptor that keeps it waiting."""
    waits, lifeline = os.pipe()
    try:
        pid = os.posix_spawn(
            _SHELL,
            ["sh", "-c", _KEEPER, name],
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, waits, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setpgroup=0,
        )
    except OSError as error:
        os.close(lifeline)
        raise SandboxError(f"{_SHELL} cannot be started: {error.strerror}") from error
    finally:
        os.close(waits)
    return pid, lifeline


def _same_processes(manager: int) -> bool:
    """Whether a number means the same process to the manager and to us: else it would move somebody else's."""
    line = next((one for one in read(f"/proc/{manager}/status").splitlines() if one.startswith("NSpid:")), "")
    return manager > 0 and len(line.split()) == 2


def _group_of(pid: int) -> str:
    """The path of its group below the root of version 2; empty where that does not say."""
    return next((line[3:] for line in read(f"/proc/{pid}/cgroup").splitlines() if line.startswith("0::/")), "")


def _common(one: str, other: str, root: str) -> str:
    """`cgroup.procs` of the nearest group above both: who may write it may move a process from one to the other."""
    return os.path.join(root, os.path.commonpath([one, other]).lstrip("/"), "cgroup.procs")
