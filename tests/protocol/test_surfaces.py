from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.protocol import methods, pointer, revisions
from callgate.protocol.message import Direction
from callgate.protocol.roles import Role
from callgate.protocol.shapes import known_names
from callgate.protocol.surfaces import Surface, surfaces
from tests.protocol.schema_oracle import FREE, definitions, examples, needs_schemas
from tests.protocol.strategies import all_names, all_strings, directions, objects

CLIENT, SERVER = Direction.CLIENT, Direction.SERVER
METHODS = sorted(
    {"", "x/unknown", *methods.NAME_MEMBERS, *methods.LIST_METHODS}
    | {
        method
        for revision in revisions.REVISIONS.values()
        for table in (
            revision.client_requests, revision.client_notifications,
            revision.server_requests, revision.server_notifications,
        )
        for method in table
    }
)  # fmt: skip


def roles(body, direction, method=""):
    """{pointer: role name} of values; names of members under 'pointer#'."""
    return {s.pointer + ("#" if s.key else ""): s.role.name.lower() for s in surfaces(body, direction, method)}


def check_exact(body, direction, method):
    """Every string once, with its text, at its pointer; every member name that is not the protocol's once."""
    found = surfaces(body, direction, method)
    values = [s for s in found if not s.key]
    assert {s.pointer: s.text for s in values} == all_strings(body)
    assert len(values) == len(all_strings(body))
    names = [s for s in found if s.key]
    assert len({s.pointer for s in names}) == len(names)
    every = all_names(body)
    assert all(every[s.pointer] == s.text for s in names)
    left_out = {every[place] for place in set(every) - {s.pointer for s in names}}
    assert left_out <= known_names(direction)
    assert all(name.isascii() and name.isprintable() for name in left_out)
    return found


# -- properties ------------------------------------------------------------------------------------


@given(objects, directions, st.sampled_from(METHODS))
def test_every_string_of_any_object_is_found_exactly_once(body, direction, method):
    check_exact(body, direction, method)


@given(objects, directions, st.sampled_from(METHODS), st.sampled_from(["params", "result", "error"]))
def test_every_string_of_any_message_is_found_exactly_once(inner, direction, method, member):
    found = check_exact({"jsonrpc": "2.0", "id": 1, "method": method, member: inner}, direction, method)
    unknown, unknown_name = (Role.MODEL, Role.NAME) if direction is SERVER else (Role.ARGUMENT, Role.ARGUMENT)
    for surface in found:
        assert surface.role in {unknown, Role.NAME, Role.MACHINE}
        if surface.key:
            assert surface.role is unknown_name


@given(objects, st.sampled_from(["", "x/unknown"]))
def test_a_result_of_an_unknown_method_has_no_machine_strings_but_the_common_ones(result, method):
    common = {"resultType", "nextCursor", "ttlMs", "cacheScope", "requestState", "_meta", "inputRequests"}
    body = {"jsonrpc": "2.0", "id": "i", "result": result}
    for surface in surfaces(body, SERVER, method):
        if surface.role is Role.MACHINE:
            top = pointer.split(surface.pointer)
            assert top[0] in {"jsonrpc", "id"} or top[1] in common


@needs_schemas
@pytest.mark.parametrize("version", list(revisions.REVISIONS))
def test_no_member_of_the_published_schemas_is_unknown(version):
    """Messages filled from the schemas: the only unknown names are the free ones."""
    seen = 0
    every = definitions(version)
    for name, direction, method in _messages(every):
        for message in examples(version, name):
            body = (
                message
                if name.endswith(("Request", "Notification"))
                else {"id": 1, "jsonrpc": "2.0", "result": message}
            )
            found = check_exact(body, direction, method)
            free = {s.text for s in found if s.key}
            assert free <= {FREE}, (name, free)
            seen += 1
    assert seen > 40


