"""Docker's engine for real: every probe of the escape suite, a server of this machine and one that is an image."""

from __future__ import annotations

import json

import pytest

from tests.machine.sample import OPENING, answered, ask, converse, launch, state
from tests.sandbox.escapes.expected import OPEN, probes
from tests.support.machine import MARKS, Machine
from tests.support.machine_image import CHECKOUT

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


DROPPED = """
import os, shutil, subprocess, sys
from callgate.sandbox.apparmor import load, profile
from callgate.sandbox.docker import DockerBackend
from callgate.sandbox.spec import Mount, SandboxSpec
place, owner = sys.argv[1], int(sys.argv[2])
os.mkdir(place)
shutil.copy("/usr/bin/true", place + "/program")
for path in (place, place + "/program"):
    os.chown(path, owner, owner)
spec = SandboxSpec("dropped", mounts=(Mount(place, writable=True),), environment={"PATH": "/usr/bin"})
script = f"{place}/program && echo ran || echo refused"
for _ in range(2):
    prepared = DockerBackend().prepare(spec, ["/bin/sh", "-c", script])
    done = subprocess.run(prepared.argv, env=dict(prepared.environment), cwd=prepared.cwd, stdin=0, stdout=-1, check=False)
    prepared.abandon()
    print(done.stdout.decode().split())
    assert not load(profile(spec).text)
"""
"""A program in a directory given to write to, without and with the server's profile."""


IMAGE_SERVER = """
read line
(: >/written)
printf '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},'
printf '"serverInfo":{"name":"%s","version":"%s"}}}\\n' "$(id -u)" "$(ls /sys/class/net)"
while read line; do :; done
"""
"""Tells who it is and what network it sees."""


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
    # an image for each state directory that was used
    assert set(machine.check(["sh", "-c", script], user=USER, seconds=120).split()) == {"callgate-root"}


def test_a_server_of_this_machine_answers_in_it_and_another_image_under_its_name_is_not_started(
    machine: Machine,
) -> None:
    ran = ask(machine, "--sandbox", "docker", user=USER)
    assert answered(ran), ran.text
    assert launch(machine, USER)["sandbox"]["backend"] == "docker"

    (kept,) = machine.check(["find", state(USER), "-name", "docker-root-*"]).split()
    name = f"callgate-root:{kept.rpartition('-')[2]}"
    swap = f"tar -c --files-from=/dev/null | docker import --change 'ENTRYPOINT [\"/usr/bin/false\"]' - {name}"
    theirs = machine.check(["sh", "-c", swap], seconds=120).strip()
    try:
        assert machine.check(["docker", "image", "inspect", "--format={{.Id}}", name]).strip() == theirs
        ran = ask(machine, "--sandbox", "docker", user=USER)
        assert answered(ran), ran.text
    finally:
        machine.run(["docker", "rmi", "--force", theirs])
    machine.check(["sh", "-c", "docker rmi --force $(docker images --all --quiet)"], seconds=120)
    assert not machine.check(["docker", "images", "--all", "--quiet"]).strip()
    ran = ask(machine, "--sandbox", "docker", user=USER)
    assert answered(ran), ran.text  # it was made anew


def test_a_server_that_is_an_image_is_confined(machine: Machine) -> None:
    build = "mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/sh && tar -C /tmp/image -c . | docker import - test:1"
    image = machine.check(["sh", "-c", build], seconds=120).strip()
    try:
        line = ["docker", "run", "-i", "--rm", image, "/bin/sh", "-c", IMAGE_SERVER]
        ran = converse(machine, 1, OPENING, "--sandbox", "docker", "--", *line, user=USER)
        assert ran.code == 0, ran.text
        assert json.loads(ran.out)["result"]["serverInfo"] == {"name": "1001", "version": "lo"}
        assert "Read-only file system" in ran.err, ran.text
    finally:
        machine.run(["docker", "rmi", "--force", image])
    assert launch(machine, USER)["sandbox"]["backend"] == "docker"


def test_the_servers_apparmor_profile_takes_away_what_docker_leaves(machine: Machine) -> None:
    said = machine.python(DROPPED, f"/home/{USER}/dropped", "1001", seconds=120)
    assert said.code == 0, said.text
    assert said.out.splitlines() == ["['ran']", "['refused']"]
