"""Every place of a message where a string can stand, one message for each."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

TOOLS: dict[str, Any] = {
    "tools": [
        {
            "name": "search",
            "title": "Search",
            "description": "Searches.",
            "icons": [{"src": "https://x.example/i.png", "mimeType": "image/png"}],
            "annotations": {"title": "Search", "readOnlyHint": True},
            "inputSchema": {
                "type": "object",
                "title": "Arguments",
                "properties": {
                    "query": {"type": "string", "description": "what", "default": "all", "examples": ["one"]},
                    "kind": {"anyOf": [{"const": "a"}, {"enum": ["b", "c"]}], "$comment": "kinds"},
                },
                "required": ["query"],
                "$defs": {"deep": {"items": {"properties": {"deeper": {"pattern": "^x$"}}}}},
            },
            "outputSchema": {"type": "object", "properties": {"hits": {"type": "array"}}},
            "_meta": {"vendor.example/note": {"free": "text"}},
            "unknownMember": "text",
        }
    ]
}
PROMPTS: dict[str, Any] = {
    "prompts": [{"name": "p", "title": "t", "description": "d", "arguments": [{"name": "a", "description": "b"}]}]
}
RESOURCES: dict[str, Any] = {
    "resources": [{"uri": "file:///a", "name": "a", "title": "A", "description": "d", "mimeType": "text/plain"}]
}
TEMPLATES: dict[str, Any] = {"resourceTemplates": [{"uriTemplate": "file:///{p}", "name": "t", "description": "d"}]}
CALL_RESULT: dict[str, Any] = {
    "content": [
        {"type": "text", "text": "found", "annotations": {"audience": ["user"]}},
        {"type": "resource", "resource": {"uri": "file:///a", "text": "body", "mimeType": "text/plain"}},
        {"type": "resource_link", "uri": "file:///b", "name": "b", "title": "B", "description": "d"},
        {"type": "unknown-block", "anything": {"nested": ["text"]}},
    ],
    "structuredContent": {"rows": [{"key": "value"}], "total": 1},
    "extension": {"member": "text"},
}
PROMPT_RESULT: dict[str, Any] = {
    "description": "d",
    "messages": [{"role": "user", "content": {"type": "text", "text": "say"}}],
}
READ_RESULT: dict[str, Any] = {"contents": [{"uri": "file:///a", "text": "body", "mimeType": "text/plain"}]}

LISTS = {
    "tools/list": TOOLS,
    "prompts/list": PROMPTS,
    "resources/list": RESOURCES,
    "resources/templates/list": TEMPLATES,
}
RESULTS = {"tools/call": CALL_RESULT, "prompts/get": PROMPT_RESULT, "resources/read": READ_RESULT}


def with_payload(value: Any, payload: str) -> Iterator[tuple[str, Any]]:
    """(place, copy of `value` with `payload` put into one string there), for each string and member name."""
    for path, is_key in _strings(value, ()):
        changed = copy.deepcopy(value)
        place = changed
        for step in path[:-1]:
            place = place[step]
        if is_key:
            place[str(path[-1]) + payload] = place.pop(path[-1])
        else:
            text = place[path[-1]]
            place[path[-1]] = text[: len(text) // 2] + payload + text[len(text) // 2 :]
        yield "/".join(map(str, path)) + (" (name)" if is_key else ""), changed


def _strings(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], bool]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield (*path, key), True
            yield from _strings(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _strings(child, (*path, index))
    elif isinstance(value, str):
        yield path, False
