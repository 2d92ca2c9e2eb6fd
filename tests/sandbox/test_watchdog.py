"""The watchdog ends a server that passes a limit which nothing else holds, whole, and says so once."""

from __future__ import annotations

import dataclasses
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callgate.sandbox import watchdog_process
from callgate.sandbox.backend_running import Together
from callgate.sandbox.cgroup import Group
from callgate.sandbox.spec import MIB, Limits, SandboxSpec
from callgate.sandbox.watchdog import Watchdog, watch
from tests.sandbox import boxes_user
from tests.sandbox.boxes import needs_landlock
from tests.sandbox.test_bubblewrap import alive, descendants

SPEC = SandboxSpec("test", limits=Limits(processes=0, memory_bytes=0, disk_bytes=0))
FAST = 20
SECONDS = 30


@contextmanager
def program(code: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdin
        try:
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            process.kill()


def limited(**limits: int) -> SandboxSpec:
    return dataclasses.replace(SPEC, limits=Limits(**{"processes": 0, "memory_bytes": 0, "disk_bytes": 0, **limits}))  # type: ignore[arg-type]


def begun(dog: Watchdog | None) -> Watchdog:
    """Until it has begun to look."""
    assert dog
    assert select.select([dog.events_fd], [], [], SECONDS)[0]
    assert dog.read_events() == [{"kind": "watch", "state": "started"}]
    return dog


def told(dog: Watchdog) -> list[dict[str, object]]:
    assert select.select([dog.events_fd], [], [], SECONDS)[0]
    return dog.read_events()


def wait(condition: object) -> bool:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.005)
    return False


CHILDREN = """
import os, sys
for n in range({count}):
    if os.fork() == 0:
        os.setsid()
        held = b"1" * ({mib} << 20)
        os.write({told}, b"1")
        sys.stdin.read()
        os._exit(0)
print("up", flush=True)
sys.stdin.read()
"""


def family(count: int, mib: int) -> str:
    code = "import os\nr, w = os.pipe()\n" + CHILDREN.format(count=count, mib=mib, told="w")
    return code.replace('print("up"', f'got = 0\nwhile got < {count}: got += len(os.read(r, 64))\nprint("up"')


@pytest.mark.parametrize("alone", [True])
def test_memory_of_all_processes_together(alone: bool) -> None:
    with program(family(4, 40)) as process:
        pids = [process.pid, *descendants(process.pid)]
        assert len(pids) == 5
        dog = begun(watch(process.pid, limited(memory_bytes=100 * MIB), None, alone=alone, every_ms=FAST))
        assert dog
        (event,) = told(dog)
        assert event["kind"] == "limit" and event["limit"] == "memory" and event["allowed"] == 100 * MIB
        assert isinstance(event["used"], int) and 150 * MIB < event["used"] < 400 * MIB
        assert process.wait(SECONDS) == -9 and wait(lambda: not any(alive(pid) for pid in pids))
        assert select.select([dog.events_fd], [], [], SECONDS)[0] and dog.read_events() == []
        dog.close()


def test_memory_that_is_shared_counts_once() -> None:
    code = family(4, 0).replace("r, w = os.pipe()", "r, w = os.pipe()\nshared = b'1' * (60 << 20)")
    with program(code) as process:
        dog = begun(watch(process.pid, limited(memory_bytes=150 * MIB), None, alone=True, every_ms=FAST))
        assert dog and turns(dog, 5)
        assert process.poll() is None and dog.read_events() == []
        dog.close()


