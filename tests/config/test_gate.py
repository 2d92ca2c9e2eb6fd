"""The tables about the gate itself."""

from __future__ import annotations

from dataclasses import fields

import pytest

from callgate.config import Limits, ListenConfig
from callgate.config.document import parse
from callgate.config.gate import parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), (":80", ("127.0.0.1", 80)), ("h:0", ("h", 0))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


def test_every_limit_and_listen_setting_can_be_set() -> None:
    limits = {f.name: getattr(Limits(), f.name) for f in fields(Limits)}
    assert parse({"limits": limits}).limits == Limits()
    given = {f.name: getattr(ListenConfig(), f.name) for f in fields(ListenConfig) if f.name not in ("host", "port")}
    given |= {"allowed_hosts": [], "allowed_origins": []}
    assert parse({"listen": given}).listen == ListenConfig()
