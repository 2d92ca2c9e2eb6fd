"""The id mapper: whatever two clients choose as ids, each gets its own answers."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from callgate.protocol.revisions import META_SUBSCRIPTION_ID
from callgate.transport.idmap import IdMap

IDS = st.one_of(st.integers(-3, 3), st.sampled_from(["", "1", "a", "0"]))


def request(id: Any, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def test_ten_thousand_interleavings_of_two_clients_with_equal_ids() -> None:
    choose = random.Random(20260728)
    for _ in range(10_000):
        ids: IdMap[str] = IdMap()
        open_requests: list[tuple[int, str, Any]] = []
        plan = [(client, number) for client in ("alice", "bob") for number in (1, 2, "1")]
        choose.shuffle(plan)
        while plan or open_requests:
            if plan and (not open_requests or choose.random() < 0.5):
                client, number = plan.pop()
                gate_id, upstream = ids.open(client, request(number, secret=client))
                assert upstream["id"] == gate_id
                open_requests.append((gate_id, client, number))
            else:
                gate_id, client, number = open_requests.pop(choose.randrange(len(open_requests)))
                found = ids.answer({"jsonrpc": "2.0", "id": gate_id, "result": {"for": client}})
                assert found is not None
                entry, answer = found
                assert (entry.owner, answer["id"], answer["result"]) == (client, number, {"for": client})
                assert ids.answer({"jsonrpc": "2.0", "id": gate_id, "result": {}}) is None
        assert not ids.entries


class Model(RuleBasedStateMachine):
    """Any order of requests, answers, progress, cancellations and nonsense, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: IdMap[int] = IdMap()
        self.open: list[tuple[int, int, Any, Any]] = []
        self.used: set[int] = set()

    @rule(client=st.integers(0, 2), id=IDS, token=st.one_of(st.none(), IDS))
    def ask(self, client: int, id: Any, token: Any) -> None:
        body = request(id, _meta={"progressToken": token}) if token is not None else request(id)
        before = repr(body)
        gate_id, upstream = self.ids.open(client, body)
        assert repr(body) == before
        assert gate_id not in self.used
        self.used.add(gate_id)
        if token is not None:
            assert upstream["params"]["_meta"]["progressToken"] == gate_id
        self.open.append((gate_id, client, id, token))

    @rule(pick=st.integers(0, 50))
    def reply(self, pick: int) -> None:
        if self.open:
            gate_id, client, given, _ = self.open.pop(pick % len(self.open))
            found = self.ids.answer({"id": gate_id, "error": {"code": 1, "message": ""}})
            assert found is not None
            assert (found[0].owner, found[1]["id"], type(found[1]["id"])) == (client, given, type(given))

    @rule(pick=st.integers(0, 50))
    def progress(self, pick: int) -> None:
        if self.open:
            gate_id, client, _, token = self.open[pick % len(self.open)]
            found = self.ids.notification(
                {"method": "notifications/progress", "params": {"progressToken": gate_id, "progress": 1}}
            )
            if token is None:
                assert found is None
            else:
                assert found is not None
                entry = self.ids.find(found[0])
                assert entry is not None
                assert (entry.owner, found[1]["params"]["progressToken"]) == (client, token)

    @rule(pick=st.integers(0, 50))
    def cancel(self, pick: int) -> None:
        if self.open:
            gate_id, client, _, _ = self.open.pop(pick % len(self.open))
            entry = self.ids.close(gate_id)
            assert entry is not None
            assert entry.owner == client
            assert self.ids.answer({"id": gate_id, "result": {}}) is None

    @rule(id=st.one_of(IDS, st.booleans(), st.none(), st.floats(), st.just([1])))
    def nonsense(self, id: Any) -> None:
        if type(id) is not int or id not in {gate_id for gate_id, *_ in self.open}:
            assert self.ids.answer({"id": id, "result": {}}) is None
            assert self.ids.notification({"method": "notifications/cancelled", "params": {"requestId": id}}) is None


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(IDS)
def test_subscription_ids_are_mapped_back_in_notifications_and_in_the_last_result(id: Any) -> None:
    ids: IdMap[str] = IdMap()
    gate_id, _ = ids.open("alice", request(id))
    note = {"method": "notifications/tools/list_changed", "params": {"_meta": {META_SUBSCRIPTION_ID: gate_id, "x": 1}}}
    found = ids.notification(note)
    assert found is not None
    assert found[1]["params"]["_meta"] == {META_SUBSCRIPTION_ID: id, "x": 1}
    assert note["params"]["_meta"][META_SUBSCRIPTION_ID] == gate_id  # the inspected object is not changed
    answered = ids.answer({"id": gate_id, "result": {"_meta": {META_SUBSCRIPTION_ID: gate_id}}})
    assert answered is not None
    assert answered[1]["result"]["_meta"][META_SUBSCRIPTION_ID] == id


def test_true_is_not_one() -> None:
    ids: IdMap[str] = IdMap()
    assert ids.open("alice", request(5))[0] == 1
    assert ids.find(True) is None
    assert ids.find(1.0) is None
    assert ids.find(1) is not None


def test_what_names_no_request_belongs_to_nobody() -> None:
    ids: IdMap[str] = IdMap()
    ids.open("alice", request(5))
    for params in (None, {}, {"_meta": {}}, {"_meta": {META_SUBSCRIPTION_ID: 99}}, {"requestId": 1}, []):
        assert ids.notification({"method": "notifications/message", "params": params}) is None


def test_what_names_a_request_that_is_over_is_late() -> None:
    ids: IdMap[str] = IdMap()
    over, _ = ids.open("alice", request(5))
    ids.close(over)
    running, _ = ids.open("alice", request(6))
    for params in ({"progressToken": over}, {"requestId": over}, {"_meta": {META_SUBSCRIPTION_ID: over}}):
        assert ids.is_late({"params": params})
    for params in (
        {"progressToken": running},
        {"progressToken": 99},
        {"progressToken": True},
        {"requestId": 0},
        {},
        [],
    ):
        assert not ids.is_late({"params": params})
