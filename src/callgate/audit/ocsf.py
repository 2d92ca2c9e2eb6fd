"""A record as events of the Open Cybersecurity Schema Framework, version 1.8.0.

| record | class | activity |
|---|---|---|
| `decision` | API Activity (6003), profile `security_control` | 2 Read for lists, reads and gets; 99 otherwise |
| each of its findings | Detection Finding (2004) | 1 Create; `related_events` names the API Activity |
| `open`, `close`, notes of a launch, a start, a stop | Application Lifecycle (6002) | 3 Start, 4 Stop |
| notes `http-refused` | HTTP Activity (4002), profile `security_control` | by method; 2 Denied, 2 Blocked |
| other notes | Application Lifecycle (6002) | 99, named by the note |
| `checkpoint` | none: it says something of the log, nothing of the traffic | |

What OCSF has no place for stands in `unmapped`, under the names of the record and of `mcp_method`,
`mcp_name`, `correlation_id`. A request and its answers share `metadata.correlation_uid`.
"""

from __future__ import annotations

from typing import Any, Final

import callgate
from callgate.audit.records import Record, message_digest

OCSF_VERSION: Final = "1.8.0"

_API, _FINDING, _LIFECYCLE, _HTTP = 6003, 2004, 6002, 4002
_HTTP_ACTIVITIES: Final = {
    name.upper(): (number, name)
    for number, name in enumerate(("Connect", "Delete", "Get", "Head", "Options", "Post", "Put", "Trace", "Patch"), 1)
}
_SEVERITIES: Final = {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_ACTIONS: Final = {  # outcome -> action_id, action, disposition_id, disposition, status_id
    "allow": (1, "Allowed", 1, "Allowed", 1),
    "annotate": (1, "Allowed", 15, "Detected", 1),
    "rewrite": (1, "Allowed", 11, "Corrected", 1),
    "ask": (1, "Allowed", 14, "Delayed", 0),
    "deny": (2, "Denied", 2, "Blocked", 2),
    "would-rewrite": (1, "Allowed", 15, "Detected", 1),
    "would-ask": (1, "Allowed", 15, "Detected", 1),
    "would-deny": (1, "Allowed", 15, "Detected", 1),
    "error": (1, "Allowed", 27, "Error", 1),
}
_FAILURE: Final = 2
_STATUSES: Final = {0: "Unknown", 1: "Success", 2: "Failure"}
_READS: Final = ("/list", "/read", "/get", "initialize", "server/discover", "ping")
_STARTS: Final = ("launch", "start", "connect", "open")
_STOPS: Final = ("stop", "server-exit", "close")
_UNMAPPED: Final = ("about", "content", "detail", "direction", "hook", "outcome", "prev", "size", "took_us")


def ocsf_events(record: Record) -> list[Record]:
    """The events for one record: none, one, or one more for each finding."""
    kind = record.get("kind")
    if kind == "decision":
        activity = _api_activity(record)
        findings = record.get("findings") or []
        return [activity, *(_finding(record, finding, number) for number, finding in enumerate(findings))]
    if kind == "note" and record.get("what") == "http-refused":
        return [_http_activity(record)]
    if kind == "note":
        return [_lifecycle(record, str(record.get("what", "")), record.get("fields"))]
    if kind in ("open", "close"):
        return [_lifecycle(record, str(kind), {"process": record.get("process", "")})]
    return []


def event_uid(record: Record) -> str:
    """`CHAIN:SEQ`, what `callgate audit show` takes."""
    return f"{record['chain']}:{record['seq']}"


def _event(record: Record, class_uid: int, activity_id: int, activity: str, severity_id: int) -> Record:
    return {
        "activity_id": activity_id,
        "activity_name": activity,
        "category_uid": class_uid // 1000,
        "class_uid": class_uid,
        "metadata": {
            "log_name": record["chain"],
            "product": {"name": "callgate", "vendor_name": "callgate", "version": callgate.__version__},
            "sequence": record["seq"],
            "uid": event_uid(record),
            "version": OCSF_VERSION,
        },
        "severity_id": severity_id,
        "time": record["time"] // 1000,
        "type_uid": class_uid * 100 + activity_id,
    }


def _api_activity(record: Record) -> Record:
    method = str(record["method"])
    read = method.endswith(_READS)
    findings = record.get("findings") or []
    severity = max((_SEVERITIES.get(finding["severity"], 99) for finding in findings), default=1)
    event = _event(record, _API, 2 if read else 99, "Read" if read else method or "Message", severity)
    action_id, action, disposition_id, disposition, status_id = _ACTIONS.get(
        record["outcome"], (0, "Unknown", 0, "Unknown", 0)
    )
    if record.get("failed"):
        status_id = _FAILURE
    scope = record["scope"]
    correlation = f"{record['chain']}:{record['about'] or record['seq']}"
    event["metadata"] |= {"correlation_uid": correlation, "profiles": ["security_control"]}
    request = {} if record["rpc_id"] is None else {"request": {"uid": str(record["rpc_id"])}}
    session = {"session": {"uid": scope["session"]}} if scope["session"] else {}
    return event | {
        "action": action,
        "action_id": action_id,
        "actor": {"user": {"name": scope["principal"]}} | session,
        "api": {"operation": method, "service": {"name": scope["server"]}, "version": scope["revision"]} | request,
        "disposition": disposition,
        "disposition_id": disposition_id,
        "dst_endpoint": {"svc_name": scope["server"]},
        "is_alert": record["outcome"] in ("deny", "error"),
        "src_endpoint": {"name": scope["principal"], "svc_name": "mcp-client"},
        "status": _STATUSES[status_id],
        "status_id": status_id,
        "unmapped": {name: record[name] for name in _UNMAPPED if name in record}
        | {
            "correlation_id": correlation,
            "digest": message_digest(record),
            "mcp_method": method,
            "mcp_name": record["name"],
            "transport": scope["transport"],
        },
    }


def _finding(record: Record, finding: dict[str, Any], number: int) -> Record:
    event = _event(record, _FINDING, 1, "Create", _SEVERITIES.get(finding["severity"], 99))
    uid = event_uid(record)
    event["metadata"] |= {"correlation_uid": f"{record['chain']}:{record['about'] or record['seq']}"}
    event["metadata"]["uid"] = f"{uid}:{number}"
    return event | {
        "evidences": [{"data": {"pointer": finding["pointer"], "text": finding["evidence"]}}],
        "finding_info": {
            "analytic": {"name": finding["rule"], "type": "Rule", "type_id": 1, "uid": finding["rule"]},
            "created_time": record["time"] // 1000,
            "desc": finding["message"],
            "related_events": [{"type_uid": _API * 100 + (2 if record["method"].endswith(_READS) else 99), "uid": uid}],
            "title": finding["rule"],
            "types": [finding["risk"]],
            "uid": f"{uid}:{number}",
        },
        "is_alert": record["outcome"] in ("deny", "error"),
        "message": finding["message"],
        "status": "New",
        "status_id": 1,
        "unmapped": {"mcp_method": record["method"], "mcp_name": record["name"], "server": record["scope"]["server"]},
    }


def _lifecycle(record: Record, what: str, fields: Any) -> Record:
    activity = (3, "Start") if what in _STARTS else (4, "Stop") if what in _STOPS else (99, what or "Other")
    event = _event(record, _LIFECYCLE, *activity, 1)
    server = fields.get("server") if isinstance(fields, dict) else None
    return event | {
        "app": {"name": str(server), "vendor_name": "MCP server"} if server else event["metadata"]["product"],
        "unmapped": {"what": what, "fields": fields},
    }


def _http_activity(record: Record) -> Record:
    """A request refused at the door, or a number of them (`count`)."""
    fields = record["fields"]
    method = fields.get("method", "")
    activity: tuple[int, str] = _HTTP_ACTIVITIES.get(method, (99, method) if method else (0, "Unknown"))
    event = _event(record, _HTTP, *activity, 2)
    event["metadata"] |= {"profiles": ["security_control"]}
    peers = [fields["peer"]] if "peer" in fields else fields.get("peers", [])
    port = {"port": fields["port"]} if "port" in fields else {}
    request = {"http_method": method} if method else {}
    if "path" in fields:
        request["url"] = {"path": fields["path"]}
    action, disposition = _ACTIONS["deny"][:2], _ACTIONS["deny"][2:4]
    return event | {
        "action": action[1],
        "action_id": action[0],
        "count": fields["count"],
        "disposition": disposition[1],
        "disposition_id": disposition[0],
        "dst_endpoint": {"svc_name": fields.get("route") or "callgate"},
        "http_request": request | {"uid": event_uid(record)},
        "http_response": {"code": fields["status"]},
        "is_alert": True,
        "message": fields["rule"],
        "src_endpoint": {"svc_name": "mcp-client"} | ({"ip": peers[0]} if peers else {}) | port,
        "status": _STATUSES[_FAILURE],
        "status_id": _FAILURE,
        "unmapped": fields,
    }
