from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.errors import SecretError
from callgate.vault.fields import MOST_BYTES, NothingStored, value_of

DOCUMENT = b'{"github": {"token": "t-1", "port": 5432, "on": true, "list": ["a", "b"]}, "a.b": "dotted"}'


@pytest.mark.parametrize(
    ("document", "key", "value"),
    [
        (b"whole", (), b"whole"),
        (DOCUMENT, ("github", "token"), b"t-1"),
        (DOCUMENT, ("github", "port"), b"5432"),
        (DOCUMENT, ("github", "on"), b"true"),
        (DOCUMENT, ("github", "list", "1"), b"b"),
        (DOCUMENT, ("a.b",), b"dotted"),
        ({"only": "one"}, (), b"one"),
        ({"a": "1", "b": "2"}, ("b",), b"2"),
        (b"# comment\nexport A='x y'\nB=\"2\"\nC=a=b\n", ("A",), b"x y"),
        (b"A=1\nC=a=b\n", ("C",), b"a=b"),
    ],
)
def test_a_member_is_found(document: bytes, key: tuple[str, ...], value: bytes) -> None:
    assert value_of(document, key, "ref") == value


@pytest.mark.parametrize(
    ("document", "key", "kind"),
    [
        (b"", (), NothingStored),
        (b"x" * (MOST_BYTES + 1), (), SecretError),
        (DOCUMENT, ("github",), SecretError),
        (DOCUMENT, ("gitlab",), NothingStored),
        (DOCUMENT, ("github", "list", "7"), NothingStored),
        (b"{broken", ("a",), SecretError),
        (b'{"a": 1, "a": 2}', ("a",), SecretError),
        (b"no members", ("a",), SecretError),
        ({"a": "1", "b": "2"}, (), SecretError),
        ({"a": None}, ("a",), SecretError),
        (b"{" + b" " * 1_100_000 + b"}", ("a",), SecretError),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, ("a",), SecretError),
    ],
)
def test_what_is_not_there_is_a_clear_error(document: bytes, key: tuple[str, ...], kind: type[SecretError]) -> None:
    with pytest.raises(kind) as error:
        value_of(document, key, "ref")
    assert error.value.next_step


@given(st.binary(max_size=300), st.lists(st.text(min_size=1, max_size=5), max_size=3))
def test_any_document_is_read_or_refused(document: bytes, key: list[str]) -> None:
    try:
        found = value_of(document, tuple(key), "ref")
    except SecretError as error:
        assert len(document) < 12 or document not in error.diagnostics().encode()
    else:
        assert found
