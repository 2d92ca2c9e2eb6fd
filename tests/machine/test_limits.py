"""Control groups of version 2 that are systemd's: asked for, entered, held to, and gone afterwards."""

from __future__ import annotations

import json
from typing import Any

from tests.machine import limits_inside
from tests.support.machine import MARKS, Machine
from tests.support.machine_image import CHECKOUT, PERSON

pytestmark = MARKS
INSIDE = f"{CHECKOUT}/tests/machine/limits_inside.py"
# Where callgate was started from: a login (its group is root's, only systemd may move it away), a program of the
# desktop (its group is the user manager's), or a service of root.
PLACES = {
    "login": (PERSON, [], "session-"),
    "desktop": (PERSON, ["systemd-run", "--user", "--scope", "--quiet", "--"], "user@"),
    "root": ("", [], ""),
}


def inside(machine: Machine, place: str, *what: str) -> dict[str, Any]:
    user, before, group = PLACES[place]
    ran = machine.run([*before, "python3", INSIDE, *what], user=user, seconds=200)
    assert ran.code == 0, ran.text
    found: dict[str, Any] = json.loads(ran.out.splitlines()[-1])  # ours, from a machine of ours
    assert group in found["own"], found["own"]
    return found


def in_force(held: dict[str, Any]) -> None:
    limits = limits_inside.SPEC.limits
    assert (held["memory.max"], held["memory.swap.max"]) == (str(limits.memory_bytes), "0")
    assert (held["pids.max"], held["cpu.max"]) == (str(limits.processes + 1), "50000 100000")
    # the keeper, the server and what it left behind: all of them are in it, and then none is there
    assert len(held["inside"]) == 3 and held["inside"].count("sh") == 2, held
    assert held["gone"] and held["left"] == []
    assert not any("memory of all" in line or "processors" in line or "group" in line for line in held["missing"])


def ended(hog: dict[str, Any]) -> None:
    assert "-9" in hog["text"] or hog["status"] in (-9, 137), hog
    (event,) = [one for one in hog["events"] if one["kind"] == "limit"]
    assert event["limit"] == "memory" and event["ended"] >= 1


def test_every_limit_is_in_force_and_nothing_is_left(machine: Machine) -> None:
    found = inside(machine, "login", "bubblewrap", "held", "hog", "near", "bomb", "killed")
    in_force(found["held"])
    ended(found["hog"])  # attack: four processes that have twice the memory together, none of them alone
    # near miss: four that stay just below, and end as they want to
    assert "[0, 0, 0, 0]" in found["near"]["text"] and found["near"]["events"] == [], found["near"]
    assert "annot fork" in found["bomb"] and "all" not in found["bomb"].split()
    # callgate dies by SIGKILL
    assert found["killed"] == {"inside": 3, "gone": True, "left": []}


def test_without_a_process_namespace_too(machine: Machine) -> None:
    found = inside(machine, "desktop", "landlock", "held", "bomb", "killed")
    in_force(found["held"])
    assert "annot fork" in found["bomb"] and "all" not in found["bomb"].split()
    assert found["killed"] == {"inside": 3, "gone": True, "left": []}


def test_root_asks_the_manager_of_the_system(machine: Machine) -> None:
    found = inside(machine, "root", "bubblewrap", "held", "hog")
    in_force(found["held"])
    ended(found["hog"])


def test_a_manager_that_does_not_answer_is_said(machine: Machine) -> None:
    found = inside(machine, "login", "bubblewrap", "refused")["refused"]
    assert found["text"] == "here\n"
    assert "no control group: systemd's manager does not answer in time" in found["missing"]
    assert any("memory of all processes together" in line for line in found["missing"])
