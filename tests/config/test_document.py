"""A document as a configuration: errors name the key."""

from __future__ import annotations

from typing import Any

import pytest

from callgate.config.document import parse
from callgate.errors import ConfigError


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"moed": "enforce"}, "moed"),
        ({"mode": "lax"}, "mode"),
        ({"listen": {"address": "nowhere"}}, "listen.address"),
        ({"listen": {"address": "127.0.0.1:99999"}}, "listen.address"),
        ({"listen": {"workers": 0}}, "listen.workers"),
        ({"listen": {"workers": True}}, "listen.workers"),
        ({"listen": {"drain_s": "soon"}}, "listen.drain_s"),
        ({"listen": {"drain_s": -1}}, "listen.drain_s"),
        ({"listen": []}, "listen"),
        ({"limits": {"depth": 500}}, "limits.depth"),
        ({"limits": {"bytes": 1}}, "limits.bytes"),
        ({"limits": {"exact_integers": 1}}, "limits.exact_integers"),
        ({"audit": {"content": "everything"}}, "audit.content"),
        ({"controls": {"x": {"mode": "maybe"}}}, "controls.x.mode"),
        ({"servers": {"a b": {"command": ["x"]}}}, "servers.a b"),
        ({"servers": {"a": {}}}, "servers.a"),
        ({"servers": {"a": {"command": ["x"], "url": "http://h/"}}}, "servers.a"),
        ({"servers": {"a": {"command": "npx x"}}}, "servers.a.command"),
        ({"servers": {"a": {"command": ["x\0y"]}}}, "servers.a.command"),
        ({"servers": {"a": {"url": "ftp://h/"}}}, "servers.a.url"),
        ({"servers": {"a": {"url": "http://h/", "transport": "stdio"}}}, "servers.a.transport"),
        ({"servers": {"a": {"command": ["x"], "environment": {"A": 1}}}}, "servers.a.environment.A"),
        ({"servers": {"a": {"command": ["x"], "mode": "off"}}}, "servers.a.mode"),
    ],
)
def test_errors_name_the_key_and_the_next_step(document: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document)
    assert key in caught.value.what
    assert caught.value.next_step
