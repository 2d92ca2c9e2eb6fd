"""Running a program of ours as an unprivileged user, where the tests run as root."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sandbox.boxes import REQUIRED, bubblewrap_works

ROOT = Path(__file__).resolve().parents[2]
USER = 65534


@functools.cache
def interpreter() -> str:
    """A Python of this version that the user may start, with the project's packages."""
    if os.getuid():
        return sys.executable
    for place in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/local/bin/python3"):
        # setpriv starts it with root's rights to the path; what counts is whether the user could
        code = "import os, sys, _ctypes; os.stat(os.readlink('/proc/self/exe')); print(sys.version_info[:2])"
        test = [*as_user(), place, "-c", code]
        try:
            found = subprocess.run(test, capture_output=True, text=True, check=False, cwd="/", env=environment())
        except OSError:
            continue
        if found.stdout.strip() == str(sys.version_info[:2]):
            return place
    if REQUIRED:
        pytest.fail("no Python that an unprivileged user may start")
    pytest.skip("no Python that an unprivileged user may start")


def as_user() -> list[str]:
    if os.getuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    return PREFIX


PREFIX = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
needs_bubblewrap = pytest.mark.skipif(
    not bubblewrap_works(PREFIX if os.getuid() == 0 and shutil.which("setpriv") else ()),
    reason="bubblewrap is not there, or may make no namespace for an unprivileged user",
)


def environment() -> dict[str, str]:
    packages = [path for path in sys.path if path.endswith("-packages")]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextmanager
def directory() -> Iterator[Path]:
    """A directory of that user, where it can reach it."""
    path = Path(tempfile.mkdtemp(prefix="callgate-user-"))
    try:
        if not os.getuid():
            os.chown(path, USER, USER)
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run(script: str, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """A Python script of ours as the unprivileged user, in a directory of its own."""
    with directory() as home:
        return subprocess.run(
            [*as_user(), interpreter(), "-c", script, *arguments],
            env={**environment(), "HOME": str(home)},
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