def _messages(every):
    client = {"InitializeRequest", "SetLevelRequest", "CreateMessageResult", "ListRootsResult", "ElicitResult"}
    answered = {
        "InitializeResult": "initialize", "DiscoverResult": "server/discover", "ListToolsResult": "tools/list",
        "CallToolResult": "tools/call", "ListPromptsResult": "prompts/list", "GetPromptResult": "prompts/get",
        "ListResourcesResult": "resources/list", "ListResourceTemplatesResult": "resources/templates/list",
        "ReadResourceResult": "resources/read", "CompleteResult": "completion/complete",
        "InputRequiredResult": "tools/call", "SubscriptionsListenResult": "subscriptions/listen",
        "CreateTaskResult": "tools/call", "GetTaskResult": "tasks/get", "ListTasksResult": "tasks/list",
        "CancelTaskResult": "tasks/cancel", "CreateMessageResult": "sampling/createMessage",
        "ListRootsResult": "roots/list", "ElicitResult": "elicitation/create",
    }  # fmt: skip
    for name, schema in every.items():
        if name.endswith(("Request", "Notification")) and "const" in schema.get("properties", {}).get("method", {}):
            for direction in Direction:
                yield name, direction, ""
        elif name in answered:
            yield name, CLIENT if name in client else SERVER, answered[name]


@given(objects)
def test_surfaces_compare_by_what_they_say(body):
    first, second = surfaces(body, SERVER), surfaces(body, SERVER)
    assert first == second
    assert {hash(s) for s in first} == {hash(s) for s in second}


# -- server messages -------------------------------------------------------------------------------


def test_tool_definitions():
    tool = {
        "name": "add",
        "title": "Add",
        "description": "Adds",
        "icons": [{"src": "https://e.example/i.png", "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark"}],
        "annotations": {"title": "Add!", "readOnlyHint": True, "note": "unknown"},
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "a/b": {"type": "string", "description": "d", "enum": ["x"], "default": "x", "x-mcp-header": "A"},
                "deep": {"anyOf": [{"const": "c"}, {"type": "array", "items": {"pattern": "^p$", "title": "t"}}]},
            },
            "$defs": {"Def": {"description": "in defs", "examples": [{"k": "v"}]}},
            "required": ["a/b"],
            "x-vendor": {"say": "hello"},
        },
        "outputSchema": {"type": "object", "properties": {"sum": {"description": "the sum"}}},
        "execution": {"taskSupport": "optional"},
        "_meta": {"ui": {"resourceUri": "ui://a/b", "csp": {"connectDomains": ["evil.example"]}}, "vendor/x": "y"},
        "surprise": "text",
    }
    found = roles({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool], "nextCursor": "c"}}, SERVER, "tools/list")
    at = "/result/tools/0"
    expected = {
        "/jsonrpc": "machine", "/result/nextCursor": "machine",
        f"{at}/name": "name", f"{at}/title": "model", f"{at}/description": "model",
        f"{at}/icons/0/src": "machine", f"{at}/icons/0/mimeType": "machine", f"{at}/icons/0/sizes/0": "machine",
        f"{at}/icons/0/theme": "machine",
        f"{at}/annotations/title": "model", f"{at}/annotations/note": "model", f"{at}/annotations/note#": "name",
        f"{at}/inputSchema/$schema": "model", f"{at}/inputSchema/type": "model",
        f"{at}/inputSchema/properties/a~1b#": "name", f"{at}/inputSchema/properties/a~1b/type": "model",
        f"{at}/inputSchema/properties/a~1b/description": "model", f"{at}/inputSchema/properties/a~1b/enum/0": "model",
        f"{at}/inputSchema/properties/a~1b/default": "model",
        f"{at}/inputSchema/properties/a~1b/x-mcp-header": "model",
        f"{at}/inputSchema/properties/deep#": "name",
        f"{at}/inputSchema/properties/deep/anyOf/0/const": "model",
        f"{at}/inputSchema/properties/deep/anyOf/1/type": "model",
        f"{at}/inputSchema/properties/deep/anyOf/1/items/pattern": "model",
        f"{at}/inputSchema/properties/deep/anyOf/1/items/title": "model",
        f"{at}/inputSchema/$defs/Def#": "name", f"{at}/inputSchema/$defs/Def/description": "model",
        f"{at}/inputSchema/$defs/Def/examples/0/k#": "name", f"{at}/inputSchema/$defs/Def/examples/0/k": "model",
        f"{at}/inputSchema/required/0": "name",
        f"{at}/inputSchema/x-vendor#": "name", f"{at}/inputSchema/x-vendor/say#": "name",
        f"{at}/inputSchema/x-vendor/say": "model",
        f"{at}/outputSchema/type": "model", f"{at}/outputSchema/properties/sum#": "name",
        f"{at}/outputSchema/properties/sum/description": "model",
        f"{at}/execution/taskSupport": "machine",
        f"{at}/_meta/ui#": "name", f"{at}/_meta/ui/resourceUri#": "name", f"{at}/_meta/ui/resourceUri": "model",
        f"{at}/_meta/ui/csp#": "name", f"{at}/_meta/ui/csp/connectDomains#": "name",
        f"{at}/_meta/ui/csp/connectDomains/0": "model",
        f"{at}/_meta/vendor~1x#": "name", f"{at}/_meta/vendor~1x": "model",
        f"{at}/surprise#": "name", f"{at}/surprise": "model",
    }  # fmt: skip
    assert found == expected


