"""Limits are inclusive to the level and to the byte, and a name is what it looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callgate.config import Limits
from callgate.errors import ProtocolError
from callgate.protocol.codec import Codec
from callgate.protocol.message import Direction


def message(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, **members}, ensure_ascii=False).encode()


def call(arguments: Any) -> bytes:
    return message(method="tools/call", params={"name": "t", "arguments": arguments})


def rule_of(raw: bytes, limits: Limits | None = None) -> str:
    try:
        Codec(limits or Limits()).decode(raw, Direction.CLIENT)
    except ProtocolError as error:
        return error.rule
    return ""


def nested(levels: int, innermost: bytes) -> bytes:
    """A call with so many levels in all: the message, its params and its arguments are three of them."""
    inside = levels - 3
    return call(0).replace(b'"arguments": 0', b'"arguments":{"a":' + b"[" * inside + innermost + b"]" * inside + b"}")


@pytest.mark.parametrize("innermost", [b"", b"1"])
@pytest.mark.parametrize("depth", [10, 200])
def test_the_last_level_counts_whether_something_is_in_it_or_not(innermost: bytes, depth: int) -> None:
    assert rule_of(nested(depth, innermost), Limits(depth=depth)) == ""
    assert rule_of(nested(depth + 1, innermost), Limits(depth=depth)) == "limit-depth"


def test_the_name_of_an_argument_has_a_limit() -> None:
    assert rule_of(call({"a" * 1024: 1})) == ""
    assert rule_of(call({"a" * 1025: 1})) == "limit-name-bytes"
    assert rule_of(call({"\u00e9" * 513: "x"})) == "limit-name-bytes"
    assert rule_of(call({"text": "a" * 2000})) == ""


@pytest.mark.parametrize("method", ["x\x1b[2Jy", "x\u202ey", "x\U000e0041", "x\u200b", "a\tb"])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_method_prints(method: str, direction: Direction) -> None:
    with pytest.raises(ProtocolError) as caught:
        Codec(Limits()).decode(message(method=method), direction)
    assert caught.value.rule == "jsonrpc-method"


@pytest.mark.parametrize("method", ["tools/call", "vendor.example/do-it", "\u00fcber/pr\u00fcfen", "\u6771\u4eac"])
def test_any_other_method_passes(method: str) -> None:
    assert rule_of(message(method=method)) == ""


def test_a_uri_has_no_nul() -> None:
    assert rule_of(message(method="resources/read", params={"uri": "file:///a\x00b"})) == "nul-in-name"
    assert rule_of(message(method="resources/read", params={"uri": "file:///a%00b"})) == ""
