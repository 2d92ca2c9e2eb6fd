"""Locking, the store and its starts as an ordinary user: what root may do anyway would hide a wrong mode or a wrong path.

Where the tests run as root, a choice of them runs again in a process of user 65534, with a home and a directory of its
own. Where they do not run as root, all of them are run by an ordinary user already.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from callgate.supply.resolve_client import find
from tests.sandbox.boxes_user import PREFIX, ROOT, as_user, directory, environment, interpreter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="all tests run as an ordinary user here"),
]
CHOSEN = [
    *("test_artefacts.py", "test_lockfile.py", "test_local.py", "test_prune.py", "test_derived.py"),
    "test_npm.py::test_the_newest_release_that_is_old_enough_is_taken_and_starts_offline",
    "test_served.py::TestNpm::test_the_lock_says_who_built_it",
    "test_served.py::TestPypi::test_a_lock_of_a_package_that_nobody_vouches_for",
]
LEFT = "not killed and not any_ and not two_processes"
"""What takes seconds and says the same for every user."""


def test_as_an_ordinary_user() -> None:
    as_user()
    python = interpreter()
    with directory() as place:
        ours = place / "tests"
        (place / "bin").mkdir()
        if find("uv"):
            (place / "bin" / "uv").symlink_to(os.path.realpath(find("uv")))
        words = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not network",
            "-k",
            LEFT,
            f"--basetemp={ours}",
        ]
        variables = {
            **environment(),
            "HOME": str(place),
            "TMPDIR": str(place),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "hypothesis"),
        }
        variables["PATH"] = f"{variables['PATH']}{os.pathsep}{place / 'bin'}"
        done = subprocess.run(
            [*PREFIX, *words, *(str(Path("tests/supply") / one) for one in CHOSEN)],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
