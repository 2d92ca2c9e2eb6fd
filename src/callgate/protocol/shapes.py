"""The shapes of MCP messages: for each place of a message, the role of a string that stands there.

One table serves all revisions, since members never changed their meaning between revisions. A shape
that meets an array applies to each element. What a shape does not name is unknown: see `surfaces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from callgate.protocol import methods, revisions
from callgate.protocol.message import Direction
from callgate.protocol.roles import Role


class Shape:
    """How to read one place of a message.

    `role`: a string standing here. `members`: known members of an object standing here. `other`: the shape of
    any other member, `key`: the role of its name. `variants`: the shape to use instead when the object's
    member `by` holds this value.
    """

    __slots__ = ("by", "key", "members", "other", "role", "variants")

    def __init__(self, role: Role, key: Role, other: Shape | None = None) -> None:
        self.role = role
        self.key = key
        self.other = self if other is None else other
        self.members: dict[str, Shape] = {}
        self.by = ""
        self.variants: dict[str, Shape] = {}

    def read(self, item: Mapping[str, Any]) -> Shape:
        """This shape, or the variant that `item` names."""
        if self.by:
            chosen = item.get(self.by)
            if type(chosen) is str:
                return self.variants.get(chosen, self)
        return self


class Shapes:
    """All shapes of messages from one direction."""

    def __init__(self, direction: Direction) -> None:
        server = direction is Direction.SERVER
        self._text = Role.MODEL if server else Role.ARGUMENT
        self._key = Role.NAME if server else Role.ARGUMENT
        self.unknown = Shape(self._text, self._key)
        self._name = self._leaf(Role.NAME)
        self._uri = self._leaf(self._key)
        self._machine = self._leaf(Role.MACHINE)
        self._build_common()
        self._build_schema()
        self._build_content()
        self._build_definitions()
        self.params: dict[str, Shape] = {}
        self.results: dict[str, Shape] = {}
        self._build_results()
        self._build_params()
        self._build_input_requests()
        self._messages: dict[str, Shape] = {}
        for method in {*self.params, *self.results}:
            self._messages[method] = self._message(method)
        self._other_message = self._message("")

    def message(self, method: str) -> Shape:
        """The shape of a message of `method`, or of an answer to one."""
        return self._messages.get(method, self._other_message)

    # -- ways to make a shape ----------------------------------------------------------------------

    def _leaf(self, role: Role) -> Shape:
        return Shape(role, self._key, self.unknown)

    def _object(
        self, *parents: Shape, text: str = "", name: str = "", uri: str = "", machine: str = "", **members: Shape
    ) -> Shape:
        """An object with the members of `parents` and those named here, separated by spaces."""
        shape = self._leaf(self._text)
        for parent in parents:
            shape.members.update(parent.members)
        for names, below in ((text, self.unknown), (name, self._name), (uri, self._uri), (machine, self._machine)):
            shape.members.update(dict.fromkeys(names.split(), below))
        shape.members.update(members)
        return shape

    def _map(self, below: Shape, key: Role | None = None) -> Shape:
        """An object whose members are free names for values of one shape."""
        return Shape(self._text, self._key if key is None else key, below)

    def _message(self, method: str) -> Shape:
        return self._object(
            machine="jsonrpc id method",
            params=self.params.get(method, self._params),
            result=self.results.get(method, self._result),
            error=self._error,
        )

    # -- what many messages share ------------------------------------------------------------------

    def _build_common(self) -> None:
        icon = self._object(machine="src mimeType sizes theme")
        self._implementation = self._object(name="name", text="title version description websiteUrl", icons=icon)
        settings = self._leaf(self._text)
        capabilities = self._object(experimental=self.unknown, extensions=self.unknown)
        for name in (
            "tools", "prompts", "resources", "completions", "logging", "roots", "sampling", "elicitation", "tasks",
        ):  # fmt: skip
            capabilities.members[name] = settings
        for name in (
            "listChanged", "subscribe", "list", "cancel", "requests", "form", "url", "context", "tools", "call",
            "sampling", "createMessage", "elicitation", "create",
        ):  # fmt: skip
            settings.members[name] = settings
        self._capabilities = capabilities
        related = self._object(machine="taskId")
        self._meta = self._object(machine="progressToken traceparent tracestate baggage")
        self._meta.members.update(
            {
                methods.META_VERSION: self._machine,
                revisions.META_LOG_LEVEL: self._machine,
                revisions.META_SUBSCRIPTION_ID: self._machine,
                revisions.META_RELATED_TASK: related,
                revisions.META_CLIENT_CAPABILITIES: capabilities,
                revisions.META_CLIENT_INFO: self._implementation,
                revisions.META_SERVER_INFO: self._implementation,
            }
        )
        self._annotations = self._object(machine="audience lastModified priority")
        self._described = self._object(
            name="name", text="title description", icons=icon, annotations=self._annotations, _meta=self._meta
        )
        self._error = self._object(text="message data", machine="code")
        self._task = self._object(
            machine="taskId status createdAt lastUpdatedAt ttl ttlMs pollInterval pollIntervalMs resultType",
            text="statusMessage",
            _meta=self._meta,
        )

    def _build_schema(self) -> None:
        """JSON Schema, all of it read by the model; names of properties and definitions are names."""
        self._schema = schema = self._leaf(self._text)
        schemas = self._map(schema)
        schema.members.update(
            dict.fromkeys(
                (
                    "items", "prefixItems", "additionalItems", "unevaluatedItems", "contains", "allOf", "anyOf",
                    "oneOf", "not", "if", "then", "else", "additionalProperties", "unevaluatedProperties",
                    "propertyNames", "contentSchema",
                ),
                schema,
            )
        )  # fmt: skip
        schema.members.update(
            dict.fromkeys(
                ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"), schemas
            )
        )
        schema.members.update(
            dict.fromkeys(
                (
                    "$schema", "$id", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$comment", "$vocabulary",
                    "title", "description", "type", "format", "pattern", "enum", "const", "default", "examples",
                    "contentEncoding", "contentMediaType", "minimum", "maximum", "exclusiveMinimum",
                    "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
                    "minContains", "maxContains", "minProperties", "maxProperties", "deprecated", "readOnly",
                    "writeOnly", "enumNames", "x-mcp-header",
                ),
                self.unknown,
            )
        )  # fmt: skip
        schema.members["required"] = self._name
        schema.members["dependentRequired"] = self._map(self._name)

    def _build_content(self) -> None:
        """Content blocks by `type`; a block of no known type is unknown throughout."""
        described, meta = self._described, self._meta
        self._contents = self._object(uri="uri", text="text", machine="mimeType blob", _meta=meta)
        self._resource = self._object(described, uri="uri", machine="mimeType size")
        self._block = block = self._object()
        base = self._object(machine="type", annotations=self._annotations, _meta=meta)
        binary = self._object(base, machine="data mimeType")
        block.by = "type"
        block.variants = {
            "text": self._object(base, text="text"),
            "image": binary,
            "audio": binary,
            "resource": self._object(base, resource=self._contents),
            "resource_link": self._object(self._resource, machine="type"),
            "tool_use": self._object(base, name="name", machine="id", input=self.unknown),
            "tool_result": self._object(
                base, machine="toolUseId isError", content=block, structuredContent=self.unknown
            ),
        }
        self._said = self._object(machine="role", content=block, _meta=meta)

    def _build_definitions(self) -> None:
        described = self._described
        hints = "readOnlyHint destructiveHint idempotentHint openWorldHint"
        self._tool = self._object(
            described,
            annotations=self._object(text="title", machine=hints),
            inputSchema=self._schema,
            outputSchema=self._schema,
            execution=self._object(machine="taskSupport"),
        )
        argument = self._object(self._described, machine="required")
        self._prompt = self._object(described, arguments=argument)
        self._template = self._object(described, uri="uriTemplate", machine="mimeType")
        self._root = self._object(name="name", uri="uri", _meta=self._meta)

    # -- results -----------------------------------------------------------------------------------

    def _build_results(self) -> None:
        self._input_requests = self._map(self._object())  # completed in _build_input_requests
        common = self._result = self._object(
            machine="resultType nextCursor ttlMs cacheScope requestState",
            _meta=self._meta,
            inputRequests=self._input_requests,
        )
        task = self._object(self._task, common, text="statusMessage", task=self._task)
        call = self._object(task, content=self._block, structuredContent=self.unknown, machine="isError")
        prompt = self._object(task, text="description", messages=self._said)
        read = self._object(task, contents=self._contents)
        sample = self._object(task, text="model", machine="role stopReason", content=self._block)
        elicit = self._object(task, machine="action", content=self.unknown)
        roots = self._object(common, roots=self._root)
        finished = self._object(call, prompt, read)
        identity = self._object(
            common, serverInfo=self._implementation, capabilities=self._capabilities, text="instructions"
        )
        self._finished = finished
        self.results.update(
            {
                "initialize": self._object(identity, machine="protocolVersion"),
                "server/discover": self._object(identity, machine="supportedVersions"),
                "tools/list": self._object(common, tools=self._tool),
                "prompts/list": self._object(common, prompts=self._prompt),
                "resources/list": self._object(common, resources=self._resource),
                "resources/templates/list": self._object(common, resourceTemplates=self._template),
                "tools/call": call,
                "prompts/get": prompt,
                "resources/read": read,
                "completion/complete": self._object(
                    common, completion=self._object(text="values", machine="total hasMore")
                ),
                "sampling/createMessage": sample,
                "elicitation/create": elicit,
                "roots/list": roots,
                "tasks/list": self._object(common, tasks=self._task),
                "tasks/get": self._object(task, result=finished, error=self._error),
                "tasks/result": finished,
                "tasks/cancel": task,
                "tasks/update": task,
            }
        )
        if self._text is Role.ARGUMENT:
            # The payload of a task the client ran for the server is what the client answered.
            self.results["tasks/result"] = self._object(sample, machine="action")

    # -- requests and notifications ------------------------------------------------------------------

    def _build_params(self) -> None:
        answer = self._object(self.results["sampling/createMessage"], machine="action", roots=self._root)
        answer.by = "action"
        answer.variants = dict.fromkeys(("accept", "decline", "cancel"), self.results["elicitation/create"])
        answers = self._map(answer)
        common = self._params = self._object(_meta=self._meta)
        retried = self._object(common, machine="requestState", inputResponses=answers, task=self._task)
        page = self._object(common, machine="cursor")
        about = self._object(common, machine="taskId")
        uri = self._object(common, uri="uri")
        status = self._object(common, self._task)
        wanted = self._object(
            uri="resourceSubscriptions",
            machine="taskIds toolsListChanged promptsListChanged resourcesListChanged",
        )
        notifications = self._object(common, notifications=wanted)
        model = self._object(hints=self._object(text="name"), machine="costPriority speedPriority intelligencePriority")
        self.params.update(
            {
                "initialize": self._object(
                    common,
                    machine="protocolVersion",
                    capabilities=self._capabilities,
                    clientInfo=self._implementation,
                ),
                "server/discover": common,
                "ping": common,
                "logging/setLevel": self._object(common, machine="level"),
                **dict.fromkeys(
                    ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "tasks/list"), page
                ),
                "tools/call": self._object(retried, name="name", text="arguments"),
                "prompts/get": self._object(retried, name="name", text="arguments"),
                "resources/read": self._object(retried, uri="uri"),
                "resources/subscribe": uri,
                "resources/unsubscribe": uri,
                "completion/complete": self._object(
                    common,
                    ref=self._object(machine="type", name="name", text="title", uri="uri"),
                    argument=self._object(name="name", text="value"),
                    context=self._object(text="arguments"),
                ),
                "subscriptions/listen": notifications,
                "tasks/get": about,
                "tasks/result": about,
                "tasks/cancel": about,
                "tasks/update": self._object(retried, machine="taskId"),
                "sampling/createMessage": self._object(
                    common,
                    messages=self._said,
                    tools=self._tool,
                    modelPreferences=model,
                    toolChoice=self._object(machine="mode"),
                    task=self._task,
                    text="systemPrompt stopSequences metadata",
                    machine="includeContext temperature maxTokens",
                ),
                "elicitation/create": self._object(
                    common,
                    requestedSchema=self._schema,
                    task=self._task,
                    text="message url",
                    machine="mode elicitationId",
                ),
                "roots/list": common,
                "notifications/cancelled": self._object(common, machine="requestId", text="reason"),
                "notifications/progress": self._object(common, machine="progressToken progress total", text="message"),
                "notifications/message": self._object(common, machine="level", name="logger", text="data"),
                "notifications/resources/updated": self._object(uri, text="title"),
                "notifications/tasks/status": status,
                "notifications/tasks": self._object(
                    status,
                    machine="requestState",
                    result=self._finished,
                    error=self._error,
                    inputRequests=self._input_requests,
                ),
                "notifications/elicitation/complete": self._object(common, machine="elicitationId"),
                "notifications/subscriptions/acknowledged": notifications,
                **dict.fromkeys(
                    (
                        "notifications/initialized",
                        "notifications/roots/list_changed",
                        "notifications/tools/list_changed",
                        "notifications/prompts/list_changed",
                        "notifications/resources/list_changed",
                    ),
                    common,
                ),
            }
        )

    def _build_input_requests(self) -> None:
        """Requests inside an `input_required` result: `{key: {method, params}}`."""
        request = self._input_requests.other
        request.by = "method"
        request.variants = {
            method: self._object(machine="method", params=self.params[method])
            for method in sorted(revisions.INPUT_REQUESTS)
        }


@cache
def _shapes(direction: Direction) -> Shapes:
    return Shapes(direction)


def message_shape(direction: Direction, method: str) -> Shape:
    """The shape of a message from `direction` that has, or answers, `method`."""
    return _shapes(direction).message(method)


def known_names(direction: Direction) -> frozenset[str]:
    """Every member name some shape knows: all names that `surfaces` may leave out."""
    seen: set[int] = set()
    names: set[str] = set()
    every = _shapes(direction)
    stack = [every.message(method) for method in ("", *every.params, *every.results)]
    while stack:
        shape = stack.pop()
        if id(shape) not in seen:
            seen.add(id(shape))
            names.update(shape.members)
            stack.extend((shape.other, *shape.members.values(), *shape.variants.values()))
    return frozenset(names)
