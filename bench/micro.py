#!/usr/bin/env python3
"""What one message costs inside callgate, step by step, in µs: for developers, to find where time goes.

    bench/micro.py            one long string, as the load generators send it
    bench/micro.py --nested   objects in arrays, as structured results are

The steps overlap: `Channel` is the whole of a call and its answer, and holds two of each of the others.
The best of several repeats is shown: everything slower is somebody else's work on this machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from callgate.assembly import assemble
from callgate.config import Config
from callgate.protocol.message import Direction, Message

SIZES = {"200 B": 200, "2 KB": 2_000, "20 KB": 20_000, "1 MB": 1_000_000}
REPEATS = 7
REPEAT_S = 0.03
WORDS = "the quick brown fox jumps over the lazy dog 0123456789 "


def text(size: int) -> str:
    return (WORDS * (size // len(WORDS) + 1))[: max(size, 1)]


def rows(size: int) -> list[dict[str, Any]]:
    """Records of about 100 bytes each."""
    count = max(size // 100, 1)
    return [{"id": n, "name": f"item {n}", "tags": ["a", "b"], "note": text(30), "price": n / 4} for n in range(count)]


def request(size: int, nested: bool) -> bytes:
    arguments: dict[str, Any] = {"rows": rows(size - 110)} if nested else {"text": text(size - 110)}
    params = {"name": "echo", "arguments": arguments}
    return orjson.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})


def answer(size: int, nested: bool) -> bytes:
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": text(10 if nested else size - 100)}],
        "isError": False,
    }
    if nested:
        result["structuredContent"] = {"rows": rows(size - 140)}
    return orjson.dumps({"jsonrpc": "2.0", "id": 7, "result": result})


def best_us(step: Callable[[], object]) -> float:
    """Time of one run, the best of several repeats."""
    started = time.perf_counter()
    step()
    runs = max(1, int(REPEAT_S / max(time.perf_counter() - started, 1e-7)))
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(runs):
            step()
        best = min(best, (time.perf_counter() - started) / runs)
    return best * 1e6


def steps(gate: Any, journal: Any, size: int, nested: bool) -> dict[str, Callable[[], object]]:
    """The steps for one size, each a call without arguments."""
    ask, reply = request(size, nested), answer(size, nested)
    decode, scan = gate.codec.decode, gate.automaton.scan
    channel = opened_channel(gate)
    client, server = channel.client, channel.server
    scope = journal.scope(server="micro", principal="local", transport="stdio")
    message = decode(ask, Direction.CLIENT)
    assert isinstance(message, Message)
    params = message.body["params"]

    def call() -> None:
        client(ask)
        server(reply)

    def record() -> None:
        scope.decision("call", 0, "tools/call", "echo", 7, ask, params, "allow", (), 0, 0)

    if type(client(ask)) is not bytes or type(server(reply)) is not bytes:
        sys.exit("micro: the gate refuses the bench's own messages")
    return {
        "orjson.loads": lambda: orjson.loads(ask),
        "Codec.decode, a call": lambda: decode(ask, Direction.CLIENT),
        "Codec.decode, an answer": lambda: decode(reply, Direction.SERVER),
        "Automaton.scan": lambda: scan(ask),
        "Scope.decision": record,
        "Channel.client + Channel.server": call,
    }


def opened_channel(gate: Any) -> Any:
    """A channel after its handshake."""
    channel = gate.channel(server="micro", principal="local", transport="stdio")
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}}
    exchange: list[tuple[Callable[[bytes], object], dict[str, Any]]] = [
        (channel.client, {"id": 1, "method": "initialize",
                          "params": {**hello, "clientInfo": {"name": "micro", "version": "1"}}}),
        (channel.server, {"id": 1, "result": {**hello, "serverInfo": {"name": "micro", "version": "1"}}}),
        (channel.client, {"method": "notifications/initialized"}),
        (channel.client, {"id": 2, "method": "tools/list"}),
        (channel.server, {"id": 2, "result": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}}),
    ]  # fmt: skip
    for send, body in exchange:
        send(orjson.dumps({"jsonrpc": "2.0", **body}))
    return channel


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nested", action="store_true", help="objects in arrays instead of one long string")
    nested = parser.parse_args().nested
    with tempfile.TemporaryDirectory(prefix="callgate-micro-") as directory:
        _, journal, gate = assemble(Config(state_dir=str(Path(directory))), process="micro")
        table = {label: steps(gate, journal, size, nested) for label, size in SIZES.items()}
        names = list(table["200 B"])
        print(f"{'µs':<34}" + "".join(f"{label:>10}" for label in SIZES))
        for name in names:
            print(f"{name:<34}" + "".join(f"{best_us(table[label][name]):>10.2f}" for label in SIZES), flush=True)
        channels = best_us(lambda: gate.channel(server="micro", principal="local", transport="http"))
        print(f"{'Gate.channel':<34}{channels:>10.2f}")
        gate.close()
        journal.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