def test_identity_and_instructions():
    result = {
        "protocolVersion": "2025-11-25",
        "serverInfo": {"name": "s", "title": "S", "version": "1", "websiteUrl": "https://s.example"},
        "instructions": "Use me.",
        "capabilities": {"tools": {"listChanged": True}, "experimental": {"x": {"y": "z"}}, "odd": "o"},
    }
    found = roles({"id": 1, "jsonrpc": "2.0", "result": result}, SERVER, "initialize")
    assert found["/result/protocolVersion"] == "machine"
    assert found["/result/serverInfo/name"] == "name"
    assert found["/result/serverInfo/title"] == found["/result/serverInfo/version"] == "model"
    assert found["/result/instructions"] == "model"
    assert found["/result/capabilities/experimental/x/y"] == found["/result/capabilities/odd"] == "model"
    assert found["/result/capabilities/experimental/x#"] == found["/result/capabilities/odd#"] == "name"
    assert "/result/capabilities/tools/listChanged#" not in found


def test_modern_identity_in_meta():
    result = {"supportedVersions": ["2026-07-28"], "_meta": {revisions.META_SERVER_INFO: {"name": "s", "title": "t"}}}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": result}, SERVER, "server/discover")
    assert found["/result/supportedVersions/0"] == "machine"
    assert found["/result/_meta/io.modelcontextprotocol~1serverInfo/name"] == "name"
    assert found["/result/_meta/io.modelcontextprotocol~1serverInfo/title"] == "model"


def test_content_blocks():
    content = [
        {"type": "text", "text": "hello", "annotations": {"audience": ["user"], "lastModified": "2026-01-01"}},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
        {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "text/plain", "text": "t"}},
        {"type": "resource", "resource": {"uri": "file:///b", "blob": "aGk="}},
        {"type": "resource_link", "uri": "file:///c", "name": "c", "title": "C", "description": "d", "mimeType": "m"},
        {"type": "hologram", "data": "words", "text": "more"},
        {"type": "text", "data": "not base64 here", "text": "x"},
        "a bare string",
    ]
    result = {"content": content, "structuredContent": {"k": ["v"]}, "isError": False}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": result}, SERVER, "tools/call")
    at = "/result/content"
    assert found[f"{at}/0/type"] == "machine"
    assert found[f"{at}/0/text"] == "model"
    assert found[f"{at}/0/annotations/audience/0"] == "machine"
    assert found[f"{at}/1/data"] == found[f"{at}/2/data"] == found[f"{at}/1/mimeType"] == "machine"
    assert found[f"{at}/3/resource/uri"] == "name"
    assert found[f"{at}/3/resource/text"] == "model"
    assert found[f"{at}/3/resource/mimeType"] == found[f"{at}/4/resource/blob"] == "machine"
    assert found[f"{at}/5/uri"] == found[f"{at}/5/name"] == "name"
    assert found[f"{at}/5/title"] == found[f"{at}/5/description"] == "model"
    assert found[f"{at}/6/type"] == found[f"{at}/6/data"] == found[f"{at}/6/text"] == "model"
    assert found[f"{at}/7/data"] == "model"
    assert found[f"{at}/8"] == "model"
    assert found["/result/structuredContent/k#"] == "name"
    assert found["/result/structuredContent/k/0"] == "model"


@pytest.mark.parametrize("structured", ["text", ["a", {"b": "c"}], {"a": 1}, None, 5])
def test_structured_content_may_be_any_json(structured):
    body = {"id": 1, "jsonrpc": "2.0", "result": {"content": [], "structuredContent": structured}}
    found = check_exact(body, SERVER, "tools/call")
    assert all(s.role is not Role.MACHINE for s in found if s.pointer.startswith("/result/structuredContent"))


def test_a_known_member_of_another_type_is_unknown():
    result = {"nextCursor": {"say": "hello"}, "tools": "none", "resultType": {"a": "b"}}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": result}, SERVER, "tools/list")
    assert found["/result/nextCursor/say"] == found["/result/tools"] == found["/result/resultType/a"] == "model"
    assert found["/result/nextCursor/say#"] == "name"


