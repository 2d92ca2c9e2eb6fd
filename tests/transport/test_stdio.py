"""The parts of the stdio relay that can be tested without a process."""

from __future__ import annotations

import os

import pytest

from callgate.errors import LaunchError
from callgate.transport.launch import resolve, spawn
from callgate.transport.sink import Sink


def test_a_sink_queues_what_does_not_fit_and_keeps_the_order() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    sink = Sink(write)
    data = [bytes([65 + n]) * 30_000 for n in range(8)]
    waits = [sink.write(piece) for piece in data]
    assert waits[0] is False
    assert waits[-1] is True
    got = b""
    while sink.waiting:
        got += os.read(read, 1 << 20)
        sink.flush()
    sink.finish()
    assert sink.closed
    while piece := os.read(read, 1 << 20):
        got += piece
    assert got == b"".join(data)
    os.close(read)


def test_a_sink_nobody_reads_closes_quietly() -> None:
    read, write = os.pipe()
    sink = Sink(write)
    os.close(read)
    assert sink.write(b"x") is False
    assert sink.closed
    assert sink.write(b"y") is False


def test_programs_are_found_or_the_error_says_what_to_do(tmp_path: object) -> None:
    assert os.path.isabs(resolve("sh"))
    with pytest.raises(LaunchError, match="no program") as caught:
        resolve("no-such-program")
    assert "PATH" in caught.value.next_step
    with pytest.raises(LaunchError, match="not executable"):
        resolve("/etc/passwd")
    with pytest.raises(LaunchError):
        spawn([])
    with pytest.raises(LaunchError, match="working directory"):
        spawn(["sh"], cwd="/no/such/place")
