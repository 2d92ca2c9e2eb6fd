"""A server's stderr: visible, bounded, and never in the way."""

import fcntl
import os
import select
import threading
from collections.abc import Iterator

import pytest

from callgate.transport import stderr_relay
from callgate.transport.stderr_relay import BURST_LINES, LINE_BYTES, StderrRelay, to_stderr


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


def test_lines_for_a_full_stderr_are_left_out_and_counted(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = pipe
    monkeypatch.setattr(stderr_relay, "PATIENCE_S", 0.01)
    kept = os.dup(2)
    os.dup2(write, 2)
    try:
        for number in range(100):
            to_stderr(f"{number:<9000}\n")
        shown = os.read(read, 1 << 20)
        to_stderr("again\n")
        shown += os.read(read, 1 << 20)
        to_stderr("and again\n")
        shown += os.read(read, 1 << 20)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    lines = shown.decode().splitlines()
    whole = [line for line in lines if len(line) == 9000]
    cut = [line for line in lines if line.endswith("  …")]
    assert 1 <= len(whole) < 20
    assert len(cut) <= 1
    rest = lines[len(whole) + len(cut) :]
    assert rest == [f"callgate: ({100 - len(whole)} lines of stderr left out)", "again", "and again"]


def test_a_stderr_that_takes_little_at_a_time_gets_all(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    kept = os.dup(2)
    text = "".join(f"{number:<2000}\n" for number in range(200))
    got = bytearray()
    reader = threading.Thread(target=lambda: _read_all(read, got, len(text)))
    os.dup2(write, 2)
    try:
        reader.start()
        to_stderr(text)
        reader.join(60)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert got.decode() == text


def _read_all(fd: int, got: bytearray, size: int) -> None:
    while len(got) < size:
        select.select([fd], [], [], 60)
        got += os.read(fd, 3000)
