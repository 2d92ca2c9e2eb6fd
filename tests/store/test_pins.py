"""What is approved, what waits, who saw what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.errors import AuditError, StoreError
from callgate.store import pins as pins_module
from callgate.store.database import Store
from callgate.store.pins import VARIANTS, PinStore, Place, Sighting


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[PinStore]:
    store = Store.open(tmp_path)
    yield store.pins
    store.close()


def body(text: str) -> bytes:
    return f'{{"text":"{text}"}}'.encode()


def withheld(key: str, digest: str) -> Sighting:
    return Sighting(key, "withheld", digest, body(digest))


def test_the_first_pin_wins(pins: PinStore) -> None:
    assert pins.pin_first("s", "tool", [("a", "d1", body("1"))]) == {"a"}
    assert pins.pin_first("s", "tool", [("a", "d2", body("2")), ("b", "d3", body("3"))]) == {"b"}
    assert pins.load("s", "tool").approved == {"a": ("d1",), "b": ("d3",)}
    assert pins.bodies("s", "tool", "a") == {("a", "d1"): {"text": "1"}}
    assert set(pins.bodies("s", "tool")) == {("a", "d1"), ("b", "d3")}


def test_a_complete_list_takes_no_more_but_resources_come_and_go(pins: PinStore) -> None:
    assert pins.pin_first("s", "tool", [("a", "d1", body("1"))], complete=True) == {"a"}
    assert pins.load("s", "tool").complete
    assert pins.pin_first("s", "tool", [("b", "d2", body("2"))]) == set()
    assert pins.pin_first("s", "resource", [("a", "d1", body("1"))], complete=True) == {"a"}
    assert pins.pin_first("s", "resource", [("b", "d2", body("2"))]) == {"b"}


def test_a_list_stays_complete(pins: PinStore) -> None:
    pins.see("s", "tool", "p", [], complete=True)
    pins.pin_first("s", "tool", [])
    assert pins.load("s", "tool").complete


def test_servers_kinds_and_principals_are_apart(pins: PinStore) -> None:
    pins.pin_first("s", "tool", [("a", "d", body("1"))])
    pins.see("s", "tool", "p", [withheld("a", "x")])
    assert pins.load("t", "tool").approved == {}
    assert pins.load("s", "prompt").approved == {}
    assert pins.load("s", "tool").sightings == {"a": {"p": ("withheld", "x")}}
    assert pins.servers() == ["s"]


def decide(pins: PinStore, *place: str, approve: bool) -> bool:
    """One decision, put on record while nobody else sees it."""
    recorded: list[list[bool]] = []
    done = pins.decide([place], approve=approve, by="ada", record=recorded.append)  # type: ignore[list-item]
    assert recorded == [done]
    return done[0]


def test_a_waiting_definition_is_forgotten_when_nobody_is_shown_it(pins: PinStore) -> None:
    pins.see("s", "tool", "p", [withheld("a", "d1")])
    pins.see("s", "tool", "q", [withheld("a", "d1")])
    pins.see("s", "tool", "p", [withheld("a", "d2")])
    assert [d.digest for d in pins.definitions("s", "pending")] == ["d1", "d2"]
    pins.see("s", "tool", "q", [], gone=["a"])
    assert [d.digest for d in pins.definitions("s", "pending")] == ["d2"]


def test_approval_is_of_one_digest_and_clears_it_for_all(pins: PinStore) -> None:
    pins.pin_first("s", "tool", [("a", "d0", body("0"))])
    for principal in "pq":
        pins.see("s", "tool", principal, [withheld("a", "d1")])
    assert not decide(pins, "s", "tool", "a", "d9", approve=True)
    assert decide(pins, "s", "tool", "a", "d1", approve=True)
    loaded = pins.load("s", "tool")
    assert loaded.approved == {"a": ("d0", "d1")}
    assert loaded.sightings == {}
    (first, second) = pins.definitions("s", "approved")
    assert (first.decided_by, second.decided_by) == ("first use", "ada")
    assert not decide(pins, "s", "tool", "a", "d1", approve=False), "what is approved does not wait"


def test_what_was_approved_while_it_was_judged_is_not_noted_as_withheld(pins: PinStore) -> None:
    pins.pin_first("s", "tool", [("a", "d0", body("0"))])
    pins.see("s", "tool", "p", [withheld("a", "d1")])
    pins.see("s", "tool", "q", [withheld("a", "d2")])
    assert decide(pins, "s", "tool", "a", "d1", approve=True)
    for principal in "pq":  # both judged before the approval, and told after it
        pins.see("s", "tool", principal, [withheld("a", "d1")])
    assert pins.load("s", "tool").sightings == {}
    pins.see("s", "tool", "p", [withheld("a", "d3")])
    assert pins.load("s", "tool").sightings == {"a": {"p": ("withheld", "d3")}}


def test_approval_of_what_is_no_longer_shown_is_refused(pins: PinStore) -> None:
    pins.see("s", "tool", "p", [withheld("a", "d1")])
    pins.see("s", "tool", "p", [withheld("a", "d2")])
    assert not decide(pins, "s", "tool", "a", "d1", approve=True)


def test_a_rejection_is_kept_and_can_be_taken_back(pins: PinStore) -> None:
    pins.see("s", "tool", "p", [withheld("a", "d1")])
    assert decide(pins, "s", "tool", "a", "d1", approve=False)
    pins.see("s", "tool", "p", [], gone=["a"])
    pins.see("s", "tool", "p", [withheld("a", "d1")])
    assert pins.load("s", "tool").rejected == {("a", "d1")}
    assert pins.definitions("s", "pending") == []
    assert decide(pins, "s", "tool", "a", "d1", approve=True)
    assert pins.load("s", "tool").approved == {"a": ("d1",)}


def test_what_cannot_be_recorded_is_not_decided_and_nothing_is_forgotten(pins: PinStore) -> None:
    def full(*_: object) -> None:
        raise AuditError("no space left")

    pins.pin_first("s", "tool", [("a", "d0", body("0")), ("b", "d0", body("0"))])
    pins.see("s", "tool", "p", [withheld("a", "d1"), withheld("b", "d1")])
    places: list[Place] = [("s", "tool", "a", "d1"), ("s", "tool", "b", "d1")]
    before = pins.load("s", "tool")
    for approve in (True, False):
        with pytest.raises(AuditError):
            pins.decide(places, approve=approve, by="ada", record=full)
    with pytest.raises(AuditError):
        pins.reset("s", record=full)
    after = pins.load("s", "tool")
    assert (after.approved, after.rejected, after.sightings) == (before.approved, before.rejected, before.sightings)
    assert len(pins.definitions("s", "pending")) == 2
    told: list[list[bool]] = []
    gone: Place = ("s", "tool", "a", "d9")
    assert pins.decide([places[0], gone, places[1]], approve=True, by="ada", record=told.append) == [True, False, True]
    assert told == [[True, False, True]]


def test_only_the_newest_variants_are_kept(pins: PinStore) -> None:
    for number in range(VARIANTS + 3):
        pins.see("s", "tool", "p", [withheld("a", f"d{number}")])
        assert decide(pins, "s", "tool", "a", f"d{number}", approve=True)
    assert pins.load("s", "tool").approved["a"] == tuple(f"d{n}" for n in range(3, VARIANTS + 3))


def test_too_many_waiting_definitions_are_refused_and_nothing_is_kept(
    pins: PinStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins_module, "WAITING", 3)
    pins.see("s", "tool", "p", [withheld(key, "d") for key in "abc"])
    with pytest.raises(StoreError, match="wait for approval") as caught:
        pins.see("s", "tool", "p", [withheld("d", "d")])
    assert "callgate pins diff s;" in caught.value.next_step
    assert "callgate pins reset s" in caught.value.next_step
    assert len(pins.definitions("s", "pending")) == 3


def test_reset_forgets_one_server(pins: PinStore) -> None:
    recorded: list[int] = []
    for server in ("s", "t"):
        pins.pin_first(server, "tool", [("a", "d", body("1"))], complete=True)
        pins.see(server, "tool", "p", [withheld("b", "d2")])
    assert pins.reset("s", record=recorded.append) == 2
    assert recorded == [2]
    assert pins.servers() == ["t"]
    found = pins.load("s", "tool")
    assert (found.approved, found.rejected, found.sightings, found.first_at, found.complete) == (
        {},
        set(),
        {},
        None,
        False,
    )
    assert pins.load("t", "tool").complete


def test_who_sees_what(pins: PinStore) -> None:
    pins.see("s", "tool", "q", [withheld("a", "d1"), Sighting("b", "absent", ""), Sighting("c", "ok", "d3")])
    pins.see("s", "tool", "p", [withheld("a", "d1")])
    assert pins.seen_by("s") == {("tool", "a", "d1"): ["p", "q"], ("tool", "b", ""): ["q"]}
