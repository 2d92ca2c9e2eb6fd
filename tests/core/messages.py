"""Messages that are plain, that are nearly plain, and that are neither: what the native lane and Python both get."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import orjson
import pytest
from hypothesis import strategies as st

from callgate import native
from callgate.protocol.methods import META_VERSION


def _can_be_built() -> bool:
    """Whether there is a cargo that starts: one of rustup's may stand there without a toolchain."""
    cargo = shutil.which("cargo")
    return cargo is not None and subprocess.run([cargo, "--version"], capture_output=True, check=False).returncode == 0


REQUIRED = bool(os.environ.get("CALLGATE_REQUIRE_PROGRAMS")) and _can_be_built()
"""Read here: no test sees the settings of whoever runs them."""
MODERN = "2026-07-28"


def needs_core() -> Any:
    """The native lane; the test is skipped where it is not built, and fails where it must be."""
    if native.core is None:
        if REQUIRED:
            pytest.fail("the native lane is not built: run tools/build-native and see what it says")
        pytest.skip("the native lane is not built")
    return native.core


def call(number: Any = 1, arguments: Any = None, name: Any = "echo", **params: Any) -> bytes:
    arguments = {"a": "x"} if arguments is None else arguments
    body = {"jsonrpc": "2.0", "id": number, "method": "tools/call"}
    return orjson.dumps(body | {"params": {"name": name, "arguments": arguments, **params}})


def answer(number: Any = 1, text: str = "x", **members: Any) -> bytes:
    result = {"content": [{"type": "text", "text": text}], **members}
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "result": result})


TEXT = st.sampled_from(
    [
        "", "x", "attack", "a\u2028b", "\u0085", "é", "日本\U0001f600", "\0", '\n\t"\\', "\b\f\r", "\x1f", "\x7f", "/",
        "\u200b", ":1234567890123456", "\\u0000", "T" * 40, "y" * 5000,
    ]
)  # fmt: skip
NUMBER: Any = st.sampled_from([0, -1, 7, 10**14, -(10**14), 10**15, 10**17, 2**53, 2**63, 1.5, -0.0, 1e300, True, None])
NAME = st.sampled_from(
    [
        "a", "A", "b", "name", "text", "Text", "isError", "content", "resultType", "progressToken", "", "}a", "]", "s",
        "\u212a", "k", 'e"q', "é", "x" * 70, "a\0", META_VERSION,
    ]
)  # fmt: skip
VALUE: Any = st.recursive(
    TEXT | NUMBER,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAME, inner, max_size=4),
    max_leaves=8,
)
_OBJECT: Any = st.one_of(
    st.sampled_from([{}, {"a": "x"}, {"a": 1, "b": [{"c": None}, {"c": None}]}, {"a": {"b": {"a": "é"}}}]),
    st.dictionaries(NAME, VALUE, max_size=4),
)
_META: Any = st.one_of(
    st.sampled_from(
        [
            {}, {"progressToken": 1}, {"progressToken": "t", "traceparent": "00-a-b-01"}, {META_VERSION: MODERN},
            {META_VERSION: MODERN, "progressToken": 5}, {META_VERSION: "v" * 40}, {META_VERSION: 5}, {"Traceparent": 1},
            {META_VERSION: MODERN, "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"}},
        ]
    ),
    VALUE,
)  # fmt: skip
_ID: Any = st.one_of(
    st.integers(1, 3), st.integers(1, 3), st.sampled_from([0, -1, 10**14, 2**60, "1", True, None, 1.0])
)
_EXTRA: Any = st.one_of(
    st.just({}), st.just({}), st.dictionaries(st.sampled_from(["Id", "error", "result", "method"]), VALUE, max_size=1)
)


def _shuffled(members: Any) -> Any:
    """The same members in some order."""
    return members.flatmap(lambda one: st.permutations(list(one.items())).map(dict))


