"""Which hook a message meets, by method. Methods not named here are ordinary calls and content."""

from __future__ import annotations

from callgate.gate.events import Hook

CONNECT_METHODS = frozenset({"initialize", "server/discover"})
LIST_METHODS = frozenset({"tools/list", "prompts/list", "resources/list", "resources/templates/list"})
CATALOG_METHODS = CONNECT_METHODS | LIST_METHODS
"""Requests whose answers say what a server is and offers."""

NAME_MEMBER = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
    "tasks/result": "taskId",
}
"""The member of `params` that names what a request is about."""

MODERN_KEY = "io.modelcontextprotocol/protocolVersion"
"""`params._meta` key that marks a request of the stateless era (2026-07-28)."""


def answer_hook(method: str, input_required: bool) -> Hook:
    """The hook a server's answer to a request of `method` meets."""
    if input_required:
        return "server_request"
    return "catalog" if method in CATALOG_METHODS else "content"
