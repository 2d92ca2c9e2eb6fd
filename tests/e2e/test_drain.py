"""SIGTERM to `callgate serve` before a stdio server: a call has all of `listen.drain_s`, and the exit code is true."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import legacy, modern
from tests.support.gateway import Gateway, serve
from tests.support.processes import FIXTURES, wait_until

pytestmark = pytest.mark.timeout(120)

STDIO = [sys.executable, "-S", "-E", str(FIXTURES / "servers" / "faulty_server.py")]
PATH = "/stdio/mcp"
DRAIN_S = 4.0


def ask_in_a_session(port: int, seconds: float) -> dict[str, Any]:
    with legacy.Session(port, PATH).open_stream(legacy.call(1, "echo", text="drained", seconds=seconds)) as response:
        found = response.read()
    line = next((one[5:] for one in found.splitlines() if one.startswith(b"data:")), found)
    message: dict[str, Any] = json.loads(line)
    return message


def ask_alone(port: int, seconds: float) -> dict[str, Any]:
    return modern.post(port, PATH, modern.call(1, "echo", text="drained", seconds=seconds)).message()


def stopped(gateway: Gateway, ask: Callable[[int, float], dict[str, Any]], seconds: float) -> tuple[Any, int, float]:
    """What a call got, the exit code, and how long the stop took."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, gateway.port, seconds)
        wait_until(lambda: "tools/call echo" in gateway.command("audit", "tail").stdout, 60, "the call")
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        answer = asked.result()
    return answer, gateway.wait(), time.monotonic() - began


@pytest.mark.parametrize("ask", [ask_in_a_session, ask_alone])
def test_a_call_has_the_whole_time(ask: Callable[[int, float], dict[str, Any]], tmp_path: Path) -> None:
    for attempt in range(5):
        with serve(tmp_path / str(attempt), {"stdio": {"command": STDIO}}, listen={"drain_s": DRAIN_S}) as gateway:
            answer, code, took = stopped(gateway, ask, 0.8 * DRAIN_S)
        if code == 0 or took < DRAIN_S:
            break  # else the machine stood still, and the call took longer than the time it was to have
    assert answer["result"]["content"][0]["text"] == "drained"
    assert code == 0


@pytest.mark.parametrize("ask", [ask_in_a_session, ask_alone])
def test_a_call_that_is_cut_is_told_and_shows_in_the_exit_code(
    ask: Callable[[int, float], dict[str, Any]], tmp_path: Path
) -> None:
    for attempt in range(5):
        with serve(tmp_path / str(attempt), {"stdio": {"command": STDIO}}, listen={"drain_s": DRAIN_S}) as gateway:
            answer, code, took = stopped(gateway, ask, 30)
        if code or took < DRAIN_S + 1:
            break  # else the machine stood still between the look at what is in flight and its cut
    assert answer["error"]["data"]["rule"] == "server-gone"
    assert code == 1
    assert DRAIN_S < took < DRAIN_S + 20
