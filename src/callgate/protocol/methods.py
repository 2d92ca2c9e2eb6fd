"""Methods and the members that name what they are about: the tables every message needs.

Apart from `revisions`, which describes all of the protocol and takes longer to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

META_VERSION = "io.modelcontextprotocol/protocolVersion"
"""`params._meta` member that marks a request of the modern era; its value is the revision."""

LIST_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "tools/list": "tools",
        "prompts/list": "prompts",
        "resources/list": "resources",
        "resources/templates/list": "resourceTemplates",
        "tasks/list": "tasks",
        "roots/list": "roots",
    }
)
"""List request → the member of its result that holds the list."""

MIRRORED_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "tools/call": "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "tasks/get": "taskId",
        "tasks/update": "taskId",
        "tasks/cancel": "taskId",
    }
)
"""Request → the member of `params` that `Mcp-Name` repeats (tasks/*: the tasks extension)."""

NAME_MEMBERS: Mapping[str, str] = MappingProxyType(
    {
        **MIRRORED_NAMES,
        "tasks/result": "taskId",
        "resources/subscribe": "uri",
        "resources/unsubscribe": "uri",
    }
)
"""Request → the member of `params` that says which tool, prompt, resource or task it is about."""
