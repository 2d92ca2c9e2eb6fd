"""The test machine is what the other tests here take it for, and never holds one up."""

from __future__ import annotations

import time

from tests.support.machine import MARKS, Machine

pytestmark = MARKS


def test_a_person_has_a_session_of_systemds(machine: Machine) -> None:
    said = machine.check(
        ["bash", "-c", "id -un; cat /proc/self/cgroup; systemctl --user is-system-running"], user="person"
    )
    name, group, state = said.split()
    assert (name, state) == ("person", "running")
    assert group.startswith("0::/user.slice/user-1000.slice/session-")
    path = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers"
    assert {"memory", "pids"} <= set(machine.check(["cat", path]).split())


def test_apparmor_is_on_and_there_is_no_network(machine: Machine) -> None:
    assert machine.check(["cat", "/sys/module/apparmor/parameters/enabled"]) == "Y\n"
    assert machine.check(["ls", "/sys/class/net"]) == "lo\n"


def test_an_end_is_told_as_it_was(machine: Machine) -> None:
    ran = machine.run(["sh", "-c", "cat; echo oh >&2; exit 7"], fed=b"fed", user="person")
    assert (ran.code, ran.out, ran.err) == (7, "fed", "oh\n")
    assert machine.run(["/no/such/program"]).code == 127


def test_what_hangs_is_ended_with_all_below_it(machine: Machine) -> None:
    begin = time.monotonic()
    ran = machine.run(["sh", "-c", "echo up; sleep 987 & sleep 987"], user="person", seconds=3)
    assert ran.code is None and ran.out == "up\n"
    assert time.monotonic() - begin < 25
    assert machine.run(["pgrep", "-f", "sleep 987"]).code == 1
