"""What a server writes to stderr reaches the reader of `callgate run`, also what it says last, and what is too long."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import run_command

pytestmark = pytest.mark.timeout(120)


def said(script: str, tmp_path: Path) -> list[str]:
    command = run_command(["/bin/sh", "-c", script], "--name", "sh", "--state", str(tmp_path / "state"))
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    return [line for line in ended.stderr.splitlines() if not line.startswith("callgate:")]


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    assert said("printf 'one\\nfatal: no token' >&2; exit 3", tmp_path) == ["one", "fatal: no token"]


def test_a_line_that_is_too_long_is_cut(tmp_path: Path) -> None:
    long, after = said("head -c 20000 /dev/zero | tr '\\0' x >&2; printf '\\nafter\\n' >&2; exit 3", tmp_path)
    assert long == "x" * 16384 + " …"
    assert after == "after"


def test_the_last_line_is_shown_safely(tmp_path: Path) -> None:
    assert said("printf 'a\\033[31mb' >&2; exit 3", tmp_path) == [r"a\x1b[31mb"]
