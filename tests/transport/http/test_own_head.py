"""The gate's own headers, with every request to a server."""

from __future__ import annotations

from typing import Any

import pytest

from callgate.config import ServerConfig
from callgate.errors import ConfigError
from callgate.transport.http.own_head import configured_headers
from tests.transport.http.harness import call, post


def test_the_servers_own_headers_are_added_and_win(serve: Any) -> None:
    gateway, upstream = serve(server={"headers": {"Authorization": "Bearer upstream", "X-Tenant": "t1"}})
    gateway.ask(post(call(), "Authorization: Bearer client", "X-Tenant: t2"))
    seen = upstream.requests[0].headers
    assert [value for name, value in seen if name == "authorization"] == ["Bearer upstream"]
    assert [value for name, value in seen if name == "x-tenant"] == ["t1"]


@pytest.mark.parametrize(
    "headers",
    [{"Host": "x"}, {"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}, {"X": "a\r\nb: c"}, {"a b": "x"},
     {"": "x"}, {"X": "caf\u00e9"}, {"Connection": "close"}],
)  # fmt: skip
def test_headers_that_cannot_be_configured(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        configured_headers(ServerConfig("s", url="http://localhost/", transport="http", headers=headers))
