"""One table of programs that fetch what they start."""

from __future__ import annotations

import pytest

from callgate.runners import CONTAINER_ENGINES, FETCHERS, PACKAGE_RUNNERS, PROJECT_RUNNERS, program_name
from callgate.supply.launch_line import parse
from callgate.supply.launch_runners import knows
from callgate.supply.lockable import kind_of


def test_every_package_runner_is_one_whose_lines_are_read() -> None:
    assert [name for name in sorted(PACKAGE_RUNNERS) if not knows(name)] == []


@pytest.mark.parametrize(
    "argv",
    [
        ("npx", "-y", "a"),
        ("pnpx", "a"),
        ("npm", "exec", "a"),
        ("pnpm", "dlx", "a"),
        ("yarn", "dlx", "a"),
        ("bunx", "a"),
        ("bun", "x", "a"),
        ("uvx", "a"),
        ("uv", "tool", "run", "a"),
        ("pipx", "run", "a"),
    ],
)
def test_what_they_run_comes_from_a_registry(argv: tuple[str, ...]) -> None:
    assert argv[0] in PACKAGE_RUNNERS
    assert kind_of(parse(argv)) in ("npm", "pypi")


def test_container_engines_are_those_whose_lines_are_read() -> None:
    assert {kind_of(parse((name, "run", "-i", "image"))) for name in CONTAINER_ENGINES} == {"oci"}


def test_no_interpreter_and_no_engine_is_a_fetcher() -> None:
    assert FETCHERS == PACKAGE_RUNNERS | PROJECT_RUNNERS
    assert not FETCHERS & {"node", "python3", "python", "deno", "java", "sh", *CONTAINER_ENGINES}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("npx", "npx"),
        ("/usr/bin/npx", "npx"),
        (r"C:\Program Files\nodejs\npx.cmd", "npx"),
        ("C:/nodejs/NPX.EXE", "npx"),
        ("C:\\Program Files\\nodejs\\NPX.CMD", "npx"),
        ("a/b\\uvx.exe", "uvx"),
        ("npx.js", "npx.js"),
        ("", ""),
        ("bin/", ""),
    ],
)
def test_program_name(word: str, name: str) -> None:
    assert program_name(word) == name
