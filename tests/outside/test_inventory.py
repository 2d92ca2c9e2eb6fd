"""Every place that starts a program, and why nobody else says which one that is. A new one is to be thought about."""

from __future__ import annotations

import ast
from pathlib import Path

import callgate

ROOT = Path(callgate.__file__).parent
CALLS = {"run", "Popen", "call", "check_call", "check_output", "posix_spawn", "posix_spawnp", "system", "popen"}
OURSELVES = "this interpreter, with code of ours"
FULL_PATH = "one full path of the system's, or of a short list"
SERVER = "the server, or the sandbox around it"
ASKED = "`outside.programs` says which, `outside.variables` what it sees"
PLACES = {
    "audit/child.py": OURSELVES,
    "cli/held.py": OURSELVES,
    "clients/git.py": ASKED,
    "launching/definitions.py": SERVER,
    "sandbox/apparmor.py": FULL_PATH,
    "sandbox/bubblewrap.py": FULL_PATH,
    "sandbox/container_backend.py": FULL_PATH,
    "sandbox/egress/gate.py": OURSELVES,
    "sandbox/landlock.py": FULL_PATH,
    "sandbox/learn.py": SERVER,
    "sandbox/managers.py": ASKED,
    "sandbox/seatbelt.py": SERVER,
    "sandbox/selftest.py": FULL_PATH,
    "sandbox/selftest_probe.py": SERVER,
    "sandbox/stub.py": SERVER,
    "sandbox/systemd.py": FULL_PATH,
    "sandbox/watchdog.py": OURSELVES,
    "supply/resolve_client.py": ASKED,
    "transport/launch.py": SERVER,
    "transport/process.py": SERVER,
    "transport/reaper.py": OURSELVES,
    "vault/providers/onepassword.py": ASKED,
}


def starts(call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return False
    module, name = function.value.id, function.attr
    if module == "asyncio":
        return name.startswith("create_subprocess")
    return module in {"subprocess", "os", "posix"} and (name in CALLS or name.startswith(("exec", "spawn")))


def calls() -> dict[str, list[ast.Call]]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        if here := [one for one in ast.walk(tree) if isinstance(one, ast.Call) and starts(one)]:
            found[path.relative_to(ROOT).as_posix()] = here
    return found


def test_every_place_is_known() -> None:
    found = set(calls())
    assert found - PLACES.keys() == set(), "say here which program that is, and with which environment it starts"
    spelt_in_a_text = {"sandbox/seatbelt.py"}
    assert PLACES.keys() - found <= spelt_in_a_text


def test_what_is_started_elsewhere_than_in_a_sandbox_is_given_its_environment() -> None:
    """Without `env` a program gets all that callgate has, an entry's variables among it."""
    bare = {
        name
        for name, here in calls().items()
        for one in here
        if isinstance(one.func, ast.Attribute)
        and one.func.attr in {"run", "Popen"}
        and PLACES.get(name) in (ASKED, FULL_PATH)
        and "env" not in {keyword.arg for keyword in one.keywords}
    }
    assert bare == set()
