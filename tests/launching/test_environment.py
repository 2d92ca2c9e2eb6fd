"""Variables reach a server by name only."""

from __future__ import annotations

from callgate.launching.environment import by_name

OURS = {
    "PATH": "/usr/bin",
    "LANG": "C.UTF-8",
    "HOME": "/home/me",
    "GITHUB_TOKEN": "t",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_REGION": "eu",
    "LD_PRELOAD": "/tmp/x.so",
    "SSH_AUTH_SOCK": "/run/agent",
}


def test_nothing_but_harmless_ones_without_a_name() -> None:
    assert by_name(OURS, ()) == {"PATH": "/usr/bin", "LANG": "C.UTF-8"}


def test_a_named_one_passes_and_its_neighbours_do_not() -> None:
    assert set(by_name(OURS, ("AWS_REGION",))) == {"PATH", "LANG", "AWS_REGION"}


def test_a_pattern_passes_what_begins_so() -> None:
    assert set(by_name(OURS, ("AWS_*",))) == {"PATH", "LANG", "AWS_REGION", "AWS_SECRET_ACCESS_KEY"}


def test_a_pattern_never_passes_what_changes_the_code_that_is_loaded() -> None:
    assert "LD_PRELOAD" not in by_name(OURS, ("*",))
    assert "LD_PRELOAD" in by_name(OURS, ("LD_PRELOAD",))


def test_a_name_that_is_not_set_is_no_error() -> None:
    assert "NOTHING" not in by_name(OURS, ("NOTHING",))