def test_prompts_resources_and_templates():
    prompt = {"name": "p", "description": "d", "arguments": [{"name": "a", "description": "b", "required": True}]}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": {"prompts": [prompt]}}, SERVER, "prompts/list")
    assert found["/result/prompts/0/name"] == found["/result/prompts/0/arguments/0/name"] == "name"
    assert found["/result/prompts/0/arguments/0/description"] == "model"

    resource = {"uri": "file:///x", "name": "x", "description": "d", "mimeType": "text/plain", "size": 3}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": {"resources": [resource]}}, SERVER, "resources/list")
    assert found["/result/resources/0/uri"] == found["/result/resources/0/name"] == "name"
    assert found["/result/resources/0/mimeType"] == "machine"

    template = {"uriTemplate": "file:///{p}", "name": "t", "title": "T"}
    body = {"id": 1, "jsonrpc": "2.0", "result": {"resourceTemplates": [template]}}
    assert roles(body, SERVER, "resources/templates/list")["/result/resourceTemplates/0/uriTemplate"] == "name"

    messages = [{"role": "user", "content": {"type": "text", "text": "t"}}]
    body = {"id": 1, "jsonrpc": "2.0", "result": {"description": "d", "messages": messages}}
    found = roles(body, SERVER, "prompts/get")
    assert found["/result/messages/0/role"] == "machine"
    assert found["/result/messages/0/content/text"] == found["/result/description"] == "model"


def test_completions_errors_and_notifications():
    found = roles(
        {"id": 1, "jsonrpc": "2.0", "result": {"completion": {"values": ["v"]}}}, SERVER, "completion/complete"
    )
    assert found["/result/completion/values/0"] == "model"

    error = {"code": -32042, "message": "m", "data": {"elicitations": [{"url": "https://x.example", "message": "n"}]}}
    found = roles({"id": 1, "jsonrpc": "2.0", "error": error}, SERVER, "tools/call")
    assert found["/error/message"] == found["/error/data/elicitations/0/message"] == "model"
    assert found["/error/data/elicitations#"] == "name"

    note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "t", "message": "m"}}
    found = roles(note, SERVER)
    assert (found["/method"], found["/params/progressToken"], found["/params/message"]) == (
        "machine",
        "machine",
        "model",
    )

    note = {"method": "notifications/message", "params": {"level": "info", "logger": "l", "data": {"k": "v"}}}
    found = roles(note, SERVER)
    assert (found["/params/level"], found["/params/logger"], found["/params/data/k"]) == ("machine", "name", "model")

    note = {"method": "notifications/cancelled", "params": {"requestId": "1", "reason": "r"}}
    assert roles(note, SERVER) == {"/method": "machine", "/params/requestId": "machine", "/params/reason": "model"}


def test_sampling_and_elicitation_requests():
    used = {"type": "tool_use", "id": "u", "name": "add", "input": {"a": "b"}}
    answered = {"type": "tool_result", "toolUseId": "u", "content": [{"type": "text", "text": "r"}]}
    sampling = {
        "id": 1,
        "method": "sampling/createMessage",
        "params": {
            "messages": [
                {"role": "user", "content": [used]},
                {"role": "user", "content": [answered]},
            ],
            "systemPrompt": "s",
            "includeContext": "none",
            "modelPreferences": {"hints": [{"name": "big"}]},
            "tools": [{"name": "add", "description": "d", "inputSchema": {"type": "object"}}],
            "toolChoice": {"mode": "auto"},
            "stopSequences": ["stop"],
            "metadata": {"k": "v"},
        },
    }  # fmt: skip
    found = roles(sampling, SERVER)
    assert found["/params/messages/0/content/0/id"] == found["/params/messages/1/content/0/toolUseId"] == "machine"
    assert found["/params/messages/0/content/0/name"] == found["/params/tools/0/name"] == "name"
    assert found["/params/messages/0/content/0/input/a"] == "model"
    assert found["/params/messages/1/content/0/content/0/text"] == "model"
    assert found["/params/systemPrompt"] == found["/params/stopSequences/0"] == found["/params/metadata/k"] == "model"
    assert found["/params/includeContext"] == found["/params/toolChoice/mode"] == "machine"

    elicitation = {
        "id": 1,
        "method": "elicitation/create",
        "params": {
            "mode": "form",
            "message": "m",
            "requestedSchema": {"type": "object", "properties": {"n": {"type": "string", "title": "t"}}},
        },
    }
    found = roles(elicitation, SERVER)
    assert found["/params/mode"] == "machine"
    assert found["/params/message"] == found["/params/requestedSchema/properties/n/title"] == "model"
    assert found["/params/requestedSchema/properties/n#"] == "name"


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_input_required_results(method):
    result = {
        "resultType": "input_required",
        "requestState": "opaque",
        "inputRequests": {
            "key": {"method": "elicitation/create", "params": {"message": "m", "mode": "form"}},
            "odd": {"method": "x/other", "params": {"mode": "words"}},
        },
    }
    found = roles({"id": 1, "jsonrpc": "2.0", "result": result}, SERVER, method)
    assert found["/result/resultType"] == found["/result/requestState"] == "machine"
    assert found["/result/inputRequests/key#"] == "name"
    assert found["/result/inputRequests/key/method"] == found["/result/inputRequests/key/params/mode"] == "machine"
    assert found["/result/inputRequests/key/params/message"] == "model"
    assert found["/result/inputRequests/odd/method"] == found["/result/inputRequests/odd/params/mode"] == "model"


