"""Scope.decision: the record of one decision, whatever a peer puts into it."""

from __future__ import annotations

import hashlib
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.audit import Scope
from callgate.audit.records import CONTENT_BYTES, FINDINGS, RECORD_BYTES, canonical
from callgate.protocol.message import Direction
from tests.audit.evidence import ANSWER, CALL, finding, lines_of, new_journal, records_in, report_of

HOSTILE = [
    '"',
    "\\",
    "\n\r\t",
    "\x00",
    "\x1b[31m",
    "\u202eabc",
    "\U000e0041",
    "é漢字",
    "\ud800",
    '","outcome":"allow',
    "x" * 5000,
]


def decide(scope: Scope, **changes: Any) -> int:
    fields: dict[str, Any] = {
        "hook": "call",
        "direction": 0,
        "method": "tools/call",
        "name": "read_file",
        "request_id": 7,
        "data": b'{"jsonrpc":"2.0"}',
        "content": CALL,
        "outcome": "allow",
        "findings": (),
        "about": 0,
        "duration_us": 0,
    }
    return scope.decision(**(fields | changes))


def test_every_member_of_a_decision(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="files", principal="ann", session="s-1", transport="http")
    scope.revision = "2025-11-25"
    seq = decide(scope)
    decide(scope, hook="content", direction=1, content=ANSWER, about=seq, duration_us=1234)
    journal.close()
    request, answer = records_in(journal.path)[1:3]
    assert request | {"time": 0, "prev": ""} == {
        "about": 0,
        "chain": journal.chain,
        "content": {"limit": "integer", "path": "string"},
        "detail": "shape",
        "direction": "client",
        "hook": "call",
        "kind": "decision",
        "method": "tools/call",
        "name": "read_file",
        "outcome": "allow",
        "prev": "",
        "rpc_id": 7,
        "scope": {
            "principal": "ann",
            "revision": "2025-11-25",
            "server": "files",
            "session": "s-1",
            "transport": "http",
        },
        "seq": 2,
        "sha256": hashlib.sha256(b'{"jsonrpc":"2.0"}').hexdigest(),
        "size": 17,
        "time": 0,
        "took_us": 0,
    }
    assert (answer["direction"], answer["about"], answer["took_us"]) == ("server", 2, 1234)
    assert answer["content"] == {"content": "array", "isError": "boolean"}


def test_a_session_opened_by_an_answer_is_named_from_then_on(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="s", principal="ann", transport="http")
    scope.revision = "2025-11-25"
    for data in (b"{}", b" " * 5000):  # both kinds of digest
        decide(scope, data=data)
    scope.belongs_to("s-1")
    for data in (b"{}", b" " * 5000):
        decide(scope, data=data)
    journal.close()
    found = [(record["scope"]["session"], record["scope"]["revision"]) for record in records_in(journal.path)[1:5]]
    assert found == [("", "2025-11-25")] * 2 + [("s-1", "2025-11-25")] * 2
    assert report_of(tmp_path).verified


def test_both_directions_of_one_hook_are_kept_apart(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="s", principal="p", transport="stdio")
    for direction in (Direction.CLIENT, Direction.SERVER, Direction.CLIENT, Direction.SERVER):
        decide(scope, hook="server_request", direction=direction, content={})
    journal.close()
    assert [r["direction"] for r in records_in(journal.path)[1:5]] == ["client", "server"] * 2


def test_shapes_follow_the_types_of_each_message(tmp_path: Path) -> None:
    contents: list[Any] = [
        {"a": 1},
        {"a": "x"},
        {"a": 1.5},
        {"a": None},
        {"a": [1]},
        {"a": {"b": 1}},
        {"a": {"b": "x"}},
        {"a": {}},
    ]
    journal = new_journal(tmp_path)
    scope = journal.scope(server="s", principal="p", transport="stdio")
    for content in contents * 2:
        decide(scope, content={"arguments": content})
    journal.close()
    shapes = [r["content"]["a"] for r in records_in(journal.path)[1:-1]]
    assert shapes == ["integer", "string", "number", "null", "array", {"b": "integer"}, {"b": "string"}, {}] * 2