THREADS = """
import threading, sys
end = threading.Event()
for n in range(20):
    threading.Thread(target=end.wait, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("allowed", [20, 21])
def test_processes_and_threads(allowed: int) -> None:
    with subprocess.Popen([sys.executable, "-c", THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        dog = begun(watch(process.pid, limited(processes=allowed), None, alone=True, every_ms=FAST))
        assert dog
        if allowed == 20:
            (event,) = told(dog)
            assert event.pop("reason") == "processes: 21 used, 20 allowed"
            assert event == {"kind": "limit", "limit": "processes", "used": 21, "allowed": 20}
            assert process.wait(SECONDS) == -9
        else:
            assert turns(dog, 3) and process.poll() is None
        dog.close()
        process.kill()


def test_disk_of_the_home(tmp_path: Path) -> None:
    with program("import sys; print('up', flush=True); sys.stdin.read()") as process:
        spec = dataclasses.replace(limited(disk_bytes=2 * MIB), home=str(tmp_path))
        dog = begun(watch(process.pid, spec, None, alone=True, every_ms=FAST))
        assert dog and turns(dog, 6) and process.poll() is None
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "file").write_bytes(b"1" * 3 * MIB)
        (event,) = told(dog)
        assert event["limit"] == "disk" and process.wait(SECONDS) == -9
        dog.close()


def turns(dog: Watchdog, count: int) -> bool:
    """Until it has looked so often: each look ends in a wait, which the kernel counts."""
    first = switches(dog._pid)
    return wait(lambda: switches(dog._pid) >= first + count)


def switches(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))


def test_nothing_is_left_of_a_server_that_ends_before_its_children() -> None:
    code = family(3, 0).replace("sys.stdin.read()\n        os._exit(0)", "import time; time.sleep(1000)")
    with program(code) as process:
        pids = descendants(process.pid)
        assert len(pids) == 3
        dog = begun(watch(process.pid, limited(memory_bytes=1 << 40), None, alone=True, every_ms=FAST))
        assert dog and turns(dog, 60)  # its own start is some of them
        assert process.stdin
        process.stdin.close()
        process.wait(SECONDS)
        dog.close()
        assert wait(lambda: not any(alive(pid) for pid in pids))


def test_it_ends_with_the_server_and_with_callgate() -> None:
    with program("import sys; print('up', flush=True); sys.stdin.read()") as process:
        dog = begun(watch(process.pid, limited(memory_bytes=1 << 40), None, every_ms=FAST))
        pid = dog._pid
        dog.close()
        dog.close()
        assert not os.path.exists(f"/proc/{pid}") and process.poll() is None
        dog = begun(watch(process.pid, limited(memory_bytes=1 << 40), None, every_ms=FAST))
        process.kill()
        process.wait()
        assert told(dog) == []
        dog.close()


def test_it_is_not_started_for_what_is_held_already() -> None:
    group = Group([], [], frozenset(("memory", "processes")))
    assert watch(os.getpid(), limited(memory_bytes=1, processes=1), group) is None
    assert watch(os.getpid(), limited(), None) is None
    assert watch(os.getpid(), limited(disk_bytes=1), None) is None  # no home: its files are in memory


def test_a_server_that_ends_soon_has_none() -> None:
    with program("import sys; print('up', flush=True)") as process:
        dog = watch(process.pid, limited(memory_bytes=1 << 40), None, every_ms=60_000)
        assert dog and process.wait(SECONDS) == 0 and dog._pid == 0
        dog.close()
        assert dog.events_fd == -1 and dog.read_events() == []


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    with program("import sys; print('up', flush=True); sys.stdin.read()") as process:
        before = sorted(os.listdir("/proc/self/fd"))
        dog = begun(watch(process.pid, limited(memory_bytes=1 << 40), None, every_ms=FAST))
        pid = dog._pid
        assert wait(lambda: set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2", "4", "5"})
        dog.close()
        assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_file_count_beyond_reason_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_process, "_MOST_FILES", 10)
    for number in range(9):
        (tmp_path / str(number)).touch()
    assert watchdog_process.disk_bytes([str(tmp_path)]) == 0
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "more").touch()
    assert watchdog_process.disk_bytes([str(tmp_path)]) > 1 << 60
    assert watchdog_process.disk_bytes([str(tmp_path / "nothing")]) == 0


def test_two_watchers_are_read_through_one_descriptor(tmp_path: Path) -> None:
    with program("import sys; print('up', flush=True); sys.stdin.read()") as process:
        first = begun(watch(process.pid, limited(memory_bytes=1 << 40), None, every_ms=FAST))
        second = begun(watch(process.pid, limited(memory_bytes=1), None, alone=True, every_ms=FAST))
        assert first and second
        both = Together([first, second])
        events: list[dict[str, object]] = []
        for _ in range(20):
            assert select.select([both.events_fd], [], [], SECONDS)[0]
            found = both.read_events()
            if not found:
                break
            events += found
        assert sorted(str(event["kind"]) for event in events) == ["limit", "watch"]
        both.close()
        both.close()


class Part:
    """A watcher that tells what a pipe holds, and ends with it."""

    def __init__(self) -> None:
        self.events_fd, self.write = os.pipe()
        self.open = True

    def read_events(self) -> list[dict[str, object]]:
        text = os.read(self.events_fd, 100) if self.open else b""
        return [{"kind": text.decode()}] if text else []

    def replace_secrets(self, sentinels: object) -> None:
        os.write(self.write, b"renewed")

    def close(self) -> None:
        self.open = False
        os.close(self.events_fd)


def test_ends_that_come_together_are_told_and_then_the_end() -> None:
    parts = [Part(), Part(), Part()]
    given_back: list[str] = []
    both = Together(parts, [lambda: given_back.append("a"), lambda: given_back.append("b")])
    os.write(parts[0].write, b"told")
    for part in parts:
        os.close(part.write)
    found = []
    for _ in range(10):
        assert select.select([both.events_fd], [], [], SECONDS)[0]
        events = both.read_events()
        if not events:
            break
        found += [event["kind"] for event in events]
    assert sorted(found) == ["told", "watch", "watch"]
    both.close()
    both.close()
    assert given_back == ["b", "a"]


def test_renewed_secrets_reach_every_part() -> None:
    parts = [Part(), Part()]
    both = Together(parts)
    both.replace_secrets([])
    assert [event["kind"] for event in both.read_events()] == ["renewed", "renewed"]
    both.close()
    for part in parts:
        os.close(part.write)


IN_A_SANDBOX = """
import select, sys
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import *
from tests.sandbox.boxes import start, stop
code = "import os, time\\nfor n in range(4):\\n  if os.fork() == 0:\\n    x = b'1' * (60 << 20); time.sleep(60)\\ntime.sleep(60)"
backend = {"bubblewrap": BubblewrapBackend, "landlock": LandlockBackend}[sys.argv[1]]()
box = start(backend, SandboxSpec("t", limits=Limits(memory_bytes=128 << 20), environment={"PATH": "/usr/bin"}), ["/usr/bin/python3", "-c", code])
for turn in range(2):
    assert select.select([box.running.events_fd], [], [], 30)[0]
    print(box.running.read_events())
print(box.process.wait(60))
stop(box)
"""


@pytest.mark.parametrize(
    "name",
    [pytest.param("bubblewrap", marks=boxes_user.needs_bubblewrap), pytest.param("landlock", marks=needs_landlock)],
)
def test_a_memory_hog_of_several_processes_is_ended_for_an_unprivileged_user(name: str) -> None:
    found = boxes_user.run(IN_A_SANDBOX, name)
    assert "'limit': 'memory'" in found.stdout and found.stdout.endswith("-9\n"), found


def test_what_is_nested_too_deep_to_be_counted_is_too_much(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(50):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
    finally:
        os.chdir(here)
    assert watchdog_process.disk_bytes([str(tmp_path)]) > 1 << 60
