"""What the lane's reader takes is canonical, within the limits, and a message to the strict parser; and forms differ."""

from __future__ import annotations

from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings

from callgate.audit.shapes import shape
from callgate.config import Limits
from callgate.errors import ProtocolError
from callgate.protocol.codec import Codec, one_line
from callgate.protocol.message import Direction, Kind, Message
from tests.core.messages import REQUEST, RESPONSE, answer, call, near, needs_core

TIGHT = Limits(request_bytes=900, response_bytes=900, depth=4, nodes=14, keys=4, string_bytes=100, name_bytes=16)
OF_THE_FORM = {"json-key-case", "jsonrpc-method", "limit-name-bytes"}
"""Refusals for nothing but names: a form is taught only by a message that the strict parser let pass."""


def strict(raw: bytes, limits: Limits, direction: Direction) -> None:
    """`raw` is to the parser in Python what the lane took it for."""
    assert orjson.dumps(orjson.loads(raw)) == raw
    try:
        message = Codec(limits).decode(raw, direction)
    except ProtocolError as error:
        assert error.rule in OF_THE_FORM, (error.rule, raw)
        return
    assert type(message) is Message
    assert message.data == one_line(raw)
    assert message.kind is (Kind.RESULT if direction is Direction.SERVER else Kind.REQUEST)
    assert type(message.id) is int


@pytest.mark.parametrize("limits", [Limits(), TIGHT], ids=["default", "tight"])
@given(raw=near(REQUEST))
@settings(max_examples=200, deadline=None)
@example(call(1, {"a": [1] * 3}))
@example(call(1, {"a": [1] * 4}))
@example(call(1, {"a": {"b": {}}}))
@example(call(1, {"a": "é" * 50}))
@example(call(1, {"a": "\n" * 50}))
@example(call(name="n" * 16))
@example(call(name="é" * 8))
@example(call(name=""))
@example(call(1, {"n" * 17: 1}))
@example(call().replace(b"tools/call", "\u2028tools/call".encode()))
def test_a_call_that_is_taken_is_one(limits: Limits, raw: bytes) -> None:
    if needs_core().Forms(limits).reads_call(raw) and _is_text(raw):
        strict(raw, limits, Direction.CLIENT)


@pytest.mark.parametrize("limits", [Limits(), TIGHT], ids=["default", "tight"])
@given(raw=near(RESPONSE))
@settings(max_examples=200, deadline=None)
@example(answer(1, "x", isError=False))
@example(answer(1, "x", structuredContent={"a": [1, 2]}))
@example(answer(1, "x" * 101))
def test_an_answer_that_is_taken_is_one(limits: Limits, raw: bytes) -> None:
    if needs_core().Forms(limits).reads_answer(raw) and _is_text(raw):
        strict(raw, limits, Direction.SERVER)


