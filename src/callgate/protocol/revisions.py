"""The five revisions of MCP as tables: era, methods by sender, and what each revision has.

The handshake era (2024-11-05 to 2025-11-25) opens with `initialize`; the modern, stateless era
(2026-07-28) carries its version in every request. The tables list what the published schemas define;
a method that is not in them is not an error here, it passes as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from callgate.protocol.methods import META_VERSION, NAME_MEMBERS

META_CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
META_SERVER_INFO = "io.modelcontextprotocol/serverInfo"
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"
META_SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"
META_RELATED_TASK = "io.modelcontextprotocol/related-task"

TASKS_EXTENSION = "io.modelcontextprotocol/tasks"
UI_EXTENSION = "io.modelcontextprotocol/ui"

HEADERLESS = "2025-03-26"
"""What an HTTP server may assume of a handshake-era request without `MCP-Protocol-Version`."""


class Era(StrEnum):
    """How a conversation knows its revision."""

    HANDSHAKE = "handshake"
    MODERN = "modern"


class Feature(StrEnum):
    """What only some revisions have."""

    BATCH = "batch"
    """Several messages in one JSON array."""
    SSE_ENDPOINT = "sse-endpoint"
    """The HTTP+SSE transport: GET for a stream, its `endpoint` event says where to POST."""
    STREAMABLE_HTTP = "streamable-http"
    SESSION = "session"
    """`Mcp-Session-Id`, GET streams and DELETE on the HTTP endpoint."""
    RESUME = "resume"
    """SSE event ids and `Last-Event-ID`."""
    VERSION_HEADER = "version-header"
    """`MCP-Protocol-Version` on every HTTP request after negotiation."""
    MIRRORED_HEADERS = "mirrored-headers"
    """`Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` repeat members of the body."""
    SERVER_REQUESTS = "server-requests"
    """Servers send requests of their own, clients answer them."""
    INPUT_REQUIRED = "input-required"
    """Servers ask for input inside results; clients repeat the request with the answers."""
    ELICITATION = "elicitation"
    STRUCTURED_CONTENT = "structured-content"
    RESOURCE_LINKS = "resource-links"
    TOOL_ANNOTATIONS = "tool-annotations"
    ICONS = "icons"
    TASKS = "tasks"
    """Long-running work: part of 2025-11-25, an extension since."""
    CANCEL_ON_DISCONNECT = "cancel-on-disconnect"
    """A client that closes the HTTP response cancels the request."""
    LISTEN = "listen"
    """`subscriptions/listen` carries all change notifications."""
    CACHE_FIELDS = "cache-fields"
    """`ttlMs` and `cacheScope` in results."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One published revision."""

    version: str
    era: Era
    client_requests: frozenset[str]
    client_notifications: frozenset[str]
    server_requests: frozenset[str]
    server_notifications: frozenset[str]
    features: frozenset[Feature]


_CLIENT = frozenset(
    {
        "initialize", "ping", "logging/setLevel", "completion/complete",
        "tools/list", "tools/call", "prompts/list", "prompts/get",
        "resources/list", "resources/templates/list", "resources/read",
        "resources/subscribe", "resources/unsubscribe",
    }
)  # fmt: skip
_CLIENT_NOTES = frozenset(
    {
        "notifications/cancelled", "notifications/initialized", "notifications/progress",
        "notifications/roots/list_changed",
    }
)  # fmt: skip
_SERVER = frozenset({"ping", "sampling/createMessage", "roots/list"})
_SERVER_NOTES = frozenset(
    {
        "notifications/cancelled", "notifications/progress", "notifications/message",
        "notifications/tools/list_changed", "notifications/prompts/list_changed",
        "notifications/resources/list_changed", "notifications/resources/updated",
    }
)  # fmt: skip
_TASKS = frozenset({"tasks/get", "tasks/result", "tasks/cancel", "tasks/list"})

_2025_06_FEATURES = frozenset(
    {
        Feature.STREAMABLE_HTTP, Feature.SESSION, Feature.RESUME, Feature.VERSION_HEADER, Feature.SERVER_REQUESTS,
        Feature.ELICITATION, Feature.STRUCTURED_CONTENT, Feature.RESOURCE_LINKS, Feature.TOOL_ANNOTATIONS,
    }
)  # fmt: skip

