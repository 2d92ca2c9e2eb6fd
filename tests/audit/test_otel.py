"""Export to OTLP: read back by OpenTelemetry's own protobuf definitions where they are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.otel import attributes, otlp_document
from tests.audit.evidence import finding, new_journal, records_in


def decision(state: Path, **changes: Any) -> dict[str, Any]:
    journal = new_journal(state)
    scope = journal.scope(server="files", principal="ann", session="s1", transport=changes.pop("transport", "http"))
    scope.revision = "2025-11-25"
    fields: dict[str, Any] = {
        "hook": "call",
        "direction": 0,
        "method": "tools/call",
        "name": "read",
        "request_id": 5,
        "data": b"x",
        "content": {},
        "outcome": "allow",
        "findings": (),
        "about": 0,
        "duration_us": 0,
    }
    scope.decision(**(fields | changes))
    journal.close()
    return records_in(journal.path)[1]


def test_attribute_names_are_those_of_the_conventions(tmp_path: Path) -> None:
    found = attributes(decision(tmp_path, outcome="deny", findings=[finding()]))
    expected = {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2025-11-25",
        "mcp.session.id": "s1",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "read",
        "jsonrpc.request.id": "5",
        "network.transport": "tcp",
        "error.type": "hidden-characters/tag-characters",
    }
    assert expected.items() <= found.items()
    assert all(name.startswith("callgate.") for name in set(found) - set(expected))


@pytest.mark.parametrize(
    ("method", "name", "attribute"),
    [
        ("prompts/get", "greet", "gen_ai.prompt.name"),
        ("resources/read", "file:///x", "mcp.resource.uri"),
        ("tasks/get", "t1", "callgate.name"),
    ],
)
def test_names_go_where_they_belong(tmp_path: Path, method: str, name: str, attribute: str) -> None:
    found = attributes(decision(tmp_path, method=method, name=name, transport="stdio"))
    assert found[attribute] == name
    assert found["network.transport"] == "pipe"
    assert "gen_ai.operation.name" not in found
    assert "error.type" not in found


def span_of(record: dict[str, Any]) -> dict[str, Any]:
    return dict(otlp_document(record)["resourceSpans"][0]["scopeSpans"][0]["spans"][0])


def test_an_answer_is_a_span_from_request_to_answer(tmp_path: Path) -> None:
    record = decision(tmp_path, direction=1, hook="content", about=1, duration_us=1500)
    span = span_of(record)
    assert span["name"] == "tools/call read"
    assert span["kind"] == 2
    assert int(span["endTimeUnixNano"]) == record["time"] * 1000
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 1_500_000
    assert (len(span["traceId"]), len(span["spanId"])) == (32, 16)
    assert "status" not in span


def test_a_refused_request_is_a_failed_span(tmp_path: Path) -> None:
    assert span_of(decision(tmp_path, outcome="deny", method="tools/list", name=""))["status"] == {"code": 2}
    assert span_of(decision(tmp_path, outcome="deny", method="tools/list", name=""))["name"] == "tools/list"


def test_a_passed_request_and_its_answer_share_the_trace(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    scope = journal.scope(server="files", principal="ann", transport="stdio")
    seq = scope.decision("call", 0, "tools/call", "t", 1, b"", {}, "allow", (), 0, 0)
    scope.decision("content", 1, "tools/call", "t", 1, b"", {}, "allow", (), seq, 10)
    journal.note("reload", {"source": "x"})
    journal.close()
    opened, request, answer, note, _ = records_in(journal.path)
    log = otlp_document(request)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert (log["traceId"], log["spanId"]) == (span_of(answer)["traceId"], span_of(answer)["spanId"])
    assert log["severityText"] == "INFO"
    assert "traceId" not in otlp_document(opened)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert attributes(note)["callgate.fields"] == '{"source":"x"}'


def test_the_documents_are_otlp(tmp_path: Path) -> None:
    logs = pytest.importorskip("opentelemetry.proto.logs.v1.logs_pb2", reason="opentelemetry-proto is not installed")
    from google.protobuf.json_format import Parse
    from opentelemetry.proto.trace.v1 import trace_pb2

    for name, record in enumerate((decision(tmp_path), decision(tmp_path, direction=1, about=1))):
        document = json.dumps(otlp_document(record))
        Parse(document, trace_pb2.TracesData() if name else logs.LogsData())


def test_a_request_refused_at_the_door_is_a_warning_with_the_attributes_of_http(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    fields = {
        "route": "files",
        "rule": "http-host",
        "status": 421,
        "method": "POST",
        "peer": "::1",
        "port": 5,
        "count": 1,
    }
    journal.note("http-refused", fields)
    journal.close()
    record = records_in(journal.path)[1]
    assert attributes(record).items() >= {
        "callgate.server": "files", "client.address": "::1", "client.port": 5, "error.type": "http-host",
        "http.request.method": "POST", "http.response.status_code": 421,
    }.items()  # fmt: skip
    (log,) = otlp_document(record)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert log["severityText"] == "WARN"