def test_tasks():
    created = {"task": {"taskId": "t", "status": "working", "statusMessage": "m", "createdAt": "now"}}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": created}, SERVER, "tools/call")
    assert found["/result/task/taskId"] == found["/result/task/status"] == "machine"
    assert found["/result/task/statusMessage"] == "model"

    payload = {"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}, {"type": "text", "text": "t"}]}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": payload}, SERVER, "tasks/result")
    assert (found["/result/content/0/data"], found["/result/content/1/text"]) == ("machine", "model")

    inlined = {"taskId": "t", "status": "completed", "resultType": "complete", "result": payload}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": inlined}, SERVER, "tasks/get")
    assert (found["/result/result/content/0/data"], found["/result/result/content/1/text"]) == ("machine", "model")

    note = {"method": "notifications/tasks", "params": {"taskId": "t", "status": "completed", "result": payload}}
    found = roles(note, SERVER)
    assert (found["/params/taskId"], found["/params/result/content/1/text"]) == ("machine", "model")
    note = {"method": "notifications/tasks/status", "params": {"taskId": "t", "statusMessage": "m"}}
    assert roles(note, SERVER)["/params/statusMessage"] == "model"


def test_subscriptions():
    listen = {"method": "subscriptions/listen", "params": {"notifications": {"resourceSubscriptions": ["file:///x"]}}}
    assert roles(listen, CLIENT)["/params/notifications/resourceSubscriptions/0"] == "argument"
    ack = {"method": "notifications/subscriptions/acknowledged", "params": {**listen["params"], "_meta": {}}}
    assert roles(ack, SERVER)["/params/notifications/resourceSubscriptions/0"] == "name"
    note = {
        "method": "notifications/resources/updated",
        "params": {"uri": "file:///x", "_meta": {revisions.META_SUBSCRIPTION_ID: "1"}},
    }
    found = roles(note, SERVER)
    assert found["/params/uri"] == "name"
    assert found["/params/_meta/io.modelcontextprotocol~1subscriptionId"] == "machine"


def test_unknown_methods_of_a_server_are_read_whole():
    note = {"method": "notifications/new", "params": {"data": "words", "deep": [{"a": "b"}]}, "extra": "e"}
    assert roles(note, SERVER) == {
        "/method": "machine", "/params/data": "model", "/params/data#": "name", "/params/deep#": "name",
        "/params/deep/0/a": "model", "/params/deep/0/a#": "name", "/extra": "model", "/extra#": "name",
    }  # fmt: skip


# -- client messages -------------------------------------------------------------------------------