_ALL = (
    Revision(
        "2024-11-05", Era.HANDSHAKE, _CLIENT, _CLIENT_NOTES, _SERVER, _SERVER_NOTES,
        frozenset({Feature.SSE_ENDPOINT, Feature.SERVER_REQUESTS}),
    ),
    Revision(
        "2025-03-26", Era.HANDSHAKE, _CLIENT, _CLIENT_NOTES, _SERVER, _SERVER_NOTES,
        frozenset(
            {
                Feature.BATCH, Feature.STREAMABLE_HTTP, Feature.SESSION, Feature.RESUME, Feature.SERVER_REQUESTS,
                Feature.TOOL_ANNOTATIONS,
            }
        ),
    ),
    Revision(
        "2025-06-18", Era.HANDSHAKE, _CLIENT, _CLIENT_NOTES, _SERVER | {"elicitation/create"}, _SERVER_NOTES,
        _2025_06_FEATURES,
    ),
    Revision(
        "2025-11-25", Era.HANDSHAKE,
        _CLIENT | _TASKS,
        _CLIENT_NOTES | {"notifications/tasks/status"},
        _SERVER | _TASKS | {"elicitation/create"},
        _SERVER_NOTES | {"notifications/tasks/status", "notifications/elicitation/complete"},
        _2025_06_FEATURES | {Feature.ICONS, Feature.TASKS},
    ),
    Revision(
        "2026-07-28", Era.MODERN,
        frozenset(
            {
                "server/discover", "completion/complete", "subscriptions/listen",
                "tools/list", "tools/call", "prompts/list", "prompts/get",
                "resources/list", "resources/templates/list", "resources/read",
            }
        ),
        frozenset({"notifications/cancelled"}),
        frozenset(),
        _SERVER_NOTES | {"notifications/subscriptions/acknowledged"},
        frozenset(
            {
                Feature.STREAMABLE_HTTP, Feature.VERSION_HEADER, Feature.MIRRORED_HEADERS, Feature.INPUT_REQUIRED,
                Feature.ELICITATION, Feature.STRUCTURED_CONTENT, Feature.RESOURCE_LINKS, Feature.TOOL_ANNOTATIONS,
                Feature.ICONS, Feature.CANCEL_ON_DISCONNECT, Feature.LISTEN, Feature.CACHE_FIELDS,
            }
        ),
    ),
)  # fmt: skip

REVISIONS: Mapping[str, Revision] = MappingProxyType({revision.version: revision for revision in _ALL})
"""By version string, oldest first."""
HANDSHAKE_VERSIONS = frozenset(r.version for r in _ALL if r.era is Era.HANDSHAKE)
MODERN_VERSIONS = frozenset(r.version for r in _ALL if r.era is Era.MODERN)
LATEST = _ALL[-1].version

TASK_REQUESTS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""Requests of the tasks extension (modern era)."""
TASK_NOTIFICATIONS = frozenset({"notifications/tasks"})
"""Server notifications of the tasks extension, sent on a `subscriptions/listen` stream."""

INPUT_REQUIRED_METHODS = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Requests whose result may be `resultType: input_required` (2026-07-28)."""
INPUT_REQUESTS = frozenset({"sampling/createMessage", "roots/list", "elicitation/create"})
"""What such a result may ask for."""


def modern_version(body: Mapping[str, Any]) -> Any:
    """The revision a request or notification claims in its `_meta`, as it stands there; None in the handshake era."""
    params = body.get("params")
    if type(params) is dict:
        meta = params.get("_meta")
        if type(meta) is dict:
            return meta.get(META_VERSION)
    return None


def has(version: str, feature: Feature) -> bool:
    """Whether `version` has `feature`; False for a version that is not known."""
    revision = REVISIONS.get(version)
    return revision is not None and feature in revision.features


def allows_batch(version: str) -> bool:
    """Batches exist in 2025-03-26 only."""
    return has(version, Feature.BATCH)


def name_of(method: str, params: Mapping[str, Any] | None) -> str:
    """The tool, prompt, resource URI or task id a request names, or ''."""
    member = NAME_MEMBERS.get(method)
    if member is None or not params:
        return ""
    name = params.get(member)
    return name if type(name) is str else ""
