"""Line framing: equal to splitting the whole stream, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from callgate.transport.lines import CutLines, LineFramer

STREAMS = st.lists(st.sampled_from([b"a", b"bb", b"\n", b"ccc\n", b"\n\n", b"d" * 9, b"e" * 10 + b"\n", b"f" * 25]))


def expected(stream: bytes, limit: int) -> list[bytes | None]:
    *lines, rest = stream.split(b"\n")
    return [line if len(line) <= limit else None for line in lines] + ([None] if len(rest) > limit else [])


@given(STREAMS, st.integers(1, 12))
def test_any_cut_gives_the_same_lines(chunks: list[bytes], limit: int) -> None:
    framer = LineFramer(limit)
    lines: list[bytes | None] = []
    for chunk in chunks:
        lines += framer.feed(chunk)
        assert framer._size <= limit
    assert lines == expected(b"".join(chunks), limit)


def test_the_limit_is_inclusive() -> None:
    assert LineFramer(3).feed(b"abc\nabcd\nab\n") == [b"abc", None, b"ab"]


def test_an_endless_line_is_told_once_and_not_kept() -> None:
    framer = LineFramer(1000)
    told = [framer.feed(b"x" * 999) for _ in range(10_000)]
    assert sum(line is None for lines in told for line in lines) == 1
    assert framer._parts == []
    assert framer.skipping == 9_990_000
    assert framer.feed(b"\nnext\n") == [b"next"]


def test_rest_is_what_came_after_the_last_newline() -> None:
    framer = LineFramer(100)
    framer.feed(b"one\ntw")
    framer.feed(b"o")
    assert framer.rest() == b"two"
    assert framer.rest() == b""


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_cut_lines_are_the_lines_whatever_the_chunks(chunks: list[bytes]) -> None:
    cutter, whole = CutLines(16), b"".join(chunks)
    found = [line for chunk in chunks for line in cutter.feed(chunk)]
    found.append(cutter.rest())
    wanted = whole.split(b"\n")
    if len(wanted[-1]) > 16:
        wanted.append(b"")  # it was given at once, and no rest is left
    assert [line[:16] for line in found] == [line[:16] for line in wanted]
    assert [len(line) > 16 for line in found] == [len(line) > 16 for line in wanted]


def test_a_line_without_end_is_held_in_bounded_memory() -> None:
    cutter = CutLines(16)
    assert [len(line) for _ in range(100) for line in cutter.feed(b"x" * 1000)] == [1000]
    assert cutter.feed(b"tail\nnext\n") == [b"next"]
    assert cutter.rest() == b""
