"""Docker's engine for real: every probe of the escape suite, a server of this machine and one that is an image."""

from __future__ import annotations

import json

import pytest

from tests.machine.sample import OPENING, answered, ask, launch, state
from tests.sandbox.escapes.expected import OPEN, probes
from tests.support.machine import CHECKOUT, MARKS, Machine

pytestmark = MARKS
USER = "dockhand"
SECONDS = 400
"""For all probes: the processor is emulated."""
RANGE = f"""
import json, sys
from tests.sandbox.escapes.runner import ran
print(json.dumps(ran("docker", {SECONDS})))
"""
ENDED = {"calls_of_32_bit", "calls_of_x32"}
"""Probes that the system call filter answers with the end of the process."""


@pytest.fixture(scope="module")
def results(machine: Machine) -> dict[str, list[str]]:
    said = machine.python(RANGE, user=USER, cwd=CHECKOUT, seconds=SECONDS)
    assert said.code == 0, said.text
    found: dict[str, list[str]] = json.loads(said.out.splitlines()[-1])["results"]
    return found


def test_each_probe_ends_as_the_table_says(results: dict[str, list[str]]) -> None:
    assert set(results) == {one.name for one in probes()}
    assert {name for name, (outcome, _) in results.items() if outcome == "succeeded"} == set(OPEN["docker"])
    assert {name for name, (outcome, _) in results.items() if outcome == "killed"} <= ENDED
    assert {name for name, (outcome, _) in results.items() if outcome == "missing"} <= {
        one.name for one in probes() if one.name.startswith("node_")
    }
    assert {outcome for outcome, _ in results.values()} <= {"succeeded", "killed", "missing", "refused", "inside"}


def test_it_leaves_nothing_behind(machine: Machine, results: dict[str, list[str]]) -> None:
    script = "docker ps --all --quiet; docker volume ls --quiet; docker images --format={{.Repository}}"
    assert machine.check(["sh", "-c", script], user=USER, seconds=120).split() == ["callgate-root"]


def test_a_server_of_this_machine_answers_in_it(machine: Machine) -> None:
    ran = ask(machine, "--sandbox", "docker", user=USER)
    assert answered(ran), ran.text
    assert launch(machine, USER)["sandbox"]["backend"] == "docker"


def test_a_server_that_is_an_image_is_confined(machine: Machine) -> None:
    build = "mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/sh && tar -C /tmp/image -c . | docker import - test:1"
    image = machine.check(["sh", "-c", build], seconds=120).strip()
    try:
        script = (
            'read line; echo "$(id -u) $(ls /home 2>&1 | head -1) $(ls /sys/class/net)" >&2; (echo >/x) 2>&1 | cat >&2'
        )
        line = ["docker", "run", "-i", "--rm", image, "/bin/sh", "-c", script]
        command = ["callgate", "run", "--sandbox", "docker", "--state", state(USER), "--", *line]
        ran = machine.run(command, user=USER, fed=OPENING.encode(), seconds=120)
        assert "1001 ls: /home: No such file or directory lo" in ran.err, ran.text
        assert "Read-only file system" in ran.err, ran.text
    finally:
        machine.run(["docker", "rmi", "--force", image])
    assert launch(machine, USER)["sandbox"]["backend"] == "docker"
