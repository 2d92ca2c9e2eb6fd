"""Each format's reader says where a value stands, and agrees with other readers about what it is."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.clients.formats import FormatName, parse
from callgate.clients.jsonc import parse as parse_json
from callgate.clients.tree import ClientFileError, Node
from tests.clients import documents
from tests.clients.roundtrip import python

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


def written(value: Any) -> Any:
    """As `python` gives it: anything but strings as JSON writes it."""
    if isinstance(value, dict):
        return {key: written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [written(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


def check_spans(format_: FormatName, text: str, node: Node) -> None:
    """What stands at a scalar's place is that scalar."""
    for member in node.members:
        check_spans(format_, text, member.node)
    for item in node.items:
        check_spans(format_, text, item)
    if node.kind == "scalar" and node.string:
        piece = text[node.start : node.end]
        if format_ == "json":
            assert json.loads(piece) == node.text
        elif format_ == "toml":
            assert tomllib.loads("v = " + piece)["v"] == node.text
        elif "\n" not in piece:
            assert str(yaml.safe_load(piece)) == node.text


@settings(max_examples=100, deadline=None)
@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json(value: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    root = parse_json(text)
    assert python(root) == written(value)
    assert text[root.start : root.end] == text
    check_spans("json", text, root)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('{}[]",:/*\\ \n01.eE+-tfn'), max_size=12))
def test_json_that_is_not_json_is_not_accepted(text: str) -> None:
    try:
        root = parse_json(text)
    except ClientFileError:
        with pytest.raises(ValueError):
            json.loads(text)
        return
    if "/" not in text and ",]" not in "".join(text.split()) and ",}" not in "".join(text.split()) and text.strip():
        assert python(root) == written(json.loads(text, parse_float=_Raw, parse_int=_Raw, parse_constant=_Raw))


class _Raw(str):
    """A number as it is written."""

    __slots__ = ()


@settings(max_examples=60, deadline=None)
@given(documents.toml())
def test_toml(drawn: tuple[documents.Model, str]) -> None:
    root = parse("toml", drawn[1])
    check_spans("toml", drawn[1], root)
    assert python(root) == written(tomllib.loads(drawn[1]))


TOML = """
a.b.c = 1 # c
"quoted.key"."x y" = 1979-05-27 07:32:00Z
m = '''
literal "\\" ''' # after
n = \"\"\"two \\"\"\" quotes\"\"\"\"\"
e = {}
f = [ [1, 2], ["#", ']', "}"], { x.y = 1, z = [ 1,
 # comment ]
 2 ] } ]
[t]
[[list]]
name = "one"
[list.sub]
k = 1
[[list]]
name = "two"
[[list.inner]]
v = 1
[ t . u ]
w = inf
"""


def test_toml_of_every_kind() -> None:
    root = parse("toml", TOML)
    check_spans("toml", TOML, root)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, dt.datetime):
            return "1979-05-27 07:32:00Z"
        return value if isinstance(value, str) else str(value)

    assert python(root) == plain(tomllib.loads(TOML))


@settings(max_examples=60, deadline=None)
@given(documents.yaml())
def test_yaml(drawn: tuple[documents.Model, str]) -> None:
    root = parse("yaml", drawn[1])
    check_spans("yaml", drawn[1], root)
    assert python(root) == written(yaml.safe_load(drawn[1]))


def test_yaml_block_scalars_and_aliases() -> None:
    text = "a: |\n  one\n  two\n\nb: >-\n  x\nc: &n [1]\nd: *n\ne: *n\nf:\n"
    root = parse("yaml", text)
    assert python(root) == {"a": "one\ntwo\n", "b": "x", "c": ["1"], "d": "*0", "e": "*0", "f": ""}
    block = root.members[0].node
    assert text[block.start : block.end] == "|\n  one\n  two"


def test_a_bomb_of_aliases_takes_no_room() -> None:
    rows = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40))
    assert len(parse("yaml", f"l0: &l0 [x]\n{rows}\n").members) == 40


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c", "\ta: 1", "a: 1\n---\nb: 2", "? [a]\n: 1", "a: *x", "[" * 500, "\x00"]
)
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(ClientFileError):
        parse("yaml", text)


@pytest.mark.parametrize("text", ["a =", "a = 1\na = 2", "[a]\n[a]", "a = '", "a = " + "[" * 5000, "a = " + "1" * 5000])
def test_toml_that_is_refused(text: str) -> None:
    with pytest.raises(ClientFileError):
        parse("toml", text)
