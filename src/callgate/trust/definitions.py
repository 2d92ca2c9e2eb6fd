"""The whole surface a server shows, taken from its catalogue answers as items that can be pinned.

An item is one thing with a name: a tool, a prompt, a resource, a resource template; and, once per
server, its identity and its instructions. An item's body holds every member the server sent, known or
not, except the volatile ones below.

Outside the pin, because they change without the server's meaning changing and no model reads them:

- `nextCursor`, `ttlMs`, `cacheScope`, `resultType` and `_meta` of the *answer*: paging, caching, transport.
- `protocolVersion`, `supportedVersions`: negotiated per client.
- `size` of a resource and `lastModified` in its annotations: they describe the content of the moment.
- In an item's `_meta`: trace context and time stamps (VOLATILE_META), and only while the value is a
  number or a short word: longer text there is pinned like any other.
- Of the capabilities, all but whether tools, prompts and resources are offered: the others
  (logging, completions, tasks, extensions) follow what the client declared and carry no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from callgate.frozen import dataclass
from callgate.trust.canonical import digest

ItemKind: TypeAlias = Literal["tool", "prompt", "resource", "template", "identity", "instructions"]
KINDS: Final[tuple[ItemKind, ...]] = ("tool", "prompt", "resource", "template", "identity", "instructions")

LISTS: Final[Mapping[str, tuple[ItemKind, str, str]]] = {
    "tools/list": ("tool", "tools", "name"),
    "prompts/list": ("prompt", "prompts", "name"),
    "resources/list": ("resource", "resources", "uri"),
    "resources/templates/list": ("template", "resourceTemplates", "uriTemplate"),
}
"""List method: (kind of its items, member of the result that holds them, member that names an item)."""

KEY_MEMBER: Final[Mapping[ItemKind, str]] = {kind: key for kind, _, key in LISTS.values()}

SURFACES: Final = ("prompts", "resources", "tools")
"""Capabilities that open something a model reads."""

VOLATILE_META: Final = frozenset(
    {
        "baggage",
        "generatedAt",
        "io.modelcontextprotocol/serverInfo",
        "lastModified",
        "progressToken",
        "timestamp",
        "traceparent",
        "tracestate",
        "updatedAt",
    }
)
_SERVER_INFO = "io.modelcontextprotocol/serverInfo"
_SHORT = 64


@dataclass(frozen=True, slots=True)
class Item:
    """One pinnable thing. `pointer` says where in the answer it stands (RFC 6901, from the message body)."""

    kind: ItemKind
    key: str
    body: Any
    digest: str
    pointer: str

    @property
    def address(self) -> str:
        """How a person names it: `search`, `prompt:greet`, `instructions`."""
        return address(self.kind, self.key)


@dataclass(frozen=True, slots=True)
class Extract:
    """What one answer shows. `kind` is '' for an answer that carries identity and instructions.

    `unreadable` are pointers to list elements that are no object or have no name: nothing can be
    pinned there. `cursor` is the answer's `nextCursor`, None when the list ends here.
    """

    kind: ItemKind | Literal[""]
    items: tuple[Item, ...]
    unreadable: tuple[str, ...] = ()
    cursor: str | None = None


def address(kind: str, key: str) -> str:
    """`search`, `prompt:greet`, `resource:file:///a`, `identity`, `instructions`.

    A tool whose name would read as another kind is written `tool:NAME`.
    """
    if kind in ("identity", "instructions"):
        return kind
    if kind == "tool" and key not in ("identity", "instructions") and key.partition(":")[0] not in KEY_MEMBER:
        return key
    return f"{kind}:{key}"


def parse_address(text: str) -> tuple[ItemKind, str]:
    """The inverse of `address`."""
    if text == "identity":
        return "identity", ""
    if text == "instructions":
        return "instructions", ""
    prefix, colon, rest = text.partition(":")
    for kind in KEY_MEMBER:
        if colon and prefix == kind:
            return kind, rest
    return "tool", text


def extract(method: str, body: Mapping[str, Any]) -> Extract | None:
    """The items of the answer to `method`; None when it is not a catalogue answer with a result object."""
    result = body.get("result")
    if not isinstance(result, dict):
        return None
    if method in LISTS:
        return _list(method, result)
    if method in ("initialize", "server/discover"):
        return Extract("", (*_identities(result), _instructions(result)))
    return None


def handed_out_later(result: Mapping[str, Any]) -> bool:
    """Whether an answer names a task to fetch the real one from: that may answer calls only, never a catalogue."""
    task = result.get("task")
    return result.get("resultType") == "task" or (isinstance(task, dict) and "taskId" in task)


def _list(method: str, result: Mapping[str, Any]) -> Extract | None:
    kind, member, key_member = LISTS[method]
    elements = result.get(member)
    if not isinstance(elements, list):
        # Nothing, or something that a lax client may read as a list all the same.
        odd = isinstance(elements, str | dict) and bool(elements)
        return Extract("", (), (f"/result/{member}",)) if odd else None
    items: list[Item] = []
    unreadable: list[str] = []
    for index, element in enumerate(elements):
        pointer = f"/result/{member}/{index}"
        key = element.get(key_member) if isinstance(element, dict) else None
        if not isinstance(key, str):
            unreadable.append(pointer)
            continue
        pinned = pinned_body(kind, element)
        items.append(Item(kind, key, pinned, digest(pinned), pointer))
    cursor = result.get("nextCursor")
    return Extract(kind, tuple(items), tuple(unreadable), cursor if isinstance(cursor, str) else None)


def pinned_body(kind: ItemKind, element: Mapping[str, Any]) -> dict[str, Any]:
    """An element of a list without its volatile members."""
    body = dict(element)
    if kind == "resource":
        if isinstance(body.get("size"), int | float | None):
            body.pop("size", None)
        annotations = body.get("annotations")
        if isinstance(annotations, dict) and _is_time(annotations.get("lastModified")):
            body["annotations"] = {k: v for k, v in annotations.items() if k != "lastModified"}
            if not body["annotations"]:
                del body["annotations"]
    meta = body.get("_meta")
    if isinstance(meta, dict):
        kept = {k: v for k, v in meta.items() if k not in VOLATILE_META or not _is_short(v)}
        if kept:
            body["_meta"] = kept
        else:
            del body["_meta"]
    return body


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _SHORT and not any(map(str.isspace, value))
    return value is None or isinstance(value, int | float)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 40 and all(c in "0123456789-:.TZ+ " for c in value)


def _identities(result: Mapping[str, Any]) -> list[Item]:
    """The server's `Implementation` objects: in a member, or in `_meta` since 2026-07-28, where it need not be.

    A server that says it in both places is held to the same in both: which of them a client reads, nobody knows.
    """
    meta = result.get("_meta")
    places = (
        ("/result/serverInfo", result.get("serverInfo")),
        (
            "/result/_meta/" + _SERVER_INFO.replace("/", "~1"),
            meta.get(_SERVER_INFO) if isinstance(meta, dict) else None,
        ),
    )
    capabilities = result.get("capabilities")
    found: list[Item] = []
    for pointer, info in places:
        if isinstance(info, dict):
            body: dict[str, Any] = dict(info)
            if isinstance(capabilities, dict):
                body["capabilities"] = [name for name in SURFACES if name in capabilities]
            found.append(Item("identity", "", body, digest(body), pointer))
    return found


def _instructions(result: Mapping[str, Any]) -> Item:
    text = result.get("instructions")
    body = "" if text is None else text  # what is no text is pinned as it is: a lax client makes text of it
    return Item("instructions", "", body, digest(body), "/result/instructions")
