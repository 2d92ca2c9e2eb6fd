"""The native lane comes to what Python comes to: bytes, refusals, what waits, and the records of two real logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callgate.audit import Journal
from callgate.audit.spool import FLUSH_BYTES, HEADER_BYTES
from callgate.config import Config, Limits, ServerConfig
from callgate.gate.channel import Channel
from callgate.gate.control import ControlMeta, Pattern
from callgate.gate.engine import Gate
from callgate.gate.events import Event
from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import ALLOW, Annotate, Deny, Finding
from callgate.vault import active
from callgate.vault.redaction import Redactor
from tests.audit.evidence import new_journal, report_of, run_python
from tests.core.messages import MODERN, PLAIN_REQUEST, PLAIN_RESPONSE, REQUEST, RESPONSE, answer, call, near, needs_core
from tests.gate.fakes import control

SERVERS = ("one", "two")
_OF_THE_RUN = {"chain": "", "prev": "", "time": 0, "took_us": 0}


class Counted:
    """The lane of a channel, and how many messages it decided."""

    def __init__(self, lane: Any) -> None:
        self.lane = lane
        self.decided = 0

    def call(self, channel: Channel, raw: bytes) -> bool:
        passed: bool = self.lane.call(channel, raw)
        self.decided += passed
        return passed

    def answer(self, channel: Channel, raw: bytes) -> bool:
        passed: bool = self.lane.answer(channel, raw)
        self.decided += passed
        return passed


class Side:
    """One gate with its log, and a channel for each server; with the lane or without."""

    def __init__(self, state: Path, controls: list[Any], lane: bool, limits: Limits, **audit: Any) -> None:
        self.state = state
        self.lane = lane
        self.journal = new_journal(state, **audit)
        servers = {"two": ServerConfig(name="two", command=("true",), mode="observe")}
        self.gate = Gate(Config(servers=servers, limits=limits), controls, self.journal)
        self.decided = 0
        self._read = 0
        self.begin()

    def begin(self) -> None:
        """New channels, and nothing learned."""
        if self.gate.native is not None:
            self.gate.native.clear()
        self.gate.forms.calls.clear()
        self.gate.forms.answers.clear()
        self.channels = [self.gate.channel(server=server, principal="p") for server in SERVERS]
        self.counted: list[Counted] = []
        for channel in self.channels:
            if self.lane:
                assert channel.express is not None
                self.counted.append(Counted(channel.express))
                channel.express = self.counted[-1]  # type: ignore[assignment]
            else:
                channel.express = None

    def end(self) -> None:
        self.decided += sum(one.decided for one in self.counted)

    def state_of(self) -> Any:
        return [
            (
                {key: (p.method, p.name, p.seq, p.modern) for key, p in channel.pending.items()},
                list(channel.asked), channel.modern, channel.revision, self.journal.seq,
            )
            for channel in self.channels
        ]  # fmt: skip

    def new_records(self) -> list[dict[str, Any]]:
        """What was written since the last time, but for what differs from run to run."""
        found = written(self.journal)
        new, self._read = found[self._read :], len(found)
        return [orjson.loads(line) | _OF_THE_RUN for line in new.splitlines()]

    def close(self) -> None:
        self.gate.close()
        self.journal.close()


def written(journal: Journal) -> bytes:
    """All of a log that is open."""
    segments = b"".join(path.read_bytes() for path in sorted(journal.path.glob("*.jsonl")))
    return segments + journal.tail[HEADER_BYTES : journal.offset]


def shown(result: bytes | Outcome) -> Any:
    return result if isinstance(result, bytes) else (result.forward, result.reply, result.rule, result.status)


def cleared() -> Any:
    """A control that wants every call, denies one name and clears all others."""
    made = control("a", call=lambda event: Deny("no") if event.name == "bad" else ALLOW)
    type(made).clears_call = staticmethod(lambda server, method, name: name != "bad")
    return made


def woken(ascii: bool) -> Any:
    """A control that a pattern wakes: in plain ASCII, or only outside of it."""

    def verdict(event: Event) -> Any:
        if event.direction:
            return Annotate((Finding("b/n", "tool-poisoning", "m"),))
        return Deny("attack")

    expression = b"attack" if ascii else b"\xe2\x80\x8b|\x7f"
    meta = ControlMeta(
        id="b", title="b", risks=("tool-poisoning",), since="0.1.0", on_hit=frozenset({"call", "content"}),
        patterns=(Pattern("b/p", expression, ascii=ascii),),
    )  # fmt: skip
    return type("Woken", (), {"meta": meta, "call": staticmethod(verdict), "content": staticmethod(verdict)})()


_OTHER = st.sampled_from(
    [
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
        b'{"jsonrpc":"2.0","id":3,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{}}}',
        b"[" + call(1) + b"," + call(2) + b"]",
        b'{"jsonrpc":"2.0","id":9,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"v"}}}',
        b"",
    ]
)
_SAID = st.sampled_from(
    [
        b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":3,"result":{"protocolVersion":"2025-03-26","capabilities":{}}}',
        b"[" + answer(1) + b"," + answer(2) + b"]",
    ]
)
_EXCHANGE = st.integers(1, 3).flatmap(
    lambda number: st.tuples(
        st.tuples(st.just("client"), near(PLAIN_REQUEST.map(lambda body: body | {"id": number}))),
        st.tuples(st.just("server"), near(PLAIN_RESPONSE.map(lambda body: body | {"id": number}))),
    )
)
_SINGLE = st.one_of(
    st.tuples(st.just("client"), near(REQUEST) | _OTHER), st.tuples(st.just("server"), near(RESPONSE) | _SAID)
).map(lambda one: [one])
_STEPS = st.lists(st.tuples(st.sampled_from([0, 0, 1]), _EXCHANGE | _EXCHANGE | _SINGLE), max_size=7)


@pytest.mark.parametrize(
    ("ascii", "content", "limits"),
    [(True, "shape", Limits()), (False, "digest", Limits(in_flight=2, nodes=100))],
    ids=["shape", "digest"],
)
def test_both_ways_come_to_the_same(tmp_path: Path, ascii: bool, content: str, limits: Limits) -> None:
    needs_core()
    quick, plain = (
        Side(tmp_path / name, [cleared(), woken(ascii)], lane, limits, content=content)
        for name, lane in (("quick", True), ("plain", False))
    )

    @given(steps=_STEPS)
    @example(steps=[(0, [("client", call(1)), ("server", answer(1))])])
    @settings(max_examples=50, deadline=None)
    def same(steps: list[Any]) -> None:
        for side in (quick, plain):
            side.begin()
        for number, step in steps * 2:  # the second time of a form that is known
            for sender, raw in step:
                one, two = (getattr(side.channels[number], sender)(raw) for side in (quick, plain))
                assert shown(one) == shown(two), raw
                assert quick.state_of() == plain.state_of(), raw
        assert quick.new_records() == plain.new_records()
        for side in (quick, plain):
            side.end()

    same()
    for side in (quick, plain):
        side.close()
        log = report_of(side.state)
        assert log.verified, log.found.problems
    assert quick.decided >= 2, "not even the example"


@pytest.fixture
def both(tmp_path: Path) -> Any:
    """Makes the same gate twice, once without the lane."""
    needs_core()
    made: list[Side] = []

    def make(*controls: Any, limits: Limits | None = None, **audit: Any) -> tuple[Side, Side]:
        for name, lane in (("quick", True), ("plain", False)):
            made.append(Side(tmp_path / name, list(controls) or [cleared()], lane, limits or Limits(), **audit))
        return made[0], made[1]

    yield make
    for side in made:
        side.close()


Both = Callable[..., tuple[Side, Side]]


def say(sides: tuple[Side, ...], sender: str, raw: bytes, server: int = 0) -> Any:
    """The same message both ways; what came of it."""
    results = [shown(getattr(side.channels[server], sender)(raw)) for side in sides]
    assert results[0] == results[1], raw
    assert sides[0].state_of() == sides[1].state_of(), raw
    return results[0]


def decided(side: Side) -> int:
    return sum(one.decided for one in side.counted)


def test_arguments_whose_names_collide_are_refused_whatever_the_lane_learned(both: Both) -> None:
    """The name `}O` of one message is not the end of an object and a member `O` of the next."""
    sides = both()
    assert say(sides, "client", call(1, {"o": {"a": "x"}, "X": "v", "}O": "w"})) is not None
    _, _, rule, _ = say(sides, "client", call(2, {"o": {"a": "x", "}X": "v"}, "O": "w"}))
    assert rule == "json-key-case"
    assert not decided(sides[0])


def test_a_list_of_a_known_form_is_counted(both: Both) -> None:
    sides = both(limits=Limits(nodes=100))
    for number, items in enumerate((5, 6, 91, 92)):
        assert isinstance(say(sides, "client", call(number, {"a": [1] * items})), bytes)
    assert decided(sides[0]) == 3
    assert say(sides, "client", call(9, {"a": [1] * 93}))[2] == "limit-nodes"


@pytest.mark.parametrize("audit", [{}, {"sync_ms": 0}, {"content": "digest"}, {"segment_bytes": 1 << 20}], ids=str)
def test_a_long_log_is_the_same_and_verifies(both: Both, audit: dict[str, Any]) -> None:
    """Over many flushes of the tail, with messages above and below where the digest changes."""
    sides = quick, plain = both(**audit)
    for number in range(60 if audit else 150):
        size = (10, 4000, 5000)[number % 3]
        assert say(sides, "client", call(number, {"a": "x" * size, "b": [{"c": number}]}), number % 2)
        assert say(sides, "server", answer(number, "é" * size, structuredContent={"n": {"m": number}}), number % 2)
    assert quick.new_records() == plain.new_records()
    assert bool(decided(quick)) == ("sync_ms" not in audit)


def test_the_journal_is_asked_for_room_only_where_a_segment_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_core()
    side = Side(tmp_path, [cleared()], True, Limits(), segment_bytes=1 << 20)
    asked: list[int] = []

    def make_room(journal: Journal, length: int, before: Any = Journal.make_room) -> Any:
        asked.append(journal.position)
        return before(journal, length)

    monkeypatch.setattr(Journal, "make_room", make_room)
    for number in range(2000):
        assert isinstance(side.channels[0].client(call(number)), bytes)
        assert isinstance(side.channels[0].server(answer(number)), bytes)
    segments = sorted(path.stat().st_size for path in side.journal.path.glob("*.jsonl"))
    assert len(asked) == len(segments) - 1 >= 1
    assert all(1 << 20 <= full < (1 << 20) + FLUSH_BYTES for full in segments[1:]), segments
    assert min(asked) > (1 << 20) - FLUSH_BYTES
    side.close()
    log = report_of(tmp_path)
    assert log.verified, log.found.problems


def test_checkpoints_are_written_between_records_of_the_lane(tmp_path: Path) -> None:
    needs_core()
    side = Side(tmp_path, [cleared()], True, Limits(), checkpoint_records=1000)
    until = monotonic() + 60
    number = 0
    while b'"kind":"checkpoint"' not in written(side.journal):
        assert monotonic() < until
        for _ in range(500):
            number += 1
            assert isinstance(side.channels[0].client(call(number, {"a": number})), bytes)
            assert isinstance(side.channels[0].server(answer(number)), bytes)
        side.journal.tick()
    assert decided(side) > 900
    side.close()
    log = report_of(tmp_path)
    assert log.verified, log.found.problems


def test_no_lane_where_values_are_kept_or_answers_are_judged(tmp_path: Path) -> None:
    needs_core()
    for name, controls, audit in (
        ("values", [cleared()], {"content": "full"}),
        ("answers", [cleared(), control("c", content=lambda event: ALLOW)], {}),
        ("calls", [control("c", call=lambda event: ALLOW)], {}),
    ):
        journal = new_journal(tmp_path / name, **audit)
        gate = Gate(Config(), controls, journal)
        channel = gate.channel(server="s", principal="p")
        for number in range(3):
            assert channel.client(call(number)) == call(number)
            assert channel.server(answer(number)) == answer(number)
        assert gate.native is None or not len(gate.native)
        gate.close()
        journal.close()


def test_a_revision_that_changed_is_noted_again(both: Both) -> None:
    sides = both()
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN}
    modern = [call(number, _meta=meta) for number in range(4)]
    for number, raw in enumerate((modern[0], modern[1], call(5), modern[2])):
        assert say(sides, "client", raw) == raw
        assert say(sides, "server", orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "roots/list"})) is not None, (
            number
        )
    other = {"io.modelcontextprotocol/protocolVersion": "2030-01-01"}
    say(sides, "client", orjson.dumps({"jsonrpc": "2.0", "id": 77, "method": "tools/list", "params": {"_meta": other}}))
    before = decided(sides[0])
    assert say(sides, "client", modern[3]) == modern[3]
    assert decided(sides[0]) == before
    assert sides[0].channels[0].revision == MODERN


def test_a_secret_that_is_added_is_in_no_record_after_it(both: Both) -> None:
    later = "tok-Mx82qRa1zCo4We9t6L"
    sides = both()
    say(sides, "client", call(1, {"a": 1}, later))
    say(sides, "client", call(2, {"a": 1}, later))
    assert decided(sides[0]) == 1
    before = [len(written(side.journal)) for side in sides]
    active.register("one", Redactor([("LATER", later.encode())]))
    try:
        for number in range(3, 6):
            say(sides, "client", call(number, {"a": 1}, later))
        assert decided(sides[0]) == 1
    finally:
        active.forget("one")
    for side, length in zip(sides, before, strict=True):
        assert later.encode() not in written(side.journal)[length:]


def test_a_control_is_asked_again_once_its_state_changed(tmp_path: Path) -> None:
    """The stamp is read before the control is asked, and held against what it is at each call."""
    needs_core()
    asked: list[str] = []
    allowed = True

    def clears(server: str, method: str, name: str) -> bool:
        asked.append(name)
        return allowed

    made = control("a", call=lambda event: ALLOW if allowed else Deny("no"))
    stamp = bytearray(8)
    type(made).clears_call = staticmethod(clears)
    type(made).clearance_stamp = stamp
    side = Side(tmp_path, [made], True, Limits())
    for number in range(5):
        assert isinstance(side.channels[0].client(call(number)), bytes)
    times = len(asked)
    assert isinstance(side.channels[0].client(call(10)), bytes)
    assert len(asked) == times
    allowed = False
    stamp[0] = 1
    assert isinstance(side.channels[0].client(call(11)), Outcome)
    allowed = True
    assert isinstance(side.channels[0].client(call(12)), bytes)
    side.close()


WRITE_UNTIL_FULL = """
import resource, sys
from pathlib import Path
from callgate.config import Limits
from tests.core.messages import answer, call
from tests.core.test_lane import Side, cleared, decided, say
sides = [Side(Path(sys.argv[1]) / name, [cleared()], lane, Limits()) for name, lane in (("a", True), ("b", False))]
limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
passed = [0, 0]
for number in range(900):
    if number == 300:
        limit(200_000)
    if number == 600:
        assert sides[0].journal.lost == sides[1].journal.lost > 0
        limit(resource.RLIM_INFINITY)
    for server in (0, 1):  # the second one only observes
        passed[server] += isinstance(say(sides, "client", call(number), server), bytes)
        say(sides, "server", answer(number), server)
assert 0 < passed[0] < passed[1] == 900, passed
assert decided(sides[0]) > 600
assert sides[0].new_records() == sides[1].new_records()
for side in sides:
    side.close()
"""


def test_a_full_disk_refuses_the_same_and_loses_the_same(tmp_path: Path) -> None:
    needs_core()
    _, complaint = run_python(WRITE_UNTIL_FULL, str(tmp_path)).communicate(timeout=60)
    assert not complaint, complaint.decode()
    for name in ("a", "b"):
        log = report_of(tmp_path / name)
        assert log.verified, log.found.problems
        assert log.found.lost > 0


def test_a_closed_log_takes_nothing(both: Both) -> None:
    sides = both()
    for number in (1, 2):
        say(sides, "client", call(number))
    for side in sides:
        side.journal.close()
    assert say(sides, "client", call(3))[2] == "evidence-unavailable"
    assert say(sides, "server", answer(1))[2] == "evidence-unavailable"
