"""An upstream and a gateway for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from callgate.transport.http import client
from tests.transport.http.harness import Gateway, Upstream, echo, gateway


@pytest.fixture(autouse=True)
def _connections_outlive_a_machine_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests count them, and reckon with those that are used again."""
    monkeypatch.setattr(client, "MAX_IDLE_S", 60.0)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[Gateway, Upstream]]]:
    """`serve(respond, **options)`: a gateway in front of an upstream that answers so."""
    with ExitStack() as stack:

        def start(respond: Any = echo, **options: Any) -> tuple[Gateway, Upstream]:
            upstream = Upstream(respond)
            stack.callback(upstream.close)
            url = f"http://127.0.0.1:{upstream.port}/mcp"
            return stack.enter_context(gateway(url, tmp_path, **options)), upstream

        yield start
