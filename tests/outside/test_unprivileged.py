"""The same as an ordinary user: for root, nearly every file is one that only root can have put there."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.sandbox.boxes_user import ROOT, as_user, directory, environment, interpreter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="all tests run as an ordinary user here"),
]


def test_as_an_ordinary_user() -> None:
    prefix, python = as_user(), interpreter()
    with directory() as place:
        variables = {**environment(), "HOME": str(place), "TMPDIR": str(place), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        words = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={place / 'tests'}"]
        done = subprocess.run(
            [*prefix, *words, "tests/outside"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False,
            timeout=240,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
