"""A server's stderr: visible, bounded, and never in the way."""

import fcntl
import os
from collections.abc import Iterator

import pytest

from callgate.transport.stderr_relay import BURST_LINES, LINE_BYTES, StderrRelay


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    os.close(read)
    os.close(write)


def test_lines_carry_the_name_and_no_control_character(pipe: tuple[int, int]) -> None:
    read, write = pipe
    relay = StderrRelay("srv", write)
    relay.feed(b"hello\nred \x1b[31m")
    relay.feed(b"text\x07\n\n  \nbad \xff bytes\nunfin")
    relay.close()
    shown = os.read(read, 65536).decode()
    assert shown.splitlines() == [
        "[srv] hello",
        "[srv] red \\x1b[31mtext\\x07",
        "[srv] bad \\\\xff bytes",
        "[srv] unfin",
    ]


def test_long_lines_are_cut_and_endless_ones_shown_once(pipe: tuple[int, int]) -> None:
    read, write = pipe
    relay = StderrRelay("srv", write)
    relay.feed(b"a" * 10_000 + b"\nnext\n")
    for _ in range(100):
        relay.feed(b"b" * 10_000)
    relay.feed(b"\nlast\n")
    lines = os.read(read, 65536).decode().splitlines()
    assert [line[6] for line in lines] == ["a", "n", "b", "l"]
    assert max(map(len, lines)) < LINE_BYTES + 20


def test_a_flood_is_counted_not_shown(pipe: tuple[int, int]) -> None:
    read, write = pipe
    relay = StderrRelay("srv", write)
    relay.feed(b"x\n" * 10_000)
    relay.close()
    lines = os.read(read, 1 << 20).decode().splitlines()
    assert BURST_LINES <= len(lines) <= BURST_LINES + 20
    assert lines[-1].endswith("lines of stderr left out)")


def test_a_full_pipe_holds_nobody_up(pipe: tuple[int, int]) -> None:
    read, write = pipe
    size = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    os.write(write, b"z" * size)
    relay = StderrRelay("srv", write)
    relay.feed(b"one\ntwo\n")  # returns
    os.read(read, size)
    relay.feed(b"three\n")
    text = os.read(read, 65536).decode()
    assert "(2 lines of stderr left out)" in text
    assert "three" in text
