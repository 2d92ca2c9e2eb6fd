"""Secrets on their way to a server: what each backend can do for them, and what a rotation changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from callgate.config import SecretConfig
from callgate.errors import SecretError
from callgate.launching.headers import resolved_headers
from callgate.launching.secrets import Handover, hand_over
from callgate.sandbox.spec import Sentinel
from callgate.store.generation import Generation
from callgate.vault import active
from callgate.vault.stores import open_store

OLD, NEW = b"vend_live_9fKq27LmXw4RtB8sYcZ1", b"vend_live_7pQz81NcVb3HsD6kTyW2"
DECLARED = {"VENDOR_TOKEN": SecretConfig("age://vendor", hosts=("api.vendor.test",))}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    store = open_store("age", tmp_path)
    store.put("vendor", OLD)
    store.close()
    return tmp_path


class Gate:
    """A running sandbox that remembers what it was given."""

    events_fd = -1

    def __init__(self) -> None:
        self.given: list[tuple[bytes, ...]] = []

    def read_events(self) -> list[dict[str, object]]:
        return []

    def replace_secrets(self, sentinels: Sequence[Sentinel]) -> None:
        self.given.append(tuple(one.value for one in sentinels))

    def close(self) -> None:
        return


def handed(state: Path, backend: str = "bubblewrap", declared: dict[str, SecretConfig] | None = None) -> Handover:
    found = hand_over({}, declared or DECLARED, state, server="s", backend=backend)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("backend", "how"),
    [("bubblewrap", "sentinel"), ("landlock", "sentinel"), ("docker", "environment"), ("none", "environment")],
)
def test_a_sentinel_only_where_something_swaps_it(state: Path, backend: str, how: str) -> None:
    found = handed(state, backend)
    try:
        (fact,) = found.facts
        assert fact["delivered"] == how
        assert (found.environment["VENDOR_TOKEN"] == OLD.decode()) == (how == "environment")
        assert OLD.decode() not in repr(found.facts) + repr(found.sentinels) + repr(found.notices)
        assert bool(found.notices) == (how == "environment")
    finally:
        found.close()


def test_a_sentinel_that_was_asked_for_and_cannot_be_is_an_error(state: Path) -> None:
    wanted = {"VENDOR_TOKEN": SecretConfig("age://vendor", deliver="sentinel", hosts=("api.vendor.test",))}
    with pytest.raises(SecretError, match="sentinel"):
        handed(state, "docker", wanted)


def test_a_rotation_reaches_a_running_gate_and_both_values_are_taken_out(state: Path) -> None:
    found, gate = handed(state), Gate()
    try:
        found.runs(gate)
        store = open_store("age", state)
        store.put("vendor", NEW, replace=True)
        store.close()
        counter = Generation(state)
        counter.advance()
        counter.close()
        deadline = time.monotonic() + 30
        while not gate.given and time.monotonic() < deadline:
            time.sleep(0.05)
        assert gate.given[-1] == (NEW,)
        redactor = active.of("s")
        assert redactor is not None
        said = redactor.redact(b"old " + OLD + b" new " + NEW)
        assert said is not None and OLD not in said and NEW not in said
    finally:
        found.close()


def test_nothing_to_hand_over_is_nothing(tmp_path: Path) -> None:
    assert hand_over({"A": "1"}, {}, tmp_path, server="s", backend="none") is None


def test_headers_are_resolved_and_plain_ones_left(state: Path) -> None:
    found = resolved_headers({"Authorization": "Bearer <age://vendor>", "X": "1"}, state, "remote")
    assert found == {"Authorization": f"Bearer {OLD.decode()}", "X": "1"}
    redactor = active.of("remote")
    assert redactor is not None and redactor.redact(OLD) is not None
    assert resolved_headers({"X": "1"}, state, "other") == {"X": "1"}
    with pytest.raises(SecretError):
        resolved_headers({"X": "<age://nothing>"}, state, "other")
