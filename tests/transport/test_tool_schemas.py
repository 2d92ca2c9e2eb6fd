"""What is remembered of arguments that travel in headers."""

from __future__ import annotations

import json
from typing import Any

from callgate.config import Limits
from callgate.protocol.codec import Codec
from callgate.transport.tool_schemas import PRINCIPALS, CallerSchemas

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
