"""The id of an over-long message is found at either edge, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.protocol.fragments import EDGE_BYTES, id_at_head, id_at_tail

LONG = {"content": [{"type": "text", "text": 'x"id":7,' * 200, "id": 9}]}
IDS = st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=20).filter(lambda s: '"' not in s and "\\" not in s))


@given(IDS, st.booleans())
def test_at_the_head_as_the_python_sdk_writes(id: Any, spaced: bool) -> None:
    text = json.dumps({"jsonrpc": "2.0", "id": id, "result": LONG}, separators=None if spaced else (",", ":"))
    assert id_at_head(text.encode()[:EDGE_BYTES]) == id


@given(IDS)
def test_at_the_tail_as_the_typescript_sdk_writes(id: Any) -> None:
    text = json.dumps({"result": LONG, "jsonrpc": "2.0", "id": id}, separators=(",", ":")).encode()
    assert id_at_tail(text[-EDGE_BYTES:]) == id
    assert id_at_head(text[:EDGE_BYTES]) is None


@pytest.mark.parametrize(
    "text", [b"", b"x" * 300, b'{"result":{"id":4', b'{"jsonrpc":"2.0","id":', b'{"id":nul', b'{"id":1']
)
def test_nothing_is_guessed_from_garbage(text: bytes) -> None:
    assert id_at_head(text) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    id_at_head(data)
    id_at_tail(data)
