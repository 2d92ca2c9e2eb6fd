"""User namespaces closed, by each switch there is: said, refused by name, and Landlock taken by `auto` only, aloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.machine.sample import answered, ask, launch, state
from tests.support.machine import MARKS, Machine
from tests.support.machine_image import PERSON

pytestmark = MARKS
DENIED = """\
abi <abi/4.0>,
profile closed_bwrap /usr/bin/bwrap {
  allow all,
  deny userns,
}
"""
"""What a bwrap without a profile of its own meets on Ubuntu since 23.10."""
ALLOWED = "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict"
"""What this project tells its users of Ubuntu to load."""
PROOF = """
import json, sys
from callgate.sandbox.choose import Kept
found = Kept(sys.argv[1]).try_now(sys.argv[2])
print(json.dumps([found.usable, found.reason, len(found.checks)]))
"""


@contextmanager
def switched(machine: Machine, name: str) -> Iterator[None]:
    """A switch of the kernel at 0, and back as it was."""
    before = machine.check(["sysctl", "-n", name]).strip()
    machine.check(["sysctl", "-w", f"{name}=0"])
    try:
        yield
    finally:
        machine.check(["sysctl", "-w", f"{name}={before}"])


@contextmanager
def profile(machine: Machine, path: str) -> Iterator[None]:
    machine.check(["apparmor_parser", "-r", path])
    try:
        yield
    finally:
        machine.check(["apparmor_parser", "-R", path])


def proof(machine: Machine, backend: str) -> tuple[bool, str, int]:
    said = machine.python(PROOF, state(PERSON), backend, user=PERSON)
    assert said.code == 0, said.text
    usable, reason, checks = json.loads(said.out)
    return usable, reason, checks


def test_auto_takes_landlock_and_says_so(machine: Machine) -> None:
    with switched(machine, "user.max_user_namespaces"):
        ran = ask(machine)
    assert answered(ran), ran.text
    assert "the sandbox bubblewrap could not be used" in ran.err
    facts = launch(machine)["sandbox"]
    assert facts["backend"] == "landlock"
    assert any("the sandbox bubblewrap could not be used" in line for line in facts["not_enforced"])
    # Once they are open again, nobody has to be told.
    again = ask(machine)
    assert answered(again), again.text
    assert launch(machine)["sandbox"]["backend"] == "bubblewrap"


def test_a_named_backend_is_refused_with_the_way_out(machine: Machine) -> None:
    for name in ("user.max_user_namespaces", "kernel.unprivileged_userns_clone"):
        with switched(machine, name):
            ran = ask(machine, "--sandbox", "bubblewrap")
        assert ran.code == 3 and not ran.out, ran.text
        assert "the server was not started" in ran.err
        assert f"sudo sysctl {name}=" in ran.err


def test_doctor_says_it(machine: Machine) -> None:
    with switched(machine, "kernel.unprivileged_userns_clone"):
        ran = machine.run(["callgate", "sandbox", "doctor", "--json"], user=PERSON, seconds=180)
    said = json.loads(ran.out)
    facts = {one["name"]: one for one in said["machine"]}
    assert facts["user namespaces"]["value"] == "closed"
    assert "kernel.unprivileged_userns_clone=1" in facts["user namespaces"]["note"]
    probes = {one["backend"]: one for one in said["backends"]}
    assert said["automatic"] == "landlock"
    assert not probes["bubblewrap"]["usable"] and not probes["podman"]["usable"]
    assert len(probes["landlock"]["checks"]) == 32 and all(one["held"] for one in probes["landlock"]["checks"])


def test_apparmor_may_close_them_to_bubblewrap_alone(machine: Machine) -> None:
    machine.put({"/etc/apparmor.d/closed_bwrap": DENIED.encode()}, owner="root")
    with profile(machine, "/etc/apparmor.d/closed_bwrap"):
        usable, reason, _ = proof(machine, "bubblewrap")
        assert not usable and "Permission denied" in reason
        ran = ask(machine)
    assert answered(ran), ran.text
    assert "the sandbox bubblewrap could not be used" in ran.err
    assert launch(machine)["sandbox"]["backend"] == "landlock"


def test_under_the_profile_ubuntus_users_are_told_to_load_it_proves_itself(machine: Machine) -> None:
    with profile(machine, ALLOWED):
        assert proof(machine, "bubblewrap") == (True, "", 32)
