"""A record as OpenTelemetry data in OTLP's JSON form, one document a line (the file format of OTLP exporters).

- An answer becomes a server span: it ends at the record's time and began `took_us` before.
- A refused request becomes a server span of no length, with `error.type` the rule that refused it.
- Anything else becomes a log record; a request refused at the HTTP door one with the attributes of HTTP.

Attribute names are those of the semantic conventions for MCP and generative AI (status: development),
where there is one; the others start with `callgate.`. Ids of trace and span are derived from the log's id
and `seq`, so that exporting twice gives the same spans; the client's own `traceparent` is not recorded.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import callgate
from callgate.audit.live import is_refusal
from callgate.audit.records import Record, canonical_value, message_digest

_KIND_SERVER: Final = 2
_STATUS_ERROR: Final = 2
_NAME_ATTRIBUTES: Final = {
    "tools/call": "gen_ai.tool.name",
    "prompts/get": "gen_ai.prompt.name",
    "resources/read": "mcp.resource.uri",
    "resources/subscribe": "mcp.resource.uri",
    "resources/unsubscribe": "mcp.resource.uri",
}
_AT_THE_DOOR: Final = {
    "peer": "client.address",
    "port": "client.port",
    "method": "http.request.method",
    "status": "http.response.status_code",
    "path": "url.path",
    "rule": "error.type",
    "route": "callgate.server",
    "principal": "callgate.principal",
    "count": "callgate.count",
}
_REFUSED: Final = ("deny",)
_LEVELS: Final = {"allow": (9, "INFO"), "deny": (13, "WARN"), "error": (17, "ERROR")}


def otlp_document(record: Record) -> Record:
    """`{"resourceSpans": …}` or `{"resourceLogs": …}` for one record."""
    resource = {"attributes": _attributes({"service.name": "callgate", "service.version": callgate.__version__})}
    scope = {"name": "callgate.audit", "version": callgate.__version__}
    if record.get("kind") == "decision" and record["rpc_id"] is not None:
        answer = record["direction"] == "server" and record["about"]
        if answer or (record["direction"] == "client" and record["outcome"] in _REFUSED):
            spans = [{"scope": scope, "spans": [_span(record)]}]
            return {"resourceSpans": [{"resource": resource, "scopeSpans": spans}]}
    logs = [{"scope": scope, "logRecords": [_log(record)]}]
    return {"resourceLogs": [{"resource": resource, "scopeLogs": logs}]}


def attributes(record: Record) -> dict[str, Any]:
    """The attributes of one record by name; values are strings, integers or booleans."""
    found: dict[str, Any] = {
        "callgate.chain": record["chain"],
        "callgate.kind": record["kind"],
        "callgate.seq": record["seq"],
    }
    if is_refusal(record):
        fields = record["fields"]
        found |= {name: fields[member] for member, name in _AT_THE_DOOR.items() if fields.get(member)}
    if record["kind"] == "note":
        return found | {"callgate.note": record["what"], "callgate.fields": canonical_value(record["fields"]).decode()}
    if record["kind"] != "decision":
        return found
    scope = record["scope"]
    found |= {
        "callgate.direction": record["direction"],
        "callgate.hook": record["hook"],
        "callgate.message.digest": message_digest(record),
        "callgate.message.size": record["size"],
        "callgate.outcome": record["outcome"],
        "callgate.principal": scope["principal"],
        "callgate.server": scope["server"],
        "mcp.method.name": record["method"],
        "network.transport": "pipe" if scope["transport"] == "stdio" else "tcp",
    }
    optional = {
        "jsonrpc.request.id": None if record["rpc_id"] is None else str(record["rpc_id"]),
        "mcp.protocol.version": scope["revision"],
        "mcp.session.id": scope["session"],
        "gen_ai.operation.name": "execute_tool" if record["method"] == "tools/call" else "",
    }
    if record["name"]:
        optional[_NAME_ATTRIBUTES.get(record["method"], "callgate.name")] = record["name"]
    rules = [finding["rule"] for finding in record.get("findings") or []]
    if record["outcome"] in _REFUSED:
        optional["error.type"] = rules[0] if rules else record["outcome"]
    elif record.get("failed"):
        optional["error.type"] = record["failed"]
    if rules:
        found["callgate.rules"] = ",".join(rules)
    return found | {name: value for name, value in optional.items() if value}


def _span(record: Record) -> Record:
    end = record["time"] * 1000
    method, name = record["method"], record["name"]
    named = method in ("tools/call", "prompts/get") and name
    span: Record = {
        "attributes": _attributes(attributes(record)),
        "endTimeUnixNano": str(end),
        "kind": _KIND_SERVER,
        "name": f"{method} {name}" if named else method,
        "spanId": _id(record, 16),
        "startTimeUnixNano": str(end - record["took_us"] * 1000),
        "traceId": _id(record, 32),
    }
    if record["outcome"] in _REFUSED or record.get("failed"):
        span["status"] = {"code": _STATUS_ERROR}
    return span


def _log(record: Record) -> Record:
    outcome = "deny" if is_refusal(record) else str(record.get("outcome", ""))
    number, text = _LEVELS.get(outcome, _LEVELS["allow"])
    log: Record = {
        "attributes": _attributes(attributes(record)),
        "body": {"stringValue": str(record.get("method") or record.get("what") or record["kind"])},
        "eventName": f"callgate.{record['kind']}",
        "severityNumber": number,
        "severityText": text,
        "timeUnixNano": str(record["time"] * 1000),
    }
    if record["kind"] == "decision":
        log |= {"spanId": _id(record, 16), "traceId": _id(record, 32)}
    return log


def _id(record: Record, digits: int) -> str:
    """The same for a request and for its answers."""
    source = f"{record['chain']}:{record['about'] or record['seq']}:{digits}"
    return hashlib.sha256(source.encode()).hexdigest()[:digits]


def _attributes(values: dict[str, Any]) -> list[Record]:
    return [{"key": name, "value": _value(value)} for name, value in sorted(values.items())]


def _value(value: Any) -> Record:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": str(value)}
