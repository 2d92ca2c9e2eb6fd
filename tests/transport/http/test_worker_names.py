"""Workers of one gateway tell each other what they withhold: nothing is lost, whoever ends or comes when."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from callgate.gate.withheld import Key
from callgate.transport.http import worker_names
from callgate.transport.http.worker_names import WorkerNames


def key(name: str) -> Key:
    return ("s", "local", "tools/call", name)


class Worker:
    """As a forked worker: the file and the pipes are those of the others, what it read is its own."""

    def __init__(self, names: WorkerNames, index: int) -> None:
        self.names = WorkerNames.__new__(WorkerNames)
        self.names.__dict__.update(names.__dict__, _known={})
        self.heard: dict[Key, str] = {}
        self.wake = self.names.join(index, self._hear)
        self.names.catch_up()

    def _hear(self, key: Key, rule: str) -> None:
        if rule:
            self.heard[key] = rule
        else:
            self.heard.pop(key, None)

    @property
    def woken(self) -> bool:
        return bool(select.select([self.wake], [], [], 0)[0])

    def know(self) -> dict[Key, str]:
        self.names.catch_up()
        assert not self.woken
        return self.heard


def test_what_one_says_the_others_hear(tmp_path: Path) -> None:
    names = WorkerNames(3)
    first, second, third = (Worker(names, index) for index in range(3))
    first.names.tell(key("a"), "c/evil")
    assert (first.woken, second.woken, third.woken) == (False, True, True)
    second.names.tell(key("b\n\u2028\udc80"), "c/other")
    assert first.know() == second.know() == third.know() == {key("a"): "c/evil", key("b\n\u2028\udc80"): "c/other"}
    third.names.tell(key("a"), "")
    assert key("a") not in first.know() and key("a") not in second.know()
    third.names.tell(key("a"), "")
    first.names.tell(key("b\n\u2028\udc80"), "c/other")
    assert not second.woken, "nothing new was said"


def test_who_comes_later_hears_all_of_it() -> None:
    names = WorkerNames(2)
    first = Worker(names, 0)
    for number in range(20):
        first.names.tell(key(str(number)), "c/evil")
        first.names.tell(key(str(number)), "" if number % 2 else "c/evil")
    assert Worker(names, 1).heard.keys() == {key(str(number)) for number in range(0, 20, 2)}


def test_a_long_log_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_names, "MOST_BYTES", 2000)
    names = WorkerNames(2)
    first, second = Worker(names, 0), Worker(names, 1)
    first.names.tell(key("kept"), "c/evil")
    first.names.tell(key("shown"), "c/evil")
    second.know()
    first.names.tell(key("shown"), "")
    for number in range(200):
        first.names.tell(key("flaps"), "c/evil" if number % 2 else "")
    assert os.fstat(names._file).st_size < 3000
    assert second.know() == first.know() == {key("kept"): "c/evil", key("flaps"): "c/evil"}
    second.names.tell(key("flaps"), "")
    assert first.know() == {key("kept"): "c/evil"}


def test_a_log_of_many_names_is_not_written_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_names, "MOST_BYTES", 1000)
    names = WorkerNames(2)
    first, second = Worker(names, 0), Worker(names, 1)
    for number in range(300):
        first.names.tell(key(str(number)), "c/evil")
    assert int(first.names._times) < 10
    assert len(second.know()) == 300


def test_half_a_line_of_a_killed_worker_is_passed_over() -> None:
    names = WorkerNames(2)
    first, second = Worker(names, 0), Worker(names, 1)
    first.names.tell(key("a"), "c/evil")
    os.pwrite(names._file, b"s local tools%2Fca", os.fstat(names._file).st_size)
    assert second.know() == {key("a"): "c/evil"}
    second.names.tell(key("b"), "c/evil")
    assert first.know() == {key("a"): "c/evil", key("b"): "c/evil"}


def test_one_that_does_not_look_stops_nobody() -> None:
    names = WorkerNames(2)
    first, second = Worker(names, 0), Worker(names, 1)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(names._wakes[1][1], b"!" * 4096)
    for number in range(50):
        first.names.tell(key(str(number)), "c/evil")
    assert len(second.know()) == 50


def test_whole_processes_that_write_at_once_lose_nothing() -> None:
    names = WorkerNames(5)
    children = []
    for index in range(4):
        child = os.fork()
        if not child:
            names.join(index, lambda _key, _rule: None)
            for number in range(100):
                names.tell(key(f"{index}/{number}"), "c/evil")
            os.kill(os.getpid(), signal.SIGKILL)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert len(Worker(names, 4).heard) == 400
