"""Which members a message may have: all combinations, judged as if each were looked at by itself."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import orjson
import pytest

from callgate.config import Limits
from callgate.errors import ProtocolError
from callgate.protocol.codec import Codec
from callgate.protocol.message import Direction, Kind, Message

MEMBERS: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "t", "arguments": {"a": "b"}},
    "result": {"content": [{"type": "text", "text": "x"}]},
    "error": {"code": 1, "message": "m"},
    "Id": 2,
    "extra": 3,
}


def expected(names: frozenset[str]) -> str | Kind:
    """The rule that refuses a message with these members, or what it is."""
    if "jsonrpc" not in names:
        return "jsonrpc-version"
    if "Id" in names:
        return "json-key-case"
    if "method" in names:
        if names & {"result", "error"}:
            return "jsonrpc-hybrid"
        return Kind.REQUEST if "id" in names else Kind.NOTIFICATION
    if {"result", "error"} <= names:
        return "jsonrpc-hybrid"
    if "result" in names:
        return Kind.RESULT if "id" in names else "jsonrpc-id"
    return Kind.ERROR if "error" in names else "jsonrpc-kind"


def verdict(codec: Codec, body: Any) -> str | Kind:
    try:
        message = codec.decode(orjson.dumps(body), Direction.SERVER)
    except ProtocolError as error:
        return error.rule
    assert isinstance(message, Message)
    return message.kind


@pytest.mark.parametrize("scan", [None, lambda data: ()])
def test_every_combination_of_members(scan: Any) -> None:
    codec = Codec(Limits(), scan=scan)
    for size in range(len(MEMBERS) + 1):
        for names in combinations(MEMBERS, size):
            assert verdict(codec, {name: MEMBERS[name] for name in names}) == expected(frozenset(names)), names


NEAR = [
    ({"name": "t", "arguments": ["a"]}, "jsonrpc-params"),
    ({"name": "t", "arguments": {"A": 1, "a": 2}}, "json-key-case"),
    ({"name": "t", "arguments": {"x": {"A": 1, "a": 2}}}, "json-key-case"),
    ({"name": "t", "arguments": {"k": 1, "\u212a": 2}}, "json-key-case"),
    ({"name": "t", "arguments": {"s": 1, "\u017f": 2}}, "json-key-case"),
    ({"name": "t", "arguments": {"maß": 1, "MAẞ": 2}}, "json-key-case"),
    ({"name": "t", "arguments": {"ﬁß": 1, "ﬁẞ": 2}}, "json-key-case"),
    ({"name": "t", "arguments": {"words": {"dass": 3, "daß": 1, "ﬁn": 1, "fin": 2}}}, Kind.REQUEST),
    ({"name": "t\0", "arguments": {}}, "nul-in-name"),
    ({"name": "t" * 5000, "arguments": {}}, "limit-name-bytes"),
    ({"name": "t", "Arguments": {}}, "json-key-case"),
    ({"Name": "t", "arguments": {}}, "json-key-case"),
    ({"name": "t", "_meta": 1}, "jsonrpc-params"),
    ({"name": "t", "_Meta": {}}, "json-key-case"),
    ({"name": None, "arguments": None}, Kind.REQUEST),
    ([], "jsonrpc-params"),
    (None, Kind.REQUEST),
]


@pytest.mark.parametrize(("params", "rule"), NEAR)
@pytest.mark.parametrize("method", ["tools/call", "other/method"])
def test_params_that_are_nearly_those_of_a_call(method: str, params: Any, rule: str | Kind) -> None:
    codec = Codec(Limits(), scan=lambda data: ())
    assert verdict(codec, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) == rule


@pytest.mark.parametrize(
    ("block", "rule"),
    [
        ({"type": "text", "text": "x"}, Kind.RESULT),
        ({"type": "text", "Text": "x"}, "json-key-case"),
        ({"Type": "text", "text": "x"}, "json-key-case"),
        ({"type": "text", "text": "x", "Text": "y"}, "json-key-case"),
        ({"type": "resource", "resource": {"Text": "x"}}, "json-key-case"),
        ({"text": {"Text": "free data has no names of the protocol"}, "type": 1}, Kind.RESULT),
    ],
)
def test_blocks_that_are_nearly_text(block: Any, rule: str | Kind) -> None:
    codec = Codec(Limits(), scan=lambda data: ())
    assert verdict(codec, {"jsonrpc": "2.0", "id": 1, "result": {"content": [block]}}) == rule


@pytest.mark.parametrize("method", [["tools/call"], {"a": 1}, 1, True, None, "", "tools/call\0", "x" * 5000])
def test_a_method_that_is_none(method: Any) -> None:
    codec = Codec(Limits(), scan=lambda data: ())
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
    assert verdict(codec, body) in ("jsonrpc-method", "nul-in-name", "limit-name-bytes")


def test_a_limit_on_names_holds_for_methods_everybody_knows() -> None:
    codec = Codec(Limits(name_bytes=8), scan=lambda data: ())
    assert verdict(codec, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}) == "limit-name-bytes"


@pytest.mark.parametrize("depth", [50, 96, 97, 98, 99, 150, 195, 196, 197, 198, 199, 200, 220, 253, 254, 255, 300])
@pytest.mark.parametrize("limit", [200, 100])
@pytest.mark.parametrize("kind", ["[", "{"])
def test_depth_is_limited_whichever_parser_reads(depth: int, limit: int, kind: str) -> None:
    """Padded beyond what the small parser is given, a message gets the same verdict."""
    codec = Codec(Limits(depth=limit), scan=lambda data: ())
    inner = "[" * depth + "]" * depth if kind == "[" else '{"a":' * depth + "1" + "}" * depth
    found = []
    for padding in ("", "x" * 500, "x" * 3000):
        call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"p":"%s","a":%s}}}'
        raw = (call % (padding, inner)).encode()
        try:
            message = codec.decode(raw, Direction.CLIENT)
        except ProtocolError as error:
            found.append(error.rule)
        else:
            assert isinstance(message, Message)
            found.append("passes")
        body = codec.plain(raw)
        assert body is None or found[-1] == "passes"
    assert len(set(found)) == 1
    levels = depth + 3  # the message, its params and its arguments count as well
    # At 200 it is the parser's own limit that holds, and that one lets an empty level more pass.
    more = kind == "[" and limit == 200
    assert (found[0] == "passes") == (levels <= limit + more)


def test_brackets_in_text_only_choose_the_other_parser() -> None:
    codec = Codec(Limits(), scan=lambda data: ())
    for count in (10, 198, 199, 500):
        params = {"name": "t", "arguments": {"code": "{[" * count}}
        assert verdict(codec, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}) is Kind.REQUEST
