"""Texts of JSON-RPC messages written out by hand, so that they can be wrong in every way JSON can be.

A text is drawn as a tree (objects as lists of pairs, so names may repeat) and rendered with random
white space, escapes and number spellings.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import strategies as st


class Raw(str):
    """Written as it stands."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object, its names in order and perhaps twice."""

    __slots__ = ()


NUMBERS = [
    "0", "-0", "-0.0", "1", "1.0", "1E2", "1e-3", "0.1", "1e22", "1e16", "123456789012345678901234567890.5", "5e-324",
    "1e400", "-1e400", "1e-400", "9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740993",
    "1152921504606846976", "18446744073709551615", "18446744073709551616", "9223372036854775808", "1" * 400,
    "NaN", "Infinity", "-Infinity", "nan", "01", "1.", ".5", "+1", "0x10", "1_000", "-",
]  # fmt: skip
STRINGS = [
    '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\u2028"', '"\\x41"', '"\\a"', '"\x01"', '"\t"',
    '"\x7f"', '"a\\/b"', "'a'", '"unfinished', '"\\u00"', '"\\uD834\\uDD1E"', '"\ufeff"', '"\uffff"', '"\u200b"',
]  # fmt: skip
OTHERS = ["true", "false", "null", "True", "nulll", "undefined", "", "[1,]", '{"a":1,}', "[,]", "/**/1", "1 2", "{a:1}"]
NAMES = [
    "jsonrpc", "id", "method", "params", "result", "error", "name", "arguments", "uri", "_meta", "content", "tools",
    "type", "text", "resource", "code", "message", "data", "Method", "METHOD", "Id", "ID", "Params", "Name", "Uri",
    "Content", "Text", "Resource", "resultType", "ResultType", "param\u017f", "re\u017fult", "to\u212aen", "a", "A", "",
    "__proto__", "constructor", "1", "\0", "io.modelcontextprotocol/protocolVersion", "progressToken", "ProgressToken",
]  # fmt: skip

raw = st.sampled_from(NUMBERS + STRINGS + OTHERS).map(Raw)
names = st.sampled_from(NAMES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
plain = st.none() | st.booleans() | st.integers(-99, 2**53) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
leaves = st.one_of(plain, texts, plain, texts, raw)
trees: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(names, inner), max_size=4).map(Pairs),
    max_leaves=8,
)
ids = st.sampled_from([1, 0, -1, "a", "", "1", 2**53, True, None, 1.5, Raw("1.0"), Raw("-0"), Raw("1e2"), Raw("[1]")])


def pairs(*known: tuple[str, Any], extra: int = 2) -> st.SearchStrategy[Pairs]:
    """An object with the known members drawn, and some odd ones."""
    base = st.tuples(*[st.tuples(st.just(name), value) for name, value in known]).map(list)
    odd = st.lists(st.tuples(names, trees), max_size=extra)
    return st.tuples(base, odd).map(lambda both: Pairs([*both[0], *both[1]]))


_version = st.sampled_from(["2.0", "2.0", "2.0", "2.0", "1.0", 2])
_method = st.sampled_from(["tools/call", "tools/list", "x", "initialize", "", 5])
_block = pairs(("type", st.just("text")), ("text", texts), extra=1)
_params = pairs(("name", texts), ("arguments", pairs(extra=3)), extra=2)
_result = pairs(("content", st.lists(_block, max_size=2)), extra=2) | pairs(extra=3)
_error = pairs(("code", st.integers(-40000, 0)), ("message", texts), extra=1)
_head = (("jsonrpc", _version),)
messages: st.SearchStrategy[Any] = st.one_of(
    pairs(*_head, ("id", ids), ("method", _method), ("params", _params), extra=1),
    pairs(*_head, ("method", _method), ("params", _params), extra=1),
    pairs(*_head, ("id", ids), ("result", _result), extra=1),
    pairs(*_head, ("id", ids), ("error", _error), extra=1),
    trees,
)


def render(tree: Any, random: Random) -> str:
    """The text of a tree, spelled at random."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Pairs):
        members = [
            f"{_string(name, random)}{_gap(random)}:{_gap(random)}{render(value, random)}" for name, value in tree
        ]
        return "{" + _gap(random) + f"{_gap(random)},".join(members) + "}"
    if isinstance(tree, list):
        return "[" + f",{_gap(random)}".join([render(item, random) for item in tree]) + _gap(random) + "]"
    if isinstance(tree, str):
        return _string(tree, random)
    return json.dumps(tree)


def _gap(random: Random) -> str:
    return random.choice(["", "", "", "", " ", "\n", "\t\r"])


def _string(text: str, random: Random) -> str:
    how = random.randrange(4)
    if how < 2:
        return json.dumps(text, ensure_ascii=bool(how))
    escaped = "".join(
        rf"\u{ord(c):04x}" if random.random() < 0.3 and ord(c) < 0x10000 else json.dumps(c)[1:-1] for c in text
    )
    return f'"{escaped}"'


def _finish(drawn: tuple[Any, int, str]) -> bytes:
    tree, seed, encoding = drawn
    return render(tree, Random(seed)).encode(encoding)


encodings = st.sampled_from(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
hostile_texts = st.tuples(messages, st.integers(0, 2**32), encodings).map(_finish)
