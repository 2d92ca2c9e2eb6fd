"""Export to OCSF: the right class, ids that belong together, nothing that the schema does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callgate.audit.ocsf import event_uid, ocsf_events
from tests.audit.evidence import finding, new_journal, records_in
from tests.audit.ocsf_subset import faults

OUTCOMES = {
    "allow": (1, 1, 1),
    "annotate": (1, 15, 1),
    "rewrite": (1, 11, 1),
    "ask": (1, 14, 0),
    "deny": (2, 2, 2),
    "error": (1, 27, 1),
}


def records(state: Path, **changes: Any) -> list[dict[str, Any]]:
    journal = new_journal(state)
    scope = journal.scope(server="files", principal="ann", session="s1", transport="http")
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
    journal.note("launch", {"server": "files"})
    journal.note("reload", {})
    journal.checkpoint()
    journal.close()
    return records_in(journal.path)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_decision_is_an_api_activity(tmp_path: Path, outcome: str) -> None:
    record = records(tmp_path, outcome=outcome)[1]
    (event,) = ocsf_events(record)
    assert faults(event) == []
    assert (event["class_uid"], event["activity_id"], event["activity_name"]) == (6003, 99, "tools/call")
    assert (event["action_id"], event["disposition_id"], event["status_id"]) == OUTCOMES[outcome]
    assert event["api"] == {
        "operation": "tools/call",
        "request": {"uid": "5"},
        "service": {"name": "files"},
        "version": "2025-11-25",
    }
    assert event["actor"] == {"session": {"uid": "s1"}, "user": {"name": "ann"}}
    assert event["unmapped"]["mcp_method"] == "tools/call"
    assert event["unmapped"]["mcp_name"] == "read"
    assert event["unmapped"]["correlation_id"] == event["metadata"]["correlation_uid"] == event_uid(record)


@pytest.mark.parametrize("method", ["tools/list", "resources/read", "prompts/get", "initialize", "server/discover"])
def test_what_only_reads_is_a_read(tmp_path: Path, method: str) -> None:
    (event,) = ocsf_events(records(tmp_path, method=method)[1])
    assert faults(event) == []
    assert (event["activity_id"], event["type_uid"]) == (2, 600302)


def test_an_answer_carries_the_correlation_of_its_request(tmp_path: Path) -> None:
    record = records(tmp_path, direction=1, hook="content", about=1)[1]
    (event,) = ocsf_events(record)
    assert event["metadata"]["correlation_uid"] == f"{record['chain']}:1"


def test_findings_become_detections_that_name_the_activity(tmp_path: Path) -> None:
    severities = {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
    found = [finding(severity=severity) for severity in severities]
    record = records(tmp_path, outcome="deny", findings=found)[1]
    activity, *detections = ocsf_events(record)
    assert [faults(event) for event in (activity, *detections)] == [[]] * 6
    assert activity["severity_id"] == 5
    assert [event["severity_id"] for event in detections] == list(severities.values())
    assert len({event["finding_info"]["uid"] for event in detections}) == 5
    related = detections[0]["finding_info"]["related_events"][0]
    assert (related["uid"], related["type_uid"]) == (activity["metadata"]["uid"], activity["type_uid"])
    assert detections[0]["finding_info"]["types"] == ["hidden-text"]


def test_the_life_of_gate_and_servers(tmp_path: Path) -> None:
    opened, _, launch, reload, checkpoint, close = records(tmp_path)
    events = [event for record in (opened, launch, reload, close) for event in ocsf_events(record)]
    assert [faults(event) for event in events] == [[]] * 4
    assert [event["type_uid"] for event in events] == [600203, 600203, 600299, 600204]
    assert events[1]["app"]["name"] == "files"
    assert events[2]["activity_name"] == "reload"
    assert ocsf_events(checkpoint) == []


def test_the_subset_finds_faults(tmp_path: Path) -> None:
    """The check itself can fail."""
    (event,) = ocsf_events(records(tmp_path)[1])
    for change in (
        {"activity_id": 7},
        {"severity_id": 9},
        {"surprise": 1},
        {"actor": {}},
        {"disposition_id": 2},
        {"time": 1},
    ):
        assert faults(event | change), change
    del event["api"]
    assert faults(event) == ["event: api is missing"]


ONE = {
    "status": 421,
    "rule": "http-host",
    "route": "files",
    "method": "POST",
    "peer": "127.0.0.1",
    "port": 5,
    "count": 1,
}
MANY = {"status": 400, "rule": "http-malformed", "route": "", "peers": [], "count": 900}
LOST = {"status": 404, "rule": "http-path", "method": "BREW", "path": "/.env", "peer": "::1", "port": 5, "count": 1}


@pytest.mark.parametrize(
    ("fields", "activity"),
    [(ONE, (6, "Post")), (MANY, (0, "Unknown")), (LOST, (99, "BREW"))],
    ids=["one", "many", "path"],
)
def test_a_refusal_at_the_door_is_a_blocked_http_activity(
    tmp_path: Path, fields: dict[str, Any], activity: tuple[int, str]
) -> None:
    journal = new_journal(tmp_path)
    journal.note("http-refused", fields)
    journal.close()
    (event,) = ocsf_events(records_in(journal.path)[1])
    assert faults(event) == []
    assert event["class_uid"] == 4002
    assert (event["activity_id"], event["activity_name"]) == activity
    assert (event["action_id"], event["disposition_id"], event["count"]) == (2, 2, fields["count"])
    assert event["src_endpoint"].get("ip", "") == fields.get("peer", "")
