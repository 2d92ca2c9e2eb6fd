"""Control groups: for real where this machine gives us one, and by their files where it does not."""

from __future__ import annotations

import dataclasses
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.audit.query import Filter, all_records
from callgate.sandbox import cgroup
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.cgroup import open_group
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import MIB, Limits, SandboxSpec
from callgate.sandbox.watchdog import watch
from tests.sandbox.boxes import needs_bubblewrap, needs_landlock, output, start, stop
from tests.support.gateway import run_command
from tests.support.processes import lasting_input

LIMITS = Limits(processes=20, memory_bytes=200 * MIB, cpus=0.5)


def available() -> frozenset[str]:
    group = open_group(LIMITS)
    if group is None:
        return frozenset()
    group.close()
    return group.held


HELD = available()
needs_memory = pytest.mark.skipif("memory" not in HELD, reason="this machine gives us no control group for memory")
needs_processes = pytest.mark.skipif(
    "processes" not in HELD, reason="this machine gives us no control group for processes"
)
BACKENDS = [
    pytest.param(BubblewrapBackend, id="bubblewrap", marks=needs_bubblewrap),
    pytest.param(LandlockBackend, id="landlock", marks=needs_landlock),
]
SPEC = SandboxSpec("test", environment={"PATH": "/usr/bin:/bin"}, limits=LIMITS)
HOG = (
    "import os, sys\n"
    "for n in range(4):\n"
    "  if os.fork() == 0:\n"
    "    x = b'1' * (80 << 20); os._exit(0)\n"
    "print(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for n in range(4))[0])\n"
)


@needs_memory
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_of_all_processes_is_held(backend: type[BubblewrapBackend | LandlockBackend]) -> None:
    hold = HOG.replace("os._exit(0)", "import time; time.sleep(1); os._exit(0)")
    status, text = output(backend(), SPEC, ["/usr/bin/python3", "-c", hold])
    assert (status, text) == (0, "-9\n") or status == -9
    prepared = backend().prepare(SPEC, ["/usr/bin/true"])
    assert prepared.abandon
    prepared.abandon()
    assert not any("memory" in line and "together" in line for line in prepared.not_enforced)


@needs_processes
@pytest.mark.parametrize("backend", BACKENDS)
def test_processes_are_held_even_for_root(backend: type[BubblewrapBackend | LandlockBackend]) -> None:
    bomb = "i=0; while [ $i -lt 60 ]; do sleep 3 & i=$((i+1)); done; echo all"
    _, text = output(backend(), SPEC, ["/bin/sh", "-c", bomb])
    assert "annot fork" in text and "all" not in text.split()


@needs_memory
def test_the_group_is_gone_with_the_server() -> None:
    box = start(
        LandlockBackend(),
        SPEC,
        ["/bin/sh", "-c", "setsid sleep 1000 & while read x; do echo $x; done < /proc/self/cgroup; echo end; read x"],
    )
    assert box.process.stdout
    lines = list(iter(lambda: box.process.stdout.readline().decode(), "end\n"))  # type: ignore[union-attr]
    name = next(line.strip().rpartition("/")[2] for line in lines if "callgate-" in line)
    found = subprocess.run(["find", cgroup.ROOT, "-name", name], capture_output=True, text=True, check=False)
    assert name in found.stdout
    stop(box)  # and the child that was left behind with it
    found = subprocess.run(["find", cgroup.ROOT, "-name", name], capture_output=True, text=True, check=False)
    assert found.stdout == ""


def test_without_limits_there_is_no_group() -> None:
    assert open_group(Limits(processes=0, memory_bytes=0, cpus=0)) is None


