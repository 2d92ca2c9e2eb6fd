"""The in-memory view: current at the price of one comparison."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from callgate.errors import StoreError
from callgate.store.database import Store
from callgate.store.pins import Sighting
from callgate.store.view import PinView


def test_it_follows_what_another_process_writes(tmp_path: Path) -> None:
    view, other = PinView(tmp_path), Store.open(tmp_path)
    assert view.kind("s", "tool").approved == {}
    assert view.current
    other.pins.pin_first("s", "tool", [("a", "d", b"{}"), ("b", "d", b"{}")])
    assert not view.current
    assert set(view.kind("s", "tool").approved) == {"a", "b"}
    assert view.clear["s", "tool"] == {"a", "b"}
    assert view.body("s", "tool", "a", "d") == {}
    other.pins.see("s", "tool", "p", [Sighting("a", "withheld", "x", b"{}")])
    view.kind("s", "tool")
    assert view.clear["s", "tool"] == {"b"}
    with pytest.raises(KeyError):
        view.body("s", "tool", "a", "x")
    other.close()
    view.close()


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    view = PinView(tmp_path)
    assert (tmp_path / "callgate.db").stat().st_size == 0
    view.kind("s", "tool")
    assert (tmp_path / "callgate.db").stat().st_size > 0
    view.close()


def test_a_state_that_others_can_write_is_refused_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError):
        PinView(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process that may have threads: the test's point
def test_a_forked_worker_opens_its_own_database(tmp_path: Path) -> None:
    view = PinView(tmp_path)
    view.kind("s", "tool")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            view.pins.pin_first("s", "tool", [("a", "d", b"{}")])
            status = 0 if "a" in view.kind("s", "tool").approved else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert "a" in view.kind("s", "tool").approved
    view.close()
