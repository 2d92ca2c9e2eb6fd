"""Every probe under every backend of this machine, as an ordinary user; the controls prove that the probes work."""

from __future__ import annotations

import pytest

from tests.sandbox.escapes.expected import BACKENDS, CONTROL, IN_NAMESPACES, OPEN, probes
from tests.sandbox.escapes.runner import Unusable, ran
from tests.support.programs import REQUIRED

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("escapes")]

HELD = {"refused", "killed", "inside"}
"""`inside`: it worked on a copy of its own, and the host did not see it."""


def results(backend: str) -> dict[str, tuple[str, str]]:
    try:
        found = ran(backend)["results"]
    except Unusable as error:
        if REQUIRED:
            pytest.fail(f"{backend}: {error}")
        pytest.skip(f"{backend} is not usable here: {error}")
    assert set(found) == {one.name for one in probes()}
    broken = {name: detail for name, (outcome, detail) in found.items() if outcome == "broken"}
    assert not broken
    return {name: (outcome, detail) for name, (outcome, detail) in found.items()}


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(probes()) >= 110
    names = {one.name for one in probes()}
    for table in (CONTROL, *OPEN.values()):
        assert set(table) <= names


def test_without_a_sandbox_the_attacks_succeed() -> None:
    wrong = {
        name: found
        for name, found in results("bare").items()
        if found[0] not in ("succeeded", "missing") and name not in CONTROL
    }
    assert not wrong


def test_root_in_a_namespace_proves_the_probes_that_take_root() -> None:
    found = results("namespaces")
    wrong = {
        name: found[name]
        for name, reason in CONTROL.items()
        if reason == IN_NAMESPACES and found[name][0] != "succeeded"
    }
    assert not wrong


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_must_hold_holds(backend: str) -> None:
    expected = OPEN[backend]
    got = {name: detail for name, (outcome, detail) in results(backend).items() if outcome == "succeeded"}
    assert not {name: detail for name, detail in got.items() if name not in expected}


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_said_to_be_open_is_open(backend: str) -> None:
    found = results(backend)
    stale = {name: found[name] for name, one in OPEN[backend].items() if not one.sometimes and found[name][0] in HELD}
    assert not stale


@pytest.mark.parametrize("backend", BACKENDS)
def test_most_of_it_is_really_tried(backend: str) -> None:
    missing = [name for name, (outcome, _) in results(backend).items() if outcome == "missing"]
    assert len(missing) <= 8
