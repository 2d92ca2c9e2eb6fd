"""The parts of the stdio relay that can be tested without a process."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.errors import LaunchError
from callgate.transport.launch import resolve, spawn
from callgate.transport.stdio import Lines, Sink


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [part for part in (data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)) if part]


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.lists(st.integers(0, 400)))
def test_any_chunking_gives_the_same_lines(lines: list[bytes], cuts: list[int]) -> None:
    cutter = Lines(1000)
    found: list[bytes] = []
    for chunk in chunks(b"".join(line + b"\n" for line in lines), cuts):
        got, dropped = cutter.feed(chunk)
        found += got
        assert not dropped
    assert [line for line in found if line] == [line for line in lines if line]
    assert not cutter.unfinished


@given(st.lists(st.integers(0, 40), max_size=10), st.lists(st.integers(0, 400)))
def test_over_long_lines_are_dropped_and_counted_and_the_others_stay(sizes: list[int], cuts: list[int]) -> None:
    """Dropped exactly when the part kept at some chunk border exceeded the limit, never another line with it."""
    cutter = Lines(20)
    lines = [bytes([97 + number % 26]) * size for number, size in enumerate(sizes)]
    found: list[bytes] = []
    dropped = 0
    for chunk in chunks(b"".join(line + b"\n" for line in lines), cuts):
        got, lost = cutter.feed(chunk)
        found += got
        dropped += lost
    kept = [line for line in found if line]
    assert len(kept) + dropped == sum(1 for line in lines if line)
    assert [line for line in lines if line and line in kept] == kept or len(set(kept)) < len(kept)
    assert all(line in lines for line in kept)
    assert all(line in kept for line in lines if 0 < len(line) <= 20)


def test_memory_stays_bounded_while_a_line_is_skipped() -> None:
    cutter = Lines(100)
    assert cutter.feed(b"x" * 150) == ([], 1)
    for _ in range(100):
        assert cutter.feed(b"x" * 1000) == ([], 0)
        assert not cutter.parts
    assert cutter.feed(b"xx\nnext\n") == ([b"next"], 0)


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
