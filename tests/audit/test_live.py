"""The live line: one line, printable, within the width."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from unicodedata import east_asian_width

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.audit.live import duration_text, fit, live_line, size_text
from callgate.audit.records import canonical, finding_fields
from tests.audit.evidence import finding

NOON = 1_795_348_800_123_456


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def record(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "decision",
        "time": NOON,
        "direction": "client",
        "method": "tools/call",
        "name": "read_file",
        "outcome": "allow",
        "content": {"path": "string"},
        "scope": {"server": "files"},
        "size": 2100,
        "took_us": 0,
    } | changes


def test_lines() -> None:
    high = finding_fields(finding())
    shown = [
        record(),
        record(direction="server", took_us=1400),
        record(direction="server", method="tools/list", name="", outcome="rewrite", findings=[high]),
        record(outcome="deny", findings=[high, high, high], scope={"server": "a-server-with-a-long-name"}),
        record(content={f"k{number}": 1 for number in range(9)}),
        {"kind": "note", "time": NOON, "what": "launch", "fields": {"server": "files", "pid": 5}},
        {"kind": "open", "time": NOON, "chain": "20261122T120000-1-00000000", "process": "serve"},
        {"kind": "checkpoint", "time": NOON, "covers": 17, "signature": "x"},
        {"kind": "close", "time": NOON, "covers": 18, "signature": ""},
    ]
    assert [live_line(canonical(one)) for one in shown] == [
        "12:00:00.123  allow     files      → tools/call read_file {path}",
        "12:00:00.123  allow     files      ← tools/call read_file  2.1 kB  1.4 ms",
        "12:00:00.123  rewrite   files      ← tools/list  hidden-characters/tag-characters (high)",
        "12:00:00.123  deny      a-server-… → tools/call read_file  hidden-characters/tag-characters (high) …",
        "12:00:00.123  allow     files      → tools/call read_file {k0, k1, k2, k3, k4, …}",
        "12:00:00.123  note      launch pid=5 server=files",
        "12:00:00.123  open      log 20261122T120000-1-00000000 of serve",
        "12:00:00.123  sign      records 1 to 17 signed",
        "12:00:00.123  close     records 1 to 18 not signed",
    ]


def test_a_request_refused_at_the_door_and_many_of_them() -> None:
    one = {"route": "files", "rule": "http-host", "status": 421, "method": "POST", "peer": "127.0.0.1", "count": 1}
    lost = {"rule": "http-path", "status": 404, "method": "GET", "path": "/\x1b", "peer": "::1", "count": 1}
    many = {"route": "files", "rule": "http-host", "status": 421, "count": 900, "peers": ["10.0.0.1", "10.0.0.2"]}
    notes = [{"kind": "note", "what": "http-refused", "time": NOON, "fields": fields} for fields in (one, lost, many)]
    assert [live_line(canonical(note)) for note in notes] == [
        "12:00:00.123  deny      files      → http-host (421) POST from 127.0.0.1",
        "12:00:00.123  deny                 → http-path (404) GET /\\x1b from ::1",
        "12:00:00.123  deny      files      → http-host (421) 900 times from 10.0.0.1, 10.0.0.2",
    ]
    assert live_line({"kind": "note", "what": "http-refused", "time": NOON, "fields": 5}).endswith("http-refused")


def test_colour_is_only_the_outcome() -> None:
    plain, coloured = live_line(record(outcome="deny")), live_line(record(outcome="deny"), colour=True)
    assert coloured == plain.replace("deny", "\x1b[31mdeny\x1b[0m", 1)


def test_what_is_no_record_is_no_line() -> None:
    assert live_line(b"rubbish") == ""
    assert live_line(b"[]") == ""


ANY = st.text(max_size=60) | st.none() | st.integers() | st.lists(st.text(max_size=5), max_size=3)
NAMES = st.sampled_from(
    ["kind", "time", "direction", "method", "name", "outcome", "content", "scope", "size", "took_us"]
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(NAMES | st.sampled_from(["findings", "what", "fields", "covers"]), ANY),
    st.text(max_size=300),
    st.integers(20, 160),
)
def test_any_record_is_one_printable_line_that_fits(fields: dict[str, Any], text: str, width: int) -> None:
    for one in (
        record(**fields),
        record(name=text, scope={"server": text}, content={text: 1}),
        record(findings=[{"rule": text}]),
    ):
        line = live_line(one, width=width)
        assert line.isprintable() or "\u3000" in line or any("\U0001f000" <= c <= "\U0001faff" for c in line)
        assert sum(2 if east_asian_width(char) in "WF" else 1 for char in line) <= width


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (2100, "2.1 kB"), (3_400_000, "3.4 MB"), (None, "0 B")]
)
def test_sizes(size: object, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(("us", "text"), [(0, "0 µs"), (999, "999 µs"), (1400, "1.4 ms"), (2_300_000, "2.3 s")])
def test_durations(us: object, text: str) -> None:
    assert duration_text(us) == text


def test_wide_characters_count_two() -> None:
    assert fit("漢字漢字", 8) == "漢字漢字"
    assert fit("漢字漢字", 7) == "漢字漢…"
    assert fit("漢字漢字", 6) == "漢字…"
    assert fit("abc", 2) == "a…"
