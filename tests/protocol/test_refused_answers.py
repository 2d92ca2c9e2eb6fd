"""Whoever waits for an answer that is refused can be told: its id is found even where the answer is not JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callgate.config import Limits
from callgate.errors import ProtocolError
from callgate.protocol.codec import Codec
from callgate.protocol.message import Direction
from tests.gate.fakes import channel_of

TEXT = b'{"content":[{"type":"text","text":"%s"}],"structuredContent":%s}'
RESULTS = {
    "json-duplicate-key": TEXT % (b"a", b'{"a":1,"a":2}'),
    "json-not-a-number": TEXT % (b"a", b'{"a":NaN}'),
    "json-number-overflow": TEXT % (b"a", b'{"a":1e400}'),
    "json-integer-rounded": TEXT % (b"a", b'{"a":9007199254740993}'),
    "json-lone-surrogate": TEXT % (b"\\ud800", b"{}"),
    "json-utf8": TEXT % (b"\xff", b"{}"),
    "nul-in-name": TEXT % (b"a", b'{"a\\u0000":1}'),
    "json-syntax": TEXT % (b"a\x01", b"{}"),
    "limit-depth": TEXT % (b"a", b"[" * 300 + b"]" * 300),
    "limit-nodes": TEXT % (b"a", b"[" + b"1," * 200_000 + b"1]"),
}
SPELLINGS = {
    "python": b'{"jsonrpc": "2.0", "id": %s, "result": %s}',
    "typescript": b'{"result":%s,"jsonrpc":"2.0","id":%s}',
    "go": b'{"jsonrpc":"2.0","id":%s,"result":%s}',
}


def refused(raw: bytes, direction: Direction = Direction.SERVER) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        Codec(Limits()).decode(raw, direction)
    return caught.value


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("rule", RESULTS)
@pytest.mark.parametrize("request_id", [7, "a-7"])
def test_a_refused_answer_names_who_waits(rule: str, spelling: str, request_id: Any) -> None:
    name = json.dumps(request_id).encode()
    parts = (RESULTS[rule], name) if spelling == "typescript" else (name, RESULTS[rule])
    error = refused(SPELLINGS[spelling] % parts)
    assert (error.rule, error.request_id, error.is_answer) == (rule, request_id, True)


@pytest.mark.parametrize("rule", RESULTS)
def test_the_waiting_client_gets_an_error_and_no_other_does(rule: str) -> None:
    channel, _ = channel_of()
    for request_id in (7, 8):
        channel.client(
            b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"a","arguments":{}}}' % request_id
        )
    outcome: Any = channel.server(SPELLINGS["go"] % (b"7", RESULTS[rule]))
    told = json.loads(outcome.forward)
    assert (told["id"], told["error"]["code"], told["error"]["data"]["rule"]) == (7, -31403, rule)
    assert list(channel.pending) == [8]
    assert outcome.reply is None


@pytest.mark.parametrize("member", [b'"result":{}', b'"error":{"code":1,"message":"x"}'])
def test_an_answer_with_a_method_ends_the_wait(member: bytes) -> None:
    error = refused(b'{"jsonrpc":"2.0","id":7,"method":"ping",' + member + b"}")
    assert (error.rule, error.request_id, error.is_answer) == ("jsonrpc-hybrid", 7, True)


@pytest.mark.parametrize(
    ("before", "rule"), [(b"\xef\xbb\xbf", "json-bom"), (b" \t", "json-not-a-number"), (b"\r\n", "json-not-a-number")]
)
def test_a_byte_order_mark_or_space_before_it_does_not_hide_it(before: bytes, rule: str) -> None:
    error = refused(before + b'{"jsonrpc":"2.0","id":7,"result":{"a":NaN}}')
    assert (error.rule, error.request_id, error.is_answer) == (rule, 7, True)


@pytest.mark.parametrize(
    ("raw", "request_id"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"roots/list","params":{"a":1,"a":2}}', 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"roots/list","params":{"result":NaN}}', None),
    ],
)
def test_a_refused_request_of_a_server_ends_nobodys_wait(raw: bytes, request_id: int | None) -> None:
    error = refused(raw)
    assert (error.request_id, error.is_answer) == (request_id, False)


@pytest.mark.parametrize(
    "raw",
    [
        b"Server listening on stdio",
        b'{"jsonrpc":"2.0","id":7.0,"result":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":true,"result":{"a":1,"a":2}}',
        b'{"jsonrpc":"2.0","params":{"id":7},"result":NaN}',
        b'{"jsonrpc":"2.0","result":{"id":7},"a":NaN}',
    ],
)
def test_what_answers_nobody_names_nobody(raw: bytes) -> None:
    assert refused(raw).request_id is None


def test_what_a_client_sends_is_not_guessed_at() -> None:
    assert refused(b'{"jsonrpc":"2.0","id":7,"method":"ping","method":"a"}', Direction.CLIENT).request_id is None


def test_a_client_that_sends_both_is_told_by_the_id_of_its_request() -> None:
    error = refused(b'{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}', Direction.CLIENT)
    assert (error.rule, error.request_id, error.is_answer) == ("jsonrpc-hybrid", 7, False)