def test_a_call_of_a_tool():
    body = {
        "jsonrpc": "2.0",
        "id": "i",
        "method": "tools/call",
        "params": {
            "name": "add",
            "arguments": {"path": "/etc", "deep": {"k": ["v"]}},
            "requestState": "s",
            "inputResponses": {
                "one": {"action": "accept", "content": {"type": "image", "data": "words"}},
                "two": {"role": "assistant", "model": "m", "content": {"type": "image", "data": "aGk="}},
                "three": {"roots": [{"uri": "file:///r", "name": "r"}]},
            },
            "_meta": {
                "progressToken": "t", "traceparent": "00-1", methods.META_VERSION: "2026-07-28",
                revisions.META_CLIENT_INFO: {"name": "c", "version": "1"}, "vendor": "v",
            },
        },
    }  # fmt: skip
    found = roles(body, CLIENT)
    assert found["/jsonrpc"] == found["/id"] == found["/method"] == "machine"
    assert found["/params/name"] == "name"
    assert found["/params/arguments/path"] == found["/params/arguments/deep/k/0"] == "argument"
    assert found["/params/arguments/path#"] == found["/params/arguments/deep/k#"] == "argument"
    assert found["/params/requestState"] == "machine"
    assert found["/params/inputResponses/one/action"] == "machine"
    assert found["/params/inputResponses/one/content/data"] == "argument"
    assert found["/params/inputResponses/two/content/data"] == "machine"
    assert found["/params/inputResponses/three/roots/0/uri"] == "argument"
    assert found["/params/_meta/progressToken"] == found["/params/_meta/traceparent"] == "machine"
    assert found["/params/_meta/vendor"] == "argument"
    assert "/params/_meta/io.modelcontextprotocol~1clientInfo/name#" not in found


@pytest.mark.parametrize(
    ("method", "params", "place", "role"),
    [
        ("resources/read", {"uri": "file:///x"}, "/params/uri", "argument"),
        ("resources/subscribe", {"uri": "file:///x"}, "/params/uri", "argument"),
        ("prompts/get", {"name": "p", "arguments": {"a": "b"}}, "/params/arguments/a", "argument"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}}, "/params/ref/name", "name"),
        ("completion/complete", {"argument": {"name": "a", "value": "v"}}, "/params/argument/value", "argument"),
        ("completion/complete", {"context": {"arguments": {"a": "b"}}}, "/params/context/arguments/a", "argument"),
        ("logging/setLevel", {"level": "info"}, "/params/level", "machine"),
        ("tools/list", {"cursor": "c"}, "/params/cursor", "machine"),
        ("tasks/get", {"taskId": "t"}, "/params/taskId", "machine"),
        ("initialize", {"protocolVersion": "2025-11-25"}, "/params/protocolVersion", "machine"),
        ("x/unknown", {"anything": "a"}, "/params/anything", "argument"),
    ],
)
def test_client_requests(method, params, place, role):
    assert roles({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, CLIENT)[place] == role


def test_answers_of_a_client():
    result = {"action": "accept", "content": {"name": "Bob"}}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": result}, CLIENT, "elicitation/create")
    assert found["/result/action"] == "machine"
    assert found["/result/content/name"] == found["/result/content/name#"] == "argument"

    result = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "t"}, "stopReason": "endTurn"}
    found = roles({"id": 1, "jsonrpc": "2.0", "result": result}, CLIENT, "sampling/createMessage")
    assert found["/result/content/text"] == found["/result/model"] == "argument"
    assert found["/result/role"] == found["/result/stopReason"] == "machine"

    found = roles(
        {"id": 1, "jsonrpc": "2.0", "result": {"roots": [{"uri": "file:///r", "name": "r"}]}}, CLIENT, "roots/list"
    )
    assert (found["/result/roots/0/uri"], found["/result/roots/0/name"]) == ("argument", "name")


# -- cost ------------------------------------------------------------------------------------------


def test_two_hundred_levels_and_long_names_cost_linear_time():
    value: object = "leaf"
    for _ in range(200):
        value = [{"k" * 50_000: value}]
    body = {"id": 1, "jsonrpc": "2.0", "result": {"structuredContent": value}}
    found = surfaces(body, SERVER, "tools/call")
    assert found[-1].text == "leaf"
    assert len(found[-1].pointer) > 200 * 50_000


def test_a_wide_message_costs_microseconds_a_string():
    body = {"result": {"structuredContent": [{"k": "v", "x" * 10_000: ["w"]} for _ in range(20_000)]}}
    started = time.process_time()
    found = surfaces(body, SERVER, "tools/call")
    assert len(found) == 80_000
    assert time.process_time() - started < 4


def test_a_surface_can_be_made_by_hand():
    surface = Surface("/a/0", "text", Role.MODEL)
    assert (surface.pointer, surface.text, surface.role, surface.key) == ("/a/0", "text", Role.MODEL, False)
    assert surface == Surface((((None, "a")), 0), "text", Role.MODEL)
    assert surface != Surface("/a/0", "text", Role.NAME)
    assert surface != "text"
    assert repr(Surface("/a", "n", Role.NAME, True)) == "<Surface name key '/a' 'n'>"
