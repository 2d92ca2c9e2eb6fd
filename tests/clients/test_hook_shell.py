"""What a command line says, as far as a hook sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.clients.hook_shell import MAX_COMMANDS, commands


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ls -la", [["ls", "-la"]]),
        ("a;b && c || d | e & f", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a\nb", [["a"], ["b"]]),
        ("\"call\"'gate' unin\\stall", [["callgate", "uninstall"]]),
        ("echo 'a; b' \"c | d\"", [["echo", "a; b", "c | d"]]),
        ("echo $(rm x) y", [["echo", "", "y"], ["rm", "x"]]),
        ('echo "a $(rm x) b"', [["echo", "a  b"], ["rm", "x"]]),
        ("echo `rm x`", [["echo", ""], ["rm", "x"]]),
        ("diff <(a) <(b)", [["diff", "", ""], ["a"], ["b"]]),
        ("(cd x; y)", [["cd", "x"], ["y"]]),
        ("a # b; c\nd", [["a"], ["d"]]),
        ("a#b", [["a#b"]]),
        ("a \\\n b", [["a", "b"]]),
        ('echo "\\$HOME \\"q\\""', [["echo", '$HOME "q"']]),
        ("", []),
    ],
)
def test_words(text: str, words: list[list[str]]) -> None:
    found = commands(text)
    assert found is not None
    assert sorted(one.words for one in found) == sorted(words)


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("a > f", ["f"]),
        ("a >> f 2>&1", ["f", "1"]),
        ("a &> f", ["f"]),
        ("a 2>f <g", ["f"]),
        ("a >| 'f g'", ["f g"]),
        ("a < f", []),
        ("a <> f", ["f"]),
        ("> f a", ["f"]),
    ],
)
def test_files_written_to(text: str, writes: list[str]) -> None:
    found = commands(text)
    assert found is not None
    assert [path for one in found for path in one.writes] == writes


@pytest.mark.parametrize("text", ["echo 'a", 'echo "a', "echo $(a", "echo `a", "a $( " * 10, ";" * (MAX_COMMANDS + 1)])
def test_what_cannot_be_taken_apart(text: str) -> None:
    assert commands(text) is None


@given(st.text("ab '\"\\$`()<>|&;#\n", max_size=60))
def test_it_always_ends(text: str) -> None:
    commands(text)
