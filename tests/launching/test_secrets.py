"""Secrets on their way to a server: what each backend can do for them, and what a rotation changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from callgate.config import SecretConfig
from callgate.errors import ConfigError, SecretError
from callgate.launching.headers import LiveHeaders
from callgate.launching.secrets import Handover, hand_over
from callgate.sandbox.spec import Sentinel
from callgate.store.generation import Generation
from callgate.vault import active
from callgate.vault.redaction import Redactor
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


def advance(state: Path) -> None:
    counter = Generation(state)
    counter.advance()
    counter.close()


def rotate(state: Path) -> None:
    store = open_store("age", state)
    store.put("vendor", NEW, replace=True)
    store.close()
    advance(state)


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
        rotate(state)
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
    live = LiveHeaders({"Authorization": "Bearer <age://vendor>", "X": "1"}, state, "remote")
    assert not live.fixed and not live.resolved and live.current == {}
    live.resolve()
    try:
        assert live.resolved and live.current == {"Authorization": f"Bearer {OLD.decode()}", "X": "1"}
        redactor = active.of("remote")
        assert redactor is not None and redactor.redact(OLD) is not None
    finally:
        live.close()
    plain = LiveHeaders({"X": "1"}, state, "other")
    assert plain.fixed and plain.resolved and plain.current == {"X": "1"}
    with pytest.raises(SecretError):
        LiveHeaders({"X": "<age://nothing>"}, state, "other").resolve()


def test_a_rotation_reaches_headers(state: Path) -> None:
    changed = threading.Event()
    live = LiveHeaders({"Authorization": "Bearer <age://vendor>"}, state, "remote", changed=changed.set)
    live.resolve()
    try:
        rotate(state)
        assert changed.wait(60)
        assert live.current == {"Authorization": f"Bearer {NEW.decode()}"}
        redactor = active.of("remote")
        assert redactor is not None
        said = redactor.redact(b"old " + OLD + b" new " + NEW)
        assert said is not None and OLD not in said and NEW not in said
    finally:
        live.close()


def test_a_rotation_that_cannot_be_read_leaves_headers_as_they_are(state: Path) -> None:
    said: list[str] = []
    told = threading.Event()

    def problem(what: str) -> None:
        said.append(what)
        told.set()

    live = LiveHeaders({"Authorization": "Bearer <age://vendor>"}, state, "remote", problem=problem)
    live.resolve()
    try:
        store = open_store("age", state)
        store.delete("vendor")
        store.close()
        advance(state)
        assert told.wait(60)
        assert live.current == {"Authorization": f"Bearer {OLD.decode()}"} and not live.ended
        assert "age://vendor" in said[0] and OLD.decode() not in said[0]
    finally:
        live.close()


def test_headers_are_for_the_url_of_their_server(state: Path) -> None:
    live = LiveHeaders({"Authorization": "x"}, state, "remote")
    live.only_for("https://one.test/mcp", "https://one.test/mcp")
    live.only_for("", "https://one.test/mcp")
    with pytest.raises(ConfigError, match="another URL"):
        live.only_for("https://one.test/mcp", "https://two.test/mcp")
    LiveHeaders({}, state, "remote").only_for("https://one.test/mcp", "https://two.test/mcp")


def test_servers_that_are_started_at_once_lose_no_secret() -> None:
    """Threads start servers and renew leases: what one registers, the other must not lose."""
    names = [f"s{number}" for number in range(8)]
    values = {name: [f"val_{name}_{number:02}_Kq27LmXw".encode() for number in range(20)] for name in names}

    def register(name: str) -> None:
        for value in values[name]:
            active.register(name, Redactor([(name, value)]))
            active.register("shared", Redactor([(name, value)]))

    threads = [threading.Thread(target=register, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        active.clean(b"{}")  # a table that changes while it is read would raise
    shared = active.of("shared")
    for name in names:
        redactor = active.of(name)
        assert redactor is not None and shared is not None
        for value in values[name]:
            assert redactor.redact(value) is not None
            assert shared.redact(value) is not None