class TestVersion2:
    """The files of a delegated hierarchy, as systemd makes one for a user."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        slice_ = tmp_path / "user.slice" / "app.slice"
        (slice_ / "editor.scope").mkdir(parents=True)
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
        (tmp_path / "cgroup.subtree_control").write_text("memory pids\n")
        (slice_ / "cgroup.subtree_control").write_text("cpu memory pids\n")
        (tmp_path / "own").write_text("0::/user.slice/app.slice/editor.scope\n")
        return tmp_path

    def made(self, tree: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> tuple[cgroup.Group | None, Path]:
        real = os.mkdir

        def mkdir(path: str, mode: int = 0o777) -> None:
            real(path, mode)
            for name in ("cgroup.procs", "memory.swap.max"):
                Path(path, name).touch()

        monkeypatch.setattr(os, "mkdir", mkdir)
        group = open_group(limits, str(tree), str(tree / "own"))
        return group, tree / "user.slice" / "app.slice"

    def test_a_group_is_made_beside_ours(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        group, parent = self.made(tree, LIMITS, monkeypatch)
        assert group and group.held == {"memory", "processes", "cpus"} and len(group.fds) == 1
        (made,) = parent.glob("callgate-*")
        written = {path.name: path.read_text() for path in made.iterdir()}
        assert written == {
            "memory.max": str(200 * MIB),
            "memory.swap.max": "0",
            "pids.max": "20",
            "cpu.max": "50000 100000",
            "cgroup.procs": "",
        }
        group.admit()

    def test_nothing_is_held_that_the_parent_does_not_pass_on(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tree / "user.slice" / "app.slice" / "cgroup.subtree_control").write_text("memory\n")
        group, _ = self.made(tree, LIMITS, monkeypatch)
        assert group and group.held == {"memory"}
        group.admit()

    def test_without_memory_there_is_none(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tree / "user.slice" / "app.slice" / "cgroup.subtree_control").write_text("pids\n")
        (tree / "cgroup.subtree_control").write_text("pids\n")
        group, _ = self.made(tree, LIMITS, monkeypatch)
        assert group is None

    def test_a_group_that_cannot_be_limited_is_taken_away_again(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def mkdir(path: str, mode: int = 0o777) -> None:
            raise OSError(30, "read-only")

        monkeypatch.setattr(os, "mkdir", mkdir)
        assert open_group(LIMITS, str(tree), str(tree / "own")) is None

    def test_a_strange_file_is_no_group(self, tree: Path) -> None:
        for content in ("", "0::\n", "garbage", "\0" * 100, "0::/../../etc\n"):
            (tree / "own").write_text(content)
            group = open_group(LIMITS, str(tree / "nothing"), str(tree / "own"))
            assert group is None


@needs_memory
def test_the_count_of_kills_is_read() -> None:
    group = open_group(dataclasses.replace(SPEC, limits=LIMITS).limits)
    assert group and cgroup.kills(group.kill_count) == 0
    code = f"import os\n[os.write(fd, b'0') for fd in {group.fds}]\nx = b'1' * (300 << 20)"
    found = subprocess.run([sys.executable, "-c", code], pass_fds=group.fds, check=False)
    assert found.returncode == -9 and cgroup.kills(group.kill_count) >= 1
    (event,) = group.read_events()
    assert (event["kind"], event["limit"]) == ("limit", "memory") and group.read_events() == []
    group.close()
    group.close()


@needs_memory
def test_a_kill_is_told_while_the_server_lives_on(tmp_path: Path) -> None:
    group = open_group(LIMITS)
    assert group
    code = (
        f"import os\n[os.write(fd, b'0') for fd in {group.fds}]\n"
        "if os.fork() == 0:\n  x = b'1' * (300 << 20)\nos.wait()\nprint('lives', flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=group.fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        dog = watch(process.pid, SPEC, group, directories=[str(tmp_path)], every_ms=20)
        assert dog is not None
        try:
            assert process.stdout and process.stdout.readline() == b"lives\n"
            events: list[dict[str, object]] = []
            while not any(event["kind"] == "limit" for event in events):
                assert select.select([dog.events_fd], [], [], 30)[0]
                found = dog.read_events()
                assert found
                events += found
            (event,) = [event for event in events if event["kind"] == "limit"]
            assert (event["limit"], event["ended"]) == ("memory", 1)
            assert process.poll() is None and group.read_events() == []
        finally:
            process.kill()
            process.wait()
            dog.close()
            group.close()


GREEDY = (
    "import os, time\n"
    "for n in range(4):\n"
    "  if os.fork() == 0:\n"
    "    x = b'1' * (60 << 20); time.sleep(1); os._exit(0)\n"
    "[os.wait() for n in range(4)]\n"
)


@needs_memory
@needs_bubblewrap
def test_a_kill_is_in_the_evidence(tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY)
    (tmp_path / "callgate.toml").write_text("[servers.greedy.sandbox]\nmemory_mib = 100\n")
    environment = {
        **os.environ,
        "CALLGATE_STATE_DIR": str(tmp_path / "state"),
        "CALLGATE_CONFIG": str(tmp_path / "callgate.toml"),
    }
    command = run_command(["/usr/bin/python3", str(tmp_path / "greedy.py")], "--name", "greedy")
    with lasting_input() as stdin:
        subprocess.run(command, env=environment, stdin=stdin, check=False, timeout=60)
    told = [
        one["fields"] for _, one in all_records(tmp_path / "state" / "audit", Filter()) if one.get("what") == "sandbox"
    ]
    assert any(one["kind"] == "limit" and one["limit"] == "memory" and one["ended"] >= 1 for one in told), told
