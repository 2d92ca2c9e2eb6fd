"""Under systemd with control groups of version 2 and AppArmor, every Linux backend proves itself to an ordinary user."""

from __future__ import annotations

import json

from tests.machine.sample import answered, ask, launch, state
from tests.support.machine import MARKS, Machine

pytestmark = MARKS
BACKENDS = ("bubblewrap", "landlock", "podman", "docker")


def test_every_backend_holds_every_escape(machine: Machine) -> None:
    kept = {"CALLGATE_STATE_DIR": state("dockhand")}  # the tests of Docker need not prove it again
    ran = machine.run(["callgate", "sandbox", "doctor", "--json"], user="dockhand", seconds=180, environment=kept)
    assert ran.code == 0, ran.text
    said = json.loads(ran.out)
    probes = {one["backend"]: one for one in said["backends"]}
    assert set(probes) == set(BACKENDS)
    for name, one in probes.items():
        assert one["usable"], (name, one["reason"])
        assert len(one["checks"]) == 32 and all(check["held"] for check in one["checks"]), name


def test_a_server_in_the_default_sandbox_answers(machine: Machine) -> None:
    ran = ask(machine)
    assert answered(ran), ran.text
    assert launch(machine)["sandbox"]["backend"] == "bubblewrap"
