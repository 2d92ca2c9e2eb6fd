"""A server's AppArmor profile: loaded by the commands that are printed, entered, and worth what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine import MARKS, Machine
from tests.support.machine_image import CHECKOUT, PERSON

pytestmark = MARKS
OF_BUBBLEWRAP = "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict"
INSIDE = f"{CHECKOUT}/tests/machine/apparmor_inside.py"
ATTACKS = {
    "dropped",
    "dropped through the loader",
    "internet socket",
    "its first environment",
    "another profile",
}
NEEDS = {"program through the loader", "project", "home", "temporary", "a child", "a pair of sockets"}


def settings(project: str) -> bytes:
    return f'[servers.files]\ncommand = ["python3", "{INSIDE}", "serve", "{project}"]\n'.encode()


def drive(machine: Machine, project: str, *words: str, user: str) -> dict[str, Any]:
    line = [*words, "--name", "files", "--", "python3", INSIDE, "serve", project]
    ran = machine.run(
        ["python3", INSIDE, "drive", *line],
        user=user,
        seconds=150,
        environment={"CALLGATE_CONFIG": f"{project}.toml"},
    )
    assert ran.code == 0, ran.text
    found: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return found


def explain(machine: Machine, project: str, *words: str) -> str:
    environment = {"CALLGATE_CONFIG": f"{project}.toml"}
    return machine.check(["callgate", "sandbox", "explain", *words], user=PERSON, seconds=60, environment=environment)


def profiles(machine: Machine) -> list[str]:
    listed = machine.check(["ls", "/sys/kernel/security/apparmor/policy/profiles"], user=PERSON).split()
    return [name for name in listed if name.startswith("callgate-")]


@pytest.fixture
def project(machine: Machine) -> Iterator[str]:
    """A person's project, and the settings of a server for it; no profile is left behind."""
    path = f"/home/{PERSON}/project"
    machine.check(["mkdir", "-p", path, f"/home/{PERSON}/other"], user=PERSON)
    machine.put({f"{path}.toml": settings(path)})
    yield path
    remove(machine)
    machine.check(["rm", "-rf", path, f"/home/{PERSON}/other"])


def remove(machine: Machine) -> None:
    machine.check(
        ["sh", "-c", "cut -d' ' -f1 <profiles | grep ^callgate- | while read -r n; do printf %s $n >.remove; done"],
        cwd="/sys/kernel/security/apparmor",
    )


def evidence(machine: Machine, state: str) -> list[dict[str, Any]]:
    lines = machine.check(["sh", "-c", f"cat {state}/audit/*/*.jsonl"]).splitlines()
    return [one["fields"] for one in map(json.loads, lines) if one.get("what") == "launch"]


def test_a_person_has_a_profile_loaded_and_the_server_runs_under_it(machine: Machine, project: str) -> None:
    said = explain(machine, project, "files")
    assert "AppArmor: no profile of this server is loaded" in " ".join(said.split())
    first, second = [line.strip() for line in said.partition("To load its AppArmor profile:")[2].strip().splitlines()]
    assert second.startswith("sudo apparmor_parser -r ")

    environment = {"CALLGATE_CONFIG": f"{project}.toml"}
    machine.check(["sh", "-c", first], user=PERSON, cwd=f"/home/{PERSON}", environment=environment)
    machine.check(["sh", "-c", second.removeprefix("sudo ")], cwd=f"/home/{PERSON}")
    (name,) = [one.rpartition(".")[0] for one in profiles(machine)]

    for backend in ("bubblewrap", "landlock"):
        found = drive(machine, project, "--sandbox", backend, user=PERSON)
        assert found["labels"] == [f"{name} (enforce)"], backend
        assert set(found["tried"]) == ATTACKS | NEEDS
        for what, came in found["tried"].items():
            assert came.startswith("no" if what in ATTACKS else "yes"), (backend, what, came)
    *_, last = evidence(machine, f"/home/{PERSON}/.local/state/callgate")
    assert last["sandbox"]["apparmor"] == name
    assert not any("AppArmor" in line for line in last["sandbox"]["not_enforced"])

    # Other settings: the profile is of the old ones. That is said, and it is not entered; and so it was the profile
    # that refused what bubblewrap leaves open.
    found = drive(machine, project, "--write", f"/home/{PERSON}/other", user=PERSON)
    assert found["labels"] == [] and found["tried"]["project"].startswith("yes")
    assert found["tried"]["dropped through the loader"].startswith("yes")
    *_, last = evidence(machine, f"/home/{PERSON}/.local/state/callgate")
    assert "apparmor" not in last["sandbox"]
    assert any("of other settings" in line for line in last["sandbox"]["not_enforced"])


def test_root_loads_it_at_the_start(machine: Machine) -> None:
    machine.check(["mkdir", "-p", "/srv/project"])
    machine.put({"/srv/project.toml": settings("/srv/project")}, owner="root")
    try:
        found = drive(machine, "/srv/project", user="")
        (name,) = [one.rpartition(".")[0] for one in profiles(machine)]
        assert found["labels"] == [f"{name} (enforce)"]
        for what, came in found["tried"].items():
            assert came.startswith("no" if what in ATTACKS else "yes"), (what, came)

        # Ubuntu's profile for bubblewrap lets nobody into another one: the server starts without its own, aloud.
        machine.check(["apparmor_parser", "-r", OF_BUBBLEWRAP])
        found = drive(machine, "/srv/project", "--sandbox", "bubblewrap", user="")
        assert found["labels"] == [] and found["tried"]["project"].startswith("yes")
        *_, last = evidence(machine, "/root/.local/state/callgate")
        assert "apparmor" not in last["sandbox"]
        assert any("profile of bubblewrap" in line for line in last["sandbox"]["not_enforced"])
    finally:
        machine.run(["apparmor_parser", "-R", OF_BUBBLEWRAP])
        remove(machine)
        machine.check(["rm", "-rf", "/srv/project"])
