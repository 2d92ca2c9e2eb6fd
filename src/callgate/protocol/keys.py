"""Member names the protocol defines, and the refusal of names that differ from them only in case.

Some JSON readers (Go's encoding/json among them) match member names without regard to case, so a
message with `Name` in place of, or beside, `name` means one thing to the gate and another to the
server. Free data (structured content, schema properties, unknown extensions) is not the protocol's
and is left alone; tool arguments are refused only when two of their names fold to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callgate.errors import ProtocolError

ENVELOPE = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
ERROR = frozenset({"code", "message", "data"})
PARAMS = frozenset(
    {
        "_meta", "arguments", "name", "uri", "cursor", "protocolVersion", "capabilities", "clientInfo",
        "requestId", "reason", "progressToken", "progress", "total", "message", "level", "logger", "data",
        "ref", "argument", "context", "messages", "modelPreferences", "systemPrompt", "includeContext",
        "temperature", "maxTokens", "stopSequences", "metadata", "tools", "toolChoice", "requestedSchema",
        "mode", "url", "elicitationId", "task", "taskId", "inputResponses", "requestState", "notifications",
        "status", "statusMessage", "ttl", "ttlMs", "pollInterval", "pollIntervalMs", "createdAt",
        "lastUpdatedAt", "result", "error", "inputRequests",
    }
)  # fmt: skip
META = frozenset(
    {
        "progressToken", "traceparent", "tracestate", "baggage",
        "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/serverInfo",
        "io.modelcontextprotocol/logLevel", "io.modelcontextprotocol/subscriptionId",
        "io.modelcontextprotocol/related-task",
    }
)  # fmt: skip
RESULT = frozenset(
    {
        "_meta", "resultType", "content", "structuredContent", "isError", "tools", "prompts", "resources",
        "resourceTemplates", "nextCursor", "protocolVersion", "supportedVersions", "capabilities",
        "serverInfo", "instructions", "contents", "messages", "description", "completion", "roots", "model",
        "role", "stopReason", "action", "inputRequests", "requestState", "ttlMs", "cacheScope", "task",
        "tasks", "taskId", "status", "statusMessage", "ttl", "pollInterval", "pollIntervalMs", "createdAt",
        "lastUpdatedAt", "result", "error",
    }
)  # fmt: skip
ITEM = frozenset(
    {
        "_meta", "type", "text", "data", "mimeType", "annotations", "resource", "uri", "name", "title",
        "description", "size", "icons", "blob", "inputSchema", "outputSchema", "execution", "arguments",
        "uriTemplate", "role", "content", "required", "taskId", "status", "id", "input", "toolUseId",
        "structuredContent", "isError",
    }
)  # fmt: skip
COMMON = PARAMS - {
    "ref", "argument", "clientInfo", "task", "notifications", "inputRequests", "inputResponses", "result", "messages",
    "tools",
}  # fmt: skip
"""Members of params that hold no further members of the protocol: nothing to check below them."""
INNER = ITEM | {
    "value", "version", "websiteUrl", "method", "params", "action", "model", "stopReason", "roots", "values", "total",
    "hasMore", "statusMessage", "createdAt", "lastUpdatedAt", "ttl", "ttlMs", "pollInterval", "pollIntervalMs",
    "resourceSubscriptions", "taskIds", "toolsListChanged", "promptsListChanged", "resourcesListChanged",
}  # fmt: skip
"""Members of the objects that a single member of params or of a result holds."""
NESTED = frozenset(
    {
        "ref", "argument", "clientInfo", "serverInfo", "task", "tasks", "completion", "notifications", "roots",
        "inputRequests", "inputResponses", "result",
    }
)  # fmt: skip
"""Members that hold such objects; few messages have one."""
LISTS = frozenset({"tools", "prompts", "resources", "resourceTemplates", "contents", "messages"})
_TOOL_RESULT = frozenset({"content", "isError", "resultType", "structuredContent"})


def fold(name: str) -> str:
    """`name` as a case-insensitive reader compares it (Unicode simple folding, so U+212A equals k)."""
    return name.lower() if name.isascii() else name.casefold()


def _fold_each(name: str) -> str:
    """The same, one character for one: "dass" and "da\u00df" are two words of a person's data, and to all readers."""
    if name.isascii():
        return name.lower()
    folded = name.casefold()
    return folded if len(folded) == len(name) else "".join(map(_fold_one, name))