def test_values_are_never_kept_unless_asked_for(tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    for detail, kept in (("digest", False), ("shape", False), ("full", True)):
        journal = new_journal(tmp_path / detail, content=detail)
        scope = journal.scope(server="s", principal="p", transport="stdio")
        decide(scope, content={"arguments": {"password": secret, "nested": {"deep": [secret]}}})
        decide(scope, findings=[finding()], content={"arguments": {"password": secret}})
        decide(scope, content=[secret])
        journal.close()
        text = b"".join(lines_of(journal.path))
        assert (secret.encode() in text) is kept
        assert {r["detail"] for r in records_in(journal.path) if r["kind"] == "decision"} == {detail}
        assert (b'"content":' in text) is (detail != "digest")
        assert report_of(tmp_path / detail).verified


def test_names_that_look_like_secrets_are_counted_not_kept(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="s", principal="p", transport="stdio")
    decide(scope, content={"arguments": {"path": 1, "ann@example.org": 1, "k" * 65: 1, "sk_live_4eC39HqLyjWDarjt": 1}})
    journal.close()
    assert records_in(journal.path)[1]["content"] == {"path": "integer", "…": 3}


def test_full_content_beyond_its_bound_becomes_a_shape(tmp_path: Path) -> None:
    journal = new_journal(tmp_path, content="full")
    scope = journal.scope(server="s", principal="p", transport="stdio")
    decide(scope, content={"text": "x" * CONTENT_BYTES})
    journal.close()
    record = records_in(journal.path)[1]
    assert (record["detail"], record["content"]) == ("shape", {"text": "string"})


def test_findings_are_kept_and_bounded(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="s", principal="p", transport="stdio")
    decide(scope, findings=[finding(message="m" * 5000)] * (FINDINGS + 5), outcome="deny")
    journal.close()
    record = records_in(journal.path)[1]
    assert len(record["findings"]) == FINDINGS
    assert record["findings_dropped"] == 5
    assert set(record["findings"][0]) == {"evidence", "message", "pointer", "risk", "rule", "severity"}
    assert len(record["findings"][0]["message"]) == 512


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("detail", ["digest", "shape", "full"])
def test_hostile_text_in_every_field_stays_one_canonical_record(tmp_path: Path, text: str, detail: str) -> None:
    journal = new_journal(tmp_path, content=detail)
    scope = journal.scope(server=text, principal=text, session=text, transport=text)
    scope.revision = text
    hostile = finding(rule=text, risk=text, message=text, pointer=text, severity=text, evidence=text)
    contents: list[Any] = [{text: 1}, {"arguments": {text: text}}, {"a": {text: [text]}}, [text], text, None]
    for content in contents:
        for findings in ((), [hostile]):
            fields = {"hook": text, "method": text, "name": text, "request_id": text, "outcome": text}
            decide(scope, content=content, findings=findings, **fields)
            decide(scope, content=content, findings=findings, direction=1, **fields)
    journal.note(text, {text: text})
    journal.close()
    records = records_in(journal.path)
    assert len(records) == 2 * 2 * len(contents) + 3
    assert all(len(line) <= RECORD_BYTES for line in lines_of(journal.path))
    assert report_of(tmp_path).verified
    if len(text) < 256 and text != "\ud800":
        assert records[1]["name"] == records[1]["scope"]["server"] == text


TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
NAMES = st.text(string.ascii_letters + string.digits + '"\\é\n', max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1]),
            NAMES,
            st.none() | st.integers() | TEXT,
            st.dictionaries(TEXT, JSON, max_size=4) | JSON,
            st.booleans(),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["digest", "shape", "full"]),
)
def test_every_line_is_its_own_canonical_form(tmp_path: Path, rows: list[Any], detail: str) -> None:
    journal = new_journal(tmp_path, content=detail)
    scope = journal.scope(server="s", principal="p", transport="stdio")
    for direction, name, request_id, content, found in rows:
        decide(
            scope,
            direction=direction,
            name=name,
            request_id=request_id,
            content=content,
            findings=[finding()] if found else (),
        )
    journal.close()
    for line in lines_of(journal.path):
        assert canonical(json.loads(line)) == line
    assert report_of(tmp_path, journal.chain).verified


def test_what_is_remembered_of_hostile_names_is_bounded(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    for number in range(3000):
        scope = journal.scope(server="s", principal="p", session=f"session-{number}", transport="http")
        for _ in range(2):
            decide(scope, name=f"tool-{number}", content={f"k{number}": {f"n{number}": 1}})
        decide(scope, name=f"tool-{number}", content={f"k{number}": 1})
        decide(scope, name="n" * 3000, content={})
        decide(scope, content={"k" * 3000: 1})
        decide(scope, content={str(member): 1 for member in range(100)})
    texts = journal.texts
    for memory in (texts.client_heads, texts._nested, texts._scopes, texts._shapes):
        assert 0 < len(memory) <= 1024
    assert all(sum(map(len, filter(lambda part: isinstance(part, str), key))) < 4096 for key in texts.client_heads)
    journal.close()
    assert report_of(tmp_path).verified
