"""A scope that systemd does not give: nothing is held, the reason is said, and the server starts all the same.

That it holds where systemd gives it is proved on a machine with systemd: tests/machine/test_limits.py.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from callgate.sandbox import cgroup, systemd
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import MIB, Limits, SandboxSpec
from callgate.sandbox.systemd_bus import Connection
from tests.sandbox.boxes import needs_bubblewrap, needs_landlock, output
from tests.sandbox.test_systemd_bus import OK, job_removed

LIMITS = Limits(processes=20, memory_bytes=200 * MIB, cpus=0.5)
SPEC = SandboxSpec("test", environment={"PATH": "/usr/bin:/bin"}, limits=LIMITS)
BACKENDS = [
    pytest.param(BubblewrapBackend, id="bubblewrap", marks=needs_bubblewrap),
    pytest.param(LandlockBackend, id="landlock", marks=needs_landlock),
]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of control groups of version 2, and nobody at the manager's socket yet."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    real = systemd.ask
    monkeypatch.setattr(systemd, "ask", lambda limits: real(limits, path=str(tmp_path / "private"), root=str(tmp_path)))
    return tmp_path


@pytest.fixture
def manager(tree: Path) -> Iterator[Callable[[bytes], None]]:
    """A manager that answers everybody with the same; `{}` in it becomes the scope's name."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tree / "private"))
    server.listen()
    ended = threading.Event()

    def serve(content: bytes) -> None:
        while not ended.is_set():
            try:
                one, _ = server.accept()
            except OSError:
                return
            with one, suppress(OSError):
                asked = b""
                while b"StartTransientUnit" not in asked or b".scope" not in asked:
                    asked += one.recv(4096)
                at = asked.index(b"callgate-")
                name = asked[at : asked.index(b".scope", at) + 6].decode()
                one.sendall(content.replace(NAME.encode(), name.encode()))
                while content and one.recv(4096):
                    pass

    def said(content: bytes) -> None:
        threading.Thread(target=serve, args=(content,), daemon=True).start()

    yield said
    ended.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


NAME = f"callgate-{os.getpid()}-000000000000.scope"


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_without_systemd_there_is_none(tree: Path) -> None:
    assert systemd.ask(LIMITS) is None


def test_without_version_2_there_is_none(tree: Path, manager: Callable[[bytes], None]) -> None:
    (tree / "cgroup.controllers").unlink()
    assert systemd.ask(LIMITS) is None


def test_without_limits_there_is_none(tree: Path, manager: Callable[[bytes], None]) -> None:
    assert systemd.ask(Limits(processes=0, memory_bytes=0, cpus=0)) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "closed the connection"),
        (b"REJECTED\r\n", "does not let us in"),
        (OK + job_removed(NAME, "failed"), "did not start the scope: failed"),
        # It says that it is done, and the kernel does not: the keeper is where it was.
        (OK + job_removed(NAME, "done"), "did not start the scope: done"),
    ],
    ids=["closed", "rejected", "failed", "done"],  # the scope's name holds a process id, another in each worker
)
def test_a_refusal_is_said_and_nothing_is_held(
    tree: Path, manager: Callable[[bytes], None], content: bytes, reason: str
) -> None:
    manager(content)
    scope = systemd.ask(LIMITS)
    assert scope is not None and scope.held == {"memory", "processes", "cpus"}
    keeper = scope._keeper
    scope.settle()
    assert reason in scope.refusal and scope.held == frozenset()
    assert scope.read_events() == [] and alive(keeper)
    scope.close()
    scope.close()
    assert not alive(keeper)


def test_a_manager_that_says_nothing_is_not_waited_for_long(
    tree: Path, manager: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "SECONDS", 0.1)
    manager(OK)
    scope = systemd.ask(LIMITS)
    assert scope is not None
    scope.settle()
    assert "in time" in scope.refusal
    scope.close()


def test_a_manager_of_other_processes_is_not_asked(
    tree: Path, manager: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "peer", lambda self: (0, os.getuid()))
    manager(OK)
    scope = systemd.ask(LIMITS)
    assert scope is not None and "same processes" in scope.refusal
    scope.close()


def test_no_keeper_is_left_where_there_are_no_descriptors(
    tree: Path, manager: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    real = systemd._start_keeper

    def keeper(name: str) -> tuple[int, int]:
        found = real(name)
        started.append(found[0])
        return found

    def none(*_: object) -> Connection:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(systemd, "_start_keeper", keeper)
    monkeypatch.setattr(systemd, "Connection", none)
    with pytest.raises(OSError, match="Too many"):
        systemd.ask(LIMITS)
    assert started and not alive(started[0])


def test_another_users_socket_in_its_place_is_not_asked(
    tree: Path, manager: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "peer", lambda self: (os.getpid(), 4711))
    scope = systemd.ask(LIMITS)
    assert scope is not None and "another user (4711)" in scope.refusal
    scope.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_server_starts_watched_and_it_is_said(
    tree: Path, manager: Callable[[bytes], None], backend: type[BubblewrapBackend | LandlockBackend]
) -> None:
    manager(OK + job_removed(NAME, "failed"))
    assert output(backend(), SPEC, ["/bin/echo", "here"]) == (0, "here\n")
    prepared = backend().prepare(SPEC, ["/bin/true"])
    assert prepared.settled and prepared.abandon
    assert not any("memory of all" in line for line in prepared.not_enforced)
    more = prepared.settled()
    prepared.abandon()
    assert more[0] == "no control group: systemd did not start the scope: failed"
    assert any("memory of all processes together" in line for line in more)
    assert any("processors" in line for line in more)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stub_that_does_not_come_is_an_error_and_ends(
    tree: Path,
    manager: Callable[[bytes], None],
    backend: type[BubblewrapBackend | LandlockBackend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was spawned is not the stub, and holds its descriptor: killed before callgate lets go of its own."""
    import subprocess

    from callgate.errors import SandboxError

    monkeypatch.setattr(systemd, "STUB_SECONDS", 0.2)
    manager(OK + job_removed(NAME, "failed"))
    prepared = backend().prepare(SPEC, ["/bin/true"])
    process = subprocess.Popen(["/bin/sleep", "60"], pass_fds=prepared.pass_fds)
    with pytest.raises(SandboxError, match="did not come up"):
        assert prepared.started
        prepared.started(process.pid)
    assert process.wait(timeout=60) == -9


def test_the_keeper_ends_nothing_that_is_not_its_scope(tmp_path: Path) -> None:
    """It is in the group of this very test here."""
    keeper, lifeline = systemd._start_keeper("callgate-no-such.scope")
    os.close(lifeline)
    until = time.monotonic() + 60
    while os.waitpid(keeper, os.WNOHANG)[0] == 0:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert cgroup.read("/proc/self/cgroup")


def test_the_group_of_a_user_is_asked_for_at_the_users_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert systemd.manager_socket(0) == "/run/systemd/private"
    assert systemd.manager_socket(7) == "/run/user/7/systemd/private"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "below/the/project")
    assert systemd.manager_socket(7) == "/run/user/7/systemd/private"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert systemd.manager_socket(8) == "/run/user/8/systemd/private"