def _fold_one(char: str) -> str:
    return next((folded for folded in (char.casefold(), char.lower()) if len(folded) == 1), char)


_FOLDED: dict[frozenset[str], dict[str, str]] = {
    known: {fold(name): name for name in known} for known in (ENVELOPE, ERROR, PARAMS, META, RESULT, ITEM, INNER)
}


def refuse_variants(members: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Raise when a member differs from a known one only in case, or two members fold to one."""
    folded = _FOLDED[known]
    seen: set[str] = set()
    for name in members:
        lowered = fold(name)
        if lowered in seen:
            raise _collision(name, where)
        seen.add(lowered)
        meant = folded.get(lowered)
        if meant is not None and meant != name:
            raise ProtocolError(
                "json-key-case",
                f"{where} has a member that differs from {meant!r} only in case",
                next_step=f"spell it {meant!r}",
            )


def refuse_collisions(value: Any, where: str) -> None:
    """Raise when two members of one object, at any depth, fold to the same name."""
    if len(value) == 1 and type(next(iter(value.values()))) is str:
        return  # the most common call has one argument
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            if len(item) > 1:
                distinct = len({_fold_each(name) for name in item})
                if distinct != len(item):
                    raise _collision(next(iter(item)), where)
            stack.extend([child for child in item.values() if type(child) is dict or type(child) is list])
        elif type(item) is list:
            stack.extend([child for child in item if type(child) is dict or type(child) is list])


def check_result(result: Mapping[str, Any]) -> None:
    """Refuse case variants in a result and in the items of its lists."""
    if _TOOL_RESULT.issuperset(result):
        # The most common result: nothing but content can hold the protocol's names.
        if "content" in result:
            _check_items(result["content"], "content")
        return
    if not RESULT.issuperset(result):
        refuse_variants(result, RESULT, "result")
    if "_meta" in result:
        meta = result["_meta"]
        if type(meta) is dict and not META.issuperset(meta):
            refuse_variants(meta, META, "_meta")
    if "content" in result:
        _check_items(result["content"], "content")
    if not NESTED.isdisjoint(result):
        check_nested(result)
    if not LISTS.isdisjoint(result):
        for name in LISTS.intersection(result):
            _check_items(result[name], name)


def check_nested(members: Mapping[str, Any]) -> None:
    """Refuse case variants inside the NESTED members of params or a result."""
    for name in NESTED.intersection(members):
        value = members[name]
        if name == "result":
            if type(value) is dict:
                check_result(value)
        elif name in {"inputRequests", "inputResponses"}:
            if type(value) is dict:
                for item in value.values():
                    _check_inner(item, name)
        else:
            for item in value if type(value) is list else (value,):
                _check_inner(item, name)


def _check_inner(item: Any, name: str) -> None:
    if type(item) is not dict:
        return
    if not INNER.issuperset(item):
        refuse_variants(item, INNER, f"a member of {name}")
    params = item.get("params")
    if type(params) is dict:
        check_params(params)
    if "content" in item or "roots" in item:
        for below in ("content", "roots"):
            inner = item.get(below)
            _check_items(inner if type(inner) is list else [inner], name)


def check_params(params: Mapping[str, Any]) -> None:
    """Refuse case variants in params, in its nested objects, and in the messages and tools of a sampling request."""
    if not PARAMS.issuperset(params):
        refuse_variants(params, PARAMS, "params")
    if "messages" in params:
        _check_items(params["messages"], "messages")
    if "tools" in params:
        _check_items(params["tools"], "tools")
    if not NESTED.isdisjoint(params):
        check_nested(params)


def _check_items(items: Any, name: str) -> None:
    """Each item of a list, and the one object within it that holds text: a block's resource, a message's content."""
    if type(items) is list:
        for item in items:
            if type(item) is dict and not (len(item) == 2 and "text" in item and "type" in item):
                if not ITEM.issuperset(item):
                    refuse_variants(item, ITEM, f"an item of {name}")
                if "resource" in item:
                    _check_items([item["resource"]], name)
                if "content" in item:
                    inner = item["content"]
                    _check_items(inner if type(inner) is list else [inner], name)


def _collision(name: str, where: str) -> ProtocolError:
    del name  # an attacker's text has no place in the error
    return ProtocolError(
        "json-key-case",
        f"{where} has two members whose names differ only in case",
        next_step="use one spelling of each name",
    )
