from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.protocol import pointer
from tests.protocol.strategies import all_strings, values

# RFC 6901 section 5, word for word.
DOCUMENT = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2),
        ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_examples_of_the_rfc(text, value):
    assert pointer.resolve(DOCUMENT, text) == value


@given(values)
def test_every_string_is_found_again_where_its_pointer_says(value):
    for place, text in all_strings(value).items():
        assert pointer.resolve(value, place) == text
        assert pointer.build(pointer.split(place)) == place
        if place:
            container, key = pointer.locate(value, place)
            assert container[key] == text


@given(st.lists(st.text(), max_size=5))
def test_tokens_survive_a_round_trip(tokens):
    assert pointer.split(pointer.build(tokens)) == tokens


@pytest.mark.parametrize("text", ["foo", "/~", "/~2", "/a~", "/~~01", "/~~0"])
def test_what_is_no_pointer_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"JSON pointer|followed by"):
        pointer.split(text)


@pytest.mark.parametrize(
    "text", ["/foo/2", "/foo/-", "/foo/01", "/foo/-1", "/foo/x", "/foo/²", "/foo/0/0", "/none", "//x"]
)
def test_a_place_that_does_not_exist_is_a_lookup_error(text):
    with pytest.raises(LookupError):
        pointer.resolve(DOCUMENT, text)
    with pytest.raises(LookupError):
        pointer.locate(DOCUMENT, text)


def test_the_document_itself_has_no_container():
    with pytest.raises(ValueError, match="no container"):
        pointer.locate(DOCUMENT, "")


def test_escape_takes_member_names_and_indices():
    assert pointer.escape("a/b~c") == "a~1b~0c"
    assert pointer.escape(7) == "7"
    assert pointer.unescape("~01") == "~1"
