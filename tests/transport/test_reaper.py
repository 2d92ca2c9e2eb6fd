"""The process that stops what a killed gateway leaves behind."""

import os
import signal
import subprocess
import sys

from callgate.transport.reaper import Reaper, stop_groups, watch
from tests.support.processes import alive, wait_until


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)


def test_what_was_announced_and_not_taken_back_is_left() -> None:
    read, write = os.pipe()
    os.write(write, b"+1234\n+5678\n-1234\n+9")
    os.write(write, b"99\n-77\n+1")
    os.close(write)
    assert watch(read) == {5678, 999}  # an unfinished announcement is no announcement
    os.close(read)


def test_groups_that_are_gone_do_not_matter() -> None:
    child = sleeper()
    assert stop_groups({child.pid}, signal.SIGKILL) == {child.pid}
    child.wait()
    assert stop_groups({child.pid}, signal.SIGKILL) == set()


def test_a_killed_reaper_is_replaced_and_knows_what_it_must() -> None:
    first, second = sleeper(), sleeper()
    reaper = Reaper()
    assert reaper.pid == 0  # nothing to watch, nothing started
    reaper.add(first.pid)
    old = reaper.pid
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not alive(old))
    reaper.add(second.pid)
    assert reaper.pid not in (0, old)
    reaper.close()
    assert first.wait(60) == second.wait(30) == -signal.SIGTERM
    assert reaper.pid == 0
