"""A decoded message, and which request a notification names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callgate.config import Limits
from callgate.protocol.codec import Codec
from callgate.protocol.message import Direction, Message


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"requestId": 7}, 7),
        ({"requestId": "7"}, "7"),
        ({"requestId": ""}, ""),
        ({"requestId": True}, None),
        ({"requestId": 7.5}, None),
        ({"requestId": None}, None),
        ({"requestId": [7]}, None),
        ({"requestId": {"a": 7}}, None),
        ({"progressToken": 7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_notification_names_a_request_by_text_or_number(params: Any, named: str | int | None) -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    message = Codec(Limits()).decode(json.dumps(body).encode(), Direction.CLIENT)
    assert isinstance(message, Message)
    found = message.names("requestId")
    assert (type(found), found) == (type(named), named)


def test_without_params_none_is_named() -> None:
    data = b'{"jsonrpc":"2.0","method":"notifications/cancelled"}'
    message = Codec(Limits()).decode(data, Direction.CLIENT)
    assert isinstance(message, Message)
    assert message.names("requestId") is None
