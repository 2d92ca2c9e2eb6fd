"""Other people's readers of JSON-RPC, each told to say what it understood of some bytes."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse, jsonrpc_message_adapter
from pydantic import ValidationError

from callgate.protocol.message import Kind
from tests.support.programs import node

_NODE = """
const lines = require('readline').createInterface({input: process.stdin});
const text = new TextDecoder('utf-8', {fatal: true, ignoreBOM: true});
lines.on('line', (line) => {
  let said;
  try { said = JSON.stringify(JSON.parse(text.decode(Buffer.from(line, 'base64')))); }
  catch (error) { said = '!' + String(error.message).replace(/\\s/g, ' '); }
  process.stdout.write(said + '\\n');
});
"""


class Refused(Exception):
    """The reader does not take these bytes at all."""


class Node:
    """`JSON.parse`, in one process for many texts."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, data: bytes) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(base64.b64encode(data) + b"\n")
        stdin.flush()
        line = stdout.readline()
        if line.startswith(b"!"):
            raise Refused(line.decode())
        return json.loads(line)


@contextmanager
def running_node() -> Iterator[Node]:
    with subprocess.Popen([node(), "-e", _NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Node(process)
        finally:
            process.kill()


def lines_node_reads(data: bytes) -> int:
    """How many lines Node's readline makes of `data`."""
    script = "let n = 0; const rl = require('readline').createInterface({input: process.stdin});"
    script += "rl.on('line', () => n++); rl.on('close', () => console.log(n));"
    return int(subprocess.run([node(), "-e", script], input=data, capture_output=True, check=True).stdout)


def python_json(data: bytes) -> Any:
    """The standard library, told to notice what it would otherwise pass in silence."""

    def no_constant(name: str) -> Any:
        raise Refused(name)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        read = dict(items)
        if len(read) != len(items):
            raise Refused("duplicate key")
        return read

    try:
        return json.loads(data.decode(), parse_constant=no_constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error


def fast_json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError as error:
        raise Refused(str(error)) from error


_KINDS = {
    JSONRPCRequest: Kind.REQUEST, JSONRPCNotification: Kind.NOTIFICATION,
    JSONRPCResponse: Kind.RESULT, JSONRPCError: Kind.ERROR,
}  # fmt: skip


def sdk(data: bytes) -> tuple[Kind, dict[str, Any]]:
    """The official SDK: what kind of message, and its members."""
    try:
        read = jsonrpc_message_adapter.validate_json(data)
    except ValidationError as error:
        raise Refused(str(error)) from error
    return _KINDS[type(read)], read.model_dump(by_alias=True, exclude_unset=True)


# What a typed server in Go has as struct fields, each with the fields of its own struct, if any. The name ""
# stands for any: a map.
_TEXT: dict[str, Any] = {}
_META = dict.fromkeys(("progressToken", "io.modelcontextprotocol/protocolVersion"), _TEXT)
_RESOURCE = dict.fromkeys(("uri", "mimeType", "text", "blob"), _TEXT)
_BLOCK = {**dict.fromkeys(("type", "text", "data", "mimeType", "uri", "name"), _TEXT), "resource": _RESOURCE}
_TOOL = dict.fromkeys(("name", "title", "description", "inputSchema", "outputSchema"), _TEXT)
_INFO = dict.fromkeys(("name", "version", "title"), _TEXT)
_MESSAGE = {"role": _TEXT, "content": _BLOCK}
_SAMPLING = {**dict.fromkeys(("message", "systemPrompt", "mode", "url"), _TEXT), "messages": _MESSAGE, "tools": _TOOL}
STRUCT: dict[str, Any] = {
    "jsonrpc": _TEXT,
    "id": _TEXT,
    "method": _TEXT,
    "params": {
        **dict.fromkeys(("name", "arguments", "uri", "cursor", "taskId", "requestState", "level"), _TEXT),
        "_meta": _META,
        "ref": dict.fromkeys(("type", "name", "uri"), _TEXT),
        "argument": dict.fromkeys(("name", "value"), _TEXT),
        "clientInfo": _INFO,
        "messages": _MESSAGE,
        "tools": _TOOL,
        "inputResponses": {"": {"action": _TEXT, "content": _BLOCK, "roots": {"uri": _TEXT, "name": _TEXT}}},
    },
    "result": {
        **dict.fromkeys(("resultType", "isError", "structuredContent", "nextCursor", "instructions"), _TEXT),
        "_meta": _META,
        "content": _BLOCK,
        "tools": _TOOL,
        "prompts": dict.fromkeys(("name", "description", "arguments"), _TEXT),
        "resources": {**_RESOURCE, "name": _TEXT, "description": _TEXT},
        "contents": _RESOURCE,
        "messages": _MESSAGE,
        "serverInfo": _INFO,
        "completion": dict.fromkeys(("values", "total", "hasMore"), _TEXT),
        "inputRequests": {"": {"method": _TEXT, "params": _SAMPLING}},
        "result": {"content": _BLOCK, "contents": _RESOURCE},
        "task": dict.fromkeys(("taskId", "status", "statusMessage"), _TEXT),
    },
    "error": dict.fromkeys(("code", "message", "data"), _TEXT),
}


def exact(value: Any, struct: dict[str, Any] = STRUCT) -> Any:
    """The members of `struct`, each by its exact name."""
    if not struct:
        return value
    if isinstance(value, list):
        return [exact(item, struct) for item in value]
    if not isinstance(value, dict):
        return value
    if "" in struct:
        return {name: exact(item, struct[""]) for name, item in value.items()}
    return {name: exact(value[name], below) for name, below in struct.items() if name in value}


def careless(value: Any, struct: dict[str, Any] = STRUCT) -> Any:
    """The members of `struct` as Go's encoding/json finds them: case does not count, the last one wins."""
    if not struct:
        return value
    if isinstance(value, list):
        return [careless(item, struct) for item in value]
    if not isinstance(value, dict):
        return value
    if "" in struct:
        return {name: careless(item, struct[""]) for name, item in value.items()}
    folded = {name.casefold(): name for name in struct}
    read: dict[str, Any] = {}
    for key, item in value.items():
        name = folded.get(key.casefold())
        if name is not None:
            read[name] = careless(item, struct[name])
    return read


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: numbers by value, true is not 1."""
    stack = [(left, right)]
    while stack:
        one, other = stack.pop()
        if isinstance(one, dict):
            if not isinstance(other, dict) or one.keys() != other.keys():
                return False
            stack += [(one[key], other[key]) for key in one]
        elif isinstance(one, list):
            if not isinstance(other, list) or len(one) != len(other):
                return False
            stack += zip(one, other, strict=True)
        elif isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
            if one is not other:
                return False
        elif isinstance(one, str) or isinstance(other, str):
            if one != other:
                return False
        elif one != other and float(one) != float(other):
            return False  # JavaScript writes 5.013742598246971e16 as 50137425982469710
    return True