def _is_text(raw: bytes) -> bool:
    """Whether it is UTF-8: the lane asks that only of a message whose form it knows."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_it_takes_what_it_is_for() -> None:
    forms = needs_core().Forms(Limits())
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "progressToken": 1}
    for raw in (call(), call(1, {"a": [{"b": [None, True, -5]}], "é": '"\n\t\\'}), call(_meta=meta), call(1, {})):
        assert forms.reads_call(raw), raw
    for raw in (answer(), answer(isError=False, structuredContent={"a": {"b": [1]}}), answer(resultType="complete")):
        assert forms.reads_answer(raw), raw


def test_what_names_the_one_call_is_no_part_of_its_form() -> None:
    forms = needs_core().Forms(Limits())
    for number in range(3):
        meta = {"progressToken": f"t{number}", "traceparent": f"00-{number}-b-01", "baggage": f"k={number}"}
        assert forms.learn_call("s", call(number, _meta=meta), "tools/call", "echo", b"head", None)
    assert len(forms) == 1
    assert forms.learn_call("s", call(_meta={"progressToken": 1}), "tools/call", "echo", b"head", None)
    assert forms.learn_call("s", call(_meta={"other": 1}), "tools/call", "echo", b"head", None)
    assert forms.learn_call("s", call(_meta={"other": 2}), "tools/call", "echo", b"head", None)
    assert len(forms) == 4


@pytest.mark.parametrize(("name", "most"), [("nodes", 14), ("depth", 5), ("keys", 5), ("string_bytes", 12)])
def test_limits_are_those_of_the_parser_to_the_last(name: str, most: int) -> None:
    """Whatever passes the reader at each size, the parser takes; and both do at the size that is just allowed."""
    changes: dict[str, Any] = {name: most}
    limits = Limits(**changes)
    reader, codec = needs_core().Forms(limits), Codec(limits)
    taken = []
    for size in range(1, most + 4):
        arguments: Any = {
            "nodes": {"a": [1] * size},
            "depth": orjson.loads(b'{"a":' * size + b"1" + b"}" * size),
            "keys": {f"m{n}": 1 for n in range(size)},
            "string_bytes": {"a": "x" * size},
        }[name]
        raw = call(1, arguments)
        try:
            codec.decode(raw, Direction.CLIENT)
        except ProtocolError:
            assert not reader.reads_call(raw)
        else:
            assert reader.reads_call(raw), size
            taken.append(size)
    assert 0 < len(taken) < most + 3


def arguments_with_odd_names() -> list[Any]:
    """Objects of up to three members whose names look like parts of a form."""
    names = ["a", "b", "}a", "}b", "{", "s}", ""]
    inner: list[Any] = ["x", {}, {"a": "x"}, {"a": "x", "}a": "x"}, {"a": "x", "}b": "x"}, ["x"], ["x", {}], [{}]]
    made = [{"o": value} for value in inner]
    made += [{"o": value, name: last} for value, name, last in product(inner, names, ["x", 1])]
    for value, name, other in product(inner, names, ["c", "}b", "]"]):
        if name != other:
            made.append({"o": value, name: "x", other: 1})
    return made


def test_no_two_forms_are_written_alike() -> None:
    """A name cannot stand for the end of the object it is in: two members may be one to the parser, or one too many."""
    forms = needs_core().Forms(Limits())
    calls = arguments_with_odd_names()
    for number, arguments in enumerate(calls):
        assert forms.learn_call("s", call(1, arguments), "tools/call", "echo", b"", None)
        assert len(forms) == number + 1, arguments
    forms.clear()
    for number, content in enumerate(calls):
        assert forms.learn_answer(answer(structuredContent=content), "tools/call", "echo", b"")
        assert len(forms) == number + 1, content


def test_one_form_has_one_shape() -> None:
    """Values, ids and how many items of a kind a list has are not of the form."""
    forms = needs_core().Forms(Limits())
    alike: list[Any] = [{"a": [1], "b": "x"}, {"a": [2, 3, 4], "b": ""}, {"a": [-7], "b": "é\n"}]
    for arguments in alike:
        assert forms.learn_call("s", call(len(arguments["a"]), arguments), "tools/call", "echo", b"", None)
    assert len(forms) == 1
    assert len({shape(arguments) for arguments in alike}) == 1
    others: list[Any] = [{"b": "x", "a": [1]}, {"a": ["x"], "b": "x"}, {"a": [1, "x"], "b": "x"}]
    for number, arguments in enumerate(others, 2):
        assert forms.learn_call("s", call(1, arguments), "tools/call", "echo", b"", None)
        assert len(forms) == number


def test_a_memory_that_is_full_is_emptied_and_long_forms_are_not_kept() -> None:
    forms = needs_core().Forms(Limits())
    for number in range(1500):
        assert forms.learn_call("s", call(1, {f"a{number}": 1}), "tools/call", "echo", b"", None)
        assert 0 < len(forms) <= 1024
    before = len(forms)
    assert not forms.learn_call("s", call(1, {"n" * 3000: 1}), "tools/call", "echo", b"", None)
    assert not forms.learn_call("s" * 3000, call(), "tools/call", "echo", b"", None)
    assert len(forms) == before
