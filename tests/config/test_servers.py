"""The tables about what is started."""

from __future__ import annotations

import pytest

from callgate.config import valid_server_name
from callgate.config.document import parse


def test_a_server_may_have_its_own_mode() -> None:
    config = parse({"servers": {"a": {"command": ["x"], "mode": "observe"}, "b": {"url": "https://h/mcp"}}})
    assert (config.mode_of("a"), config.mode_of("b"), config.mode_of("c")) == ("observe", "enforce", "enforce")
    assert config.servers["b"].transport == "http"


@pytest.mark.parametrize("name", ["", "a/b", "..", "-a", "a" * 65, "ä", "a b"])
def test_names_that_cannot_be_a_route(name: str) -> None:
    assert not valid_server_name(name)
