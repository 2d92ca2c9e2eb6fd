"""One direction of a stdio relay: a line comes to the same however many reads it takes."""

from __future__ import annotations

import os
from typing import Any

import orjson
import pytest

from callgate.config import Limits
from callgate.protocol.message import Direction
from callgate.transport.lane import Lane
from callgate.transport.sink import Sink
from tests.gate.fakes import channel_of

LIMIT = 1000
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}'


def relayed(direction: Direction, pieces: list[bytes], mode: str) -> Any:
    """What goes on and back, who still waits, and what is on record, when `pieces` come one after the other."""
    channel, journal = channel_of(limits=Limits(request_bytes=LIMIT, response_bytes=LIMIT), mode=mode)
    channel.client(CALL)
    pipes = [os.pipe() for _ in range(3)]
    for end, _ in pipes:
        os.set_blocking(end, False)
    (source, feed), (onward, to_onward), (back, to_back) = pipes
    try:
        lane = Lane(channel, direction, source, Sink(to_onward), Sink(to_back), lambda sink, lane: None)
        for piece in pieces:
            os.write(feed, piece)
            for _ in range(8):  # what is read at once may be less
                lane.read()
        records = [(fields[7], [one.rule for one in fields[8]]) for fields in journal.decisions]
        return rules(what_is_in(onward)), rules(what_is_in(back)), list(channel.pending), records
    finally:
        for end in {end for pipe in pipes for end in pipe}:
            os.close(end)


def what_is_in(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""


def rules(lines: bytes) -> list[Any]:
    """Errors by id and rule; everything else as it is."""
    said = []
    for line in lines.splitlines():
        body = orjson.loads(line)
        said.append((body["id"], body["error"]["data"]["rule"]) if "error" in body else line)
    return said


def message(direction: Direction, size: int) -> bytes:
    """A message of `size` bytes and its newline."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1}
    if direction is Direction.SERVER:
        body["result"] = {"content": [{"type": "text", "text": "y"}]}
    else:
        body |= {"id": 2, "method": "tools/call", "params": {"name": "y", "arguments": {}}}
    short = orjson.dumps(body)
    return short.replace(b'"y"', b'"' + b"y" * (size - len(short) + 1) + b'"') + b"\n"


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT])
def test_a_line_in_one_piece_and_in_two(direction: Direction, size: int, mode: str) -> None:
    line = message(direction, size)
    assert len(line) == size + 1
    whole = relayed(direction, [line], mode)
    assert whole == relayed(direction, [line[:100], line[100:]], mode)
    if size > LIMIT:
        onward, back, pending, _ = whole
        if direction is Direction.SERVER:
            assert onward == [(1, "limit-response-bytes")]  # who waits for the answer learns that none will come
            assert not pending
        else:
            assert (onward, back) == ([], [(None, "limit-request-bytes")])