_PARAMS = _shuffled(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["echo", "echo", "bad", "", "n\n", "é", "x" * 1025]), "arguments": _OBJECT},
        optional={"_meta": _META},
    )
    | st.dictionaries(st.sampled_from(["name", "arguments", "_meta", "uri", "Name"]), VALUE, max_size=3)
)
_PLAIN: Any = st.recursive(
    st.sampled_from(["", "x", "attack", "é", '\n\t"\\', "\x7f", "\u200b", "y" * 5000, 0, -1, 10**14, True, None]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "}a", "é", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
_PLAIN_OBJECT: Any = st.dictionaries(st.sampled_from(["a", "b", "c", "}a"]), _PLAIN, max_size=3)
PLAIN_REQUEST = _shuffled(
    st.builds(
        lambda number, params: {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params},
        st.integers(1, 3),
        _shuffled(
            st.fixed_dictionaries({"name": st.sampled_from(["echo", "bad"]), "arguments": _PLAIN_OBJECT})
            | st.fixed_dictionaries(
                {
                    "name": st.just("echo"),
                    "arguments": _PLAIN_OBJECT,
                    "_meta": st.sampled_from([{}, {"progressToken": 1}, {META_VERSION: MODERN, "progressToken": "t"}]),
                }
            )
        ),
    )
)
PLAIN_RESPONSE = _shuffled(
    st.builds(
        lambda number, result: {"jsonrpc": "2.0", "id": number, "result": result},
        st.integers(1, 3),
        st.fixed_dictionaries(
            {"content": st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXT), max_size=2)},
            optional={"isError": st.just(False), "structuredContent": _PLAIN_OBJECT, "resultType": st.just("complete")},
        ),
    )
)
_REQUEST = _shuffled(
    st.builds(
        lambda number, method, params, extra: {
            "jsonrpc": "2.0", "id": number, "method": method, "params": params, **extra,
        },
        _ID, st.sampled_from(["tools/call", "tools/call", "tools/call", "prompts/get", "tools/list", "x"]), _PARAMS, _EXTRA,
    )
)  # fmt: skip
_BLOCK: Any = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.builds(lambda text: {"text": text, "type": "text"}, TEXT),
    st.sampled_from([{"type": "text"}, {"type": "text", "text": 1}, {"type": "resource", "resource": {"Text": "x"}}]),
)
_RESULT = _shuffled(
    st.fixed_dictionaries(
        {"content": st.lists(_BLOCK, max_size=3)},
        optional={
            "isError": st.sampled_from([False, False, True, "no"]),
            "structuredContent": _OBJECT,
            "resultType": st.sampled_from(["complete", "complete", "input_required", 1]),
            "_meta": _META,
            "IsError": VALUE,
        },
    )
    | st.dictionaries(NAME, VALUE, max_size=3)
)
_RESPONSE = _shuffled(
    st.builds(
        lambda number, result, extra: {"jsonrpc": "2.0", "id": number, "result": result, **extra}, _ID, _RESULT, _EXTRA
    )
)
REQUEST = PLAIN_REQUEST | PLAIN_REQUEST | _REQUEST
RESPONSE = PLAIN_RESPONSE | PLAIN_RESPONSE | _RESPONSE


def raw_of(body: Any) -> bytes:
    """As a client would write it; -0.0 and what else JSON has no second spelling for included."""
    return orjson.dumps(body)


@st.composite
def near(draw: Any, bodies: Any) -> bytes:
    """A message, and often something about its spelling that is not plain."""
    raw = raw_of(draw(bodies))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw)))
        way = draw(st.sampled_from(["flip", "insert", "cut", "replace"]))
        if way == "flip":
            raw = (
                raw[:at]
                + bytes(byte ^ draw(st.sampled_from([1, 0x20, 0x80])) for byte in raw[at : at + 1])
                + raw[at + 1 :]
            )
        elif way == "insert":
            piece = draw(
                st.sampled_from(
                    [
                        b" ",
                        b"\n",
                        b"0",
                        b"-",
                        b"\\",
                        b"\\/",
                        b"\\u0041",
                        b'"',
                        b"}",
                        b",",
                        b"\0",
                        b"\xff",
                        b"\xed\xa0\x80",
                        b"\xe2\x80\xa8",
                    ]
                )
            )
            raw = raw[:at] + piece + raw[at:]
        elif way == "cut":
            raw = raw[:at] + raw[at + 1 :]
        else:
            old, new = draw(
                st.sampled_from(
                    [
                        (b'"id":', b'"id":1,"id":'), (b'"id":', b'"id":-'), (b'"id":', b'"id":0'), (b'"id":1', b'"id":1e0'),
                        (b'"id":1', b'"id":1.0'), (b'"a"', b'"\\u0061"'), (b"/", b"\\/"), (b"null", b"nul"), (b"7", b"07"),
                        (b'"a":', b'"a":1,"a":'), (b"[", b"[[[[[[["), (b"]", b"]]]]]]]"), (b"true", b"True"), (b"{}", b"[]"),
                        (b"2.0", b"2\\u002e0"), (b"x", b"\\b"), (b"x", b"\\n"), (b"}}", b"}} "), (b"{", b"\xef\xbb\xbf{"),
                    ]
                )
            )  # fmt: skip
            raw = raw.replace(old, new, draw(st.sampled_from([1, -1])))
    return raw
