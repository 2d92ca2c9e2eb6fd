"""What is remembered of arguments that travel in headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callgate.config import Limits
from callgate.protocol.codec import Codec
from callgate.transport import tool_schemas
from callgate.transport.tool_schemas import PRINCIPALS, CallerSchemas, ToolSchemas

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "weather", "arguments": {}}}


def listed(*tools: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": list(tools)}}).encode()


def test_each_caller_has_the_list_it_was_shown() -> None:
    schemas, codec = CallerSchemas(), Codec(Limits())
    schemas.learn("alice", listed({"name": "weather", "inputSchema": SCHEMA}), codec)
    assert schemas.of_call("alice", CALL) == SCHEMA
    assert schemas.of_call("bob", CALL) is None
    schemas.learn("alice", listed({"name": "weather", "inputSchema": {"type": "object"}}), codec)
    assert schemas.of_call("alice", CALL) is None


def test_a_list_without_mirrored_arguments_costs_nothing() -> None:
    schemas = CallerSchemas()
    schemas.learn("alice", listed({"name": "weather", "inputSchema": {"type": "object"}}), Codec(Limits()))
    assert not schemas


def test_what_is_no_answer_is_not_learned() -> None:
    schemas, codec = CallerSchemas(), Codec(Limits())
    schemas.learn("alice", b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x-mcp-header"}}', codec)
    assert not schemas


def test_callers_are_bounded() -> None:
    schemas, codec = CallerSchemas(), Codec(Limits())
    for number in range(2 * PRINCIPALS + 1):
        schemas.learn(f"caller {number}", listed({"name": "weather", "inputSchema": SCHEMA}), codec)
        assert len(schemas) <= PRINCIPALS
    assert schemas.of_call(f"caller {number}", CALL) == SCHEMA


def test_a_known_caller_makes_nobody_forgotten_and_a_new_one_only_the_oldest() -> None:
    """What is forgotten is not compared: a header could say of an argument what its body does not."""
    schemas, codec = CallerSchemas(), Codec(Limits())
    callers = [f"caller {number}" for number in range(PRINCIPALS)]
    for one in callers:
        schemas.learn(one, listed({"name": "weather", "inputSchema": SCHEMA}), codec)
    schemas.learn(callers[-1], listed({"name": "tides", "inputSchema": SCHEMA}), codec)
    assert all(schemas.of_call(one, CALL) == SCHEMA for one in callers)
    schemas.learn("another", listed({"name": "weather", "inputSchema": SCHEMA}), codec)
    assert [one for one in callers if schemas.of_call(one, CALL) is None] == callers[:1]


def test_where_no_tool_more_is_remembered_those_that_are_still_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_schemas, "LIMIT", 1)
    schemas = ToolSchemas()
    schemas.learn({"tools": [{"name": "weather", "inputSchema": SCHEMA}, {"name": "tides", "inputSchema": SCHEMA}]})
    schemas.learn({"tools": [{"name": "weather", "inputSchema": {**SCHEMA, "title": "anew"}}]})
    assert schemas.of_call(CALL) == {**SCHEMA, "title": "anew"}
    assert schemas.of_call({**CALL, "params": {"name": "tides"}}) is None
