"""Edits of several controls compose, or the message is denied."""

from __future__ import annotations

import copy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.gate.edits import EditConflict, apply
from callgate.gate.verdicts import Remove, RenameKey, ReplaceSpan, ReplaceValue


def body() -> dict:
    return {"result": {"tools": [{"name": "a", "d": "hello"}, {"name": "b"}, {"name": "c"}], "x/y": {"k~": "v"}}}


def edited(*edits: object) -> dict:
    value = body()
    apply(value, edits)  # type: ignore[arg-type]
    return value


def test_spans_of_two_controls_in_one_string() -> None:
    value = edited(ReplaceSpan("/result/tools/0/d", 4, 5, "!"), ReplaceSpan("/result/tools/0/d", 0, 1, "J"))
    assert value["result"]["tools"][0]["d"] == "Jell!"


def test_the_same_span_twice_is_one_edit() -> None:
    edit = ReplaceSpan("/result/tools/0/d", 0, 1, "J")
    assert edited(edit, edit)["result"]["tools"][0]["d"] == "Jello"


def test_an_edit_inside_what_is_taken_out_is_moot() -> None:
    value = edited(ReplaceSpan("/result/tools/0/d", 0, 4, ""), ReplaceSpan("/result/tools/0/d", 2, 3, "#"))
    assert value["result"]["tools"][0]["d"] == "o"


def test_an_edit_that_is_made_again_gives_way() -> None:
    def spliced(*spans: tuple[int, int, str, bool]) -> str:
        body = {"text": "0123456789"}
        apply(body, [ReplaceSpan("/text", *span) for span in spans])
        return body["text"]

    assert spliced((2, 8, "wide", True), (3, 4, "x", False)) == "012x456789"
    assert spliced((2, 8, "wide", False), (3, 4, "x", True)) == "01wide89"
    assert spliced((2, 8, "wide", True), (3, 4, "x", True)) == "01wide89"
    assert spliced((0, 1, "a", True), (2, 5, "b", True), (4, 8, "c", False), (9, 10, "d", True)) == "a123c8d"
    assert edited(RenameKey("/result/x~1y", "a", again=True), RenameKey("/result/x~1y", "b")) == edited(
        RenameKey("/result/x~1y", "b"), RenameKey("/result/x~1y", "c", again=True)
    )
    with pytest.raises(EditConflict):
        spliced((2, 5, "b", True), (2, 6, "c", False), (4, 8, "d", False))


def test_insertions_at_one_place_do_not_overlap() -> None:
    assert edited(ReplaceSpan("/result/tools/0/d", 0, 0, "> "))["result"]["tools"][0]["d"] == "> hello"


@pytest.mark.parametrize(
    "edits",
    [
        (ReplaceSpan("/result/tools/0/d", 0, 3, "x"), ReplaceSpan("/result/tools/0/d", 2, 4, "y")),
        (ReplaceSpan("/result/tools/0/d", 0, 9, "x"),),
        (ReplaceSpan("/result/tools/0", 0, 1, "x"),),
        (ReplaceValue("/result/tools/0/d", "x"), ReplaceValue("/result/tools/0/d", "y")),
        (ReplaceValue("/result/tools/0/d", "x"), ReplaceSpan("/result/tools/0/d", 0, 1, "y")),
        (ReplaceValue("/result/tools/0", {}), ReplaceValue("/result/tools/0/d", "y")),
        (RenameKey("/result/tools/0/d", "name"),),
        (RenameKey("/result/tools/0", "z"),),
        (RenameKey("/result/tools/0/d", "e"), RenameKey("/result/tools/0/d", "f")),
        (Remove("/result/tools/7"),),
        (Remove("/nothing/here"),),
        (Remove(""),),
    ],
)
def test_conflicts_and_dangling_edits_are_refused(edits: tuple) -> None:
    with pytest.raises(EditConflict):
        edited(*edits)


def test_removal_makes_edits_inside_it_moot_and_keeps_the_other_indices() -> None:
    value = edited(
        Remove("/result/tools/0"),
        ReplaceSpan("/result/tools/0/d", 0, 1, "J"),
        Remove("/result/tools/2"),
        Remove("/result/tools/2/name"),
        ReplaceValue("/result/tools/1/name", "B"),
    )
    assert value["result"]["tools"] == [{"name": "B"}]


def test_escaped_pointers_and_key_order() -> None:
    value = edited(RenameKey("/result/x~1y/k~0", "k2"), RenameKey("/result/x~1y", "z"))
    assert value["result"]["z"] == {"k2": "v"}
    assert list(value["result"]) == ["tools", "z"]


@given(st.sets(st.integers(0, 30)))
def test_removing_any_set_of_elements_leaves_exactly_the_others(gone: set[int]) -> None:
    value = {"items": list(range(31))}
    apply(value, [Remove(f"/items/{i}") for i in gone])
    assert value["items"] == [i for i in range(31) if i not in gone]


@given(st.text(max_size=40), st.data())
def test_disjoint_spans_equal_sequential_replacement(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    value = {"t": text}
    apply(value, [ReplaceSpan("/t", a, b, "#") for a, b in pairs])
    expected = copy.copy(text)
    for a, b in reversed(pairs):
        expected = expected[:a] + "#" + expected[b:]
    assert value["t"] == expected


def test_many_edits_take_time_in_proportion() -> None:
    """A hostile list of 100,000 entries must not hold the gate for minutes."""
    count = 100_000
    value = {"list": [*range(count)], "object": {f"k{i}": i for i in range(count)}}
    edits = [Remove(f"/list/{i}") for i in range(0, count, 2)]
    edits += [RenameKey(f"/object/k{i}", f"r{i}") for i in range(count)]
    started = time.process_time()
    apply(value, edits)
    assert time.process_time() - started < 5
    assert value["list"] == [*range(1, count, 2)]
    assert list(value["object"]) == [f"r{i}" for i in range(count)]


@pytest.mark.parametrize(
    "pointer", ["/result/tools/-1", "/result/tools/+1", "/result/tools/1/d/x", "result", "/result/tools/01"]
)
def test_a_pointer_is_taken_literally(pointer: str) -> None:
    with pytest.raises(EditConflict):
        edited(Remove(pointer))
