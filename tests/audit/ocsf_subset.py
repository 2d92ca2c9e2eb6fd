"""A subset of the OCSF 1.8.0 schema, written down by hand: enough to catch a wrong class, id or enumeration.

Not the schema: only the four classes that callgate emits, their required attributes and those of the
objects below them, the enumerations of the attributes that callgate sets, and "at least one" constraints.
An attribute that is not listed here is reported, so that each one used was looked up once.
"""

from __future__ import annotations

from typing import Any

SEVERITY = {0, 1, 2, 3, 4, 5, 6, 99}
METADATA: dict[str, Any] = {
    "required": {"product", "version"},
    "optional": {"correlation_uid", "log_name", "profiles", "sequence", "uid"},
}
BASE_REQUIRED = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
BASE_OPTIONAL = {"activity_name", "message", "status", "status_id", "unmapped"}
CLASSES: dict[int, dict[str, Any]] = {
    6003: {  # API Activity with the profile security_control
        "activities": {0, 1, 2, 3, 4, 99},
        "status_ids": {0, 1, 2, 99},
        "required": {"actor", "api", "src_endpoint"},
        "optional": {"action", "action_id", "disposition", "disposition_id", "dst_endpoint", "is_alert"},
    },
    2004: {  # Detection Finding
        "activities": {0, 1, 2, 3, 99},
        "status_ids": {0, 1, 2, 3, 4, 5, 6, 99},
        "required": {"finding_info"},
        "optional": {"evidences", "is_alert"},
    },
    4002: {  # HTTP Activity with the profile security_control
        "activities": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99},
        "status_ids": {0, 1, 2, 99},
        "required": set(),
        "optional": {
            "action",
            "action_id",
            "count",
            "disposition",
            "disposition_id",
            "dst_endpoint",
            "http_request",
            "http_response",
            "is_alert",
            "src_endpoint",
        },
    },
    6002: {  # Application Lifecycle
        "activities": {0, 1, 2, 3, 4, 5, 6, 7, 8, 99},
        "status_ids": {0, 1, 2, 99},
        "required": {"app"},
        "optional": set(),
    },
}
DISPOSITIONS = {
    0: "Unknown", 1: "Allowed", 2: "Blocked", 3: "Quarantined", 8: "Approved", 11: "Corrected", 14: "Delayed",
    15: "Detected", 17: "Logged", 19: "Alert", 23: "Challenge", 25: "Rejected", 26: "Unauthorized", 27: "Error",
}  # fmt: skip
ACTIONS = {0: "Unknown", 1: "Allowed", 2: "Denied"}
OBJECTS: dict[str, dict[str, set[str]]] = {
    "actor": {"required": set(), "one_of": {"process", "user", "session", "app_name", "app_uid"}, "optional": set()},
    "api": {
        "required": {"operation"},
        "one_of": set(),
        "optional": {"request", "response", "service", "version", "group"},
    },
    "app": {"required": {"name"}, "one_of": set(), "optional": {"vendor_name", "version", "uid"}},
    "src_endpoint": {"required": set(), "one_of": {"ip", "uid", "name", "hostname", "svc_name"}, "optional": {"port"}},
    "dst_endpoint": {"required": set(), "one_of": {"ip", "uid", "name", "hostname", "svc_name"}, "optional": {"port"}},
    "http_request": {"required": set(), "one_of": set(), "optional": {"http_method", "uid", "url"}},
    "http_response": {"required": {"code"}, "one_of": set(), "optional": {"message", "status"}},
    "finding_info": {
        "required": {"uid"},
        "one_of": set(),
        "optional": {"analytic", "created_time", "desc", "related_events", "title", "types"},
    },
}


def faults(event: dict[str, Any]) -> list[str]:
    """What is wrong with an event, by this subset; empty when nothing is."""
    schema = CLASSES.get(event.get("class_uid", 0))
    if schema is None:
        return [f"class {event.get('class_uid')}"]
    found = _members("event", event, BASE_REQUIRED | schema["required"], BASE_OPTIONAL | schema["optional"])
    found += _members("metadata", event["metadata"], METADATA["required"], METADATA["optional"])
    found += _members("product", event["metadata"]["product"], {"name", "vendor_name"}, {"version"})
    checks = {
        "activity_id": event["activity_id"] in schema["activities"],
        "category_uid": event["category_uid"] == event["class_uid"] // 1000,
        "type_uid": event["type_uid"] == event["class_uid"] * 100 + event["activity_id"],
        "severity_id": event["severity_id"] in SEVERITY,
        "time": isinstance(event["time"], int) and 10**12 < event["time"] < 10**13,
        "status_id": event.get("status_id", 0) in schema["status_ids"],
        "version": event["metadata"]["version"] == "1.8.0",
        "activity_name": event["activity_id"] != 99 or bool(event.get("activity_name")),
        "action": ACTIONS.get(event.get("action_id", 0)) == event.get("action", "Unknown"),
        "disposition": DISPOSITIONS.get(event.get("disposition_id", 0)) == event.get("disposition", "Unknown"),
        "security_control": ("action_id" in event) <= ("security_control" in event["metadata"].get("profiles", ())),
        "analytic": event.get("finding_info", {}).get("analytic", {}).get("type_id", 1) in range(5),
    }
    found += [name for name, good in checks.items() if not good]
    for name, rules in OBJECTS.items():
        if name in event:
            found += _members(name, event[name], rules["required"], rules["optional"] | rules["one_of"])
            if rules["one_of"] and not rules["one_of"] & set(event[name]):
                found.append(f"{name}: none of {sorted(rules['one_of'])}")
    return found


def _members(where: str, value: dict[str, Any], required: set[str], optional: set[str]) -> list[str]:
    missing = [f"{where}: {name} is missing" for name in sorted(required - set(value))]
    return missing + [f"{where}: {name} is not known" for name in sorted(set(value) - required - optional)]
