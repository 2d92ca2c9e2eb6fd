"""Runs the range as an ordinary user, whoever runs the tests."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import callgate

HERE = Path(__file__).resolve().parent
USER = 23456
"""Nobody's number: the tests run as root in CI, where root would hide what a sandbox lets through."""
SECONDS = 100


class Unusable(Exception):
    """The range cannot run with this backend here."""


@functools.cache
def ran(backend: str, seconds: float = SECONDS) -> dict[str, Any]:
    """All probes under one backend, once a process. `seconds`: more than the usual on a slow machine."""
    folder = Path(tempfile.mkdtemp(prefix="callgate-range-", dir="/var/tmp"))
    try:
        return _ran(backend, folder, seconds)
    finally:
        _end_pause(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _ran(backend: str, folder: Path, seconds: float) -> dict[str, Any]:
    prefix = _as_user()
    code = folder / "code"
    source = Path(callgate.__file__).parent
    shutil.copytree(source, code / "callgate", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE, code / "escapes", ignore=shutil.ignore_patterns("__pycache__"))
    places = {name: folder / name for name in ("baits", "home", "run")}
    for place in places.values():
        place.mkdir(mode=0o700)
        if prefix:
            os.chown(place, USER, USER)
    folder.chmod(0o755)
    done = subprocess.run(
        [*prefix, _python(prefix), str(code / "escapes/arena.py"), backend, str(places["baits"])],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(places["home"]),
            "XDG_RUNTIME_DIR": str(places["run"]),
            "PYTHONPATH": str(code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RANGE_SLOWNESS": str(seconds / SECONDS),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        start_new_session=True,  # a terminal of its own, to type into
        check=False,
    )
    if done.returncode:
        raise Unusable(done.stderr.strip()[-1500:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _as_user() -> list[str]:
    if os.getuid():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Unusable("setpriv is missing, and the probes must not run as root")
    return [setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]


@functools.cache
def _found(prefix: tuple[str, ...]) -> str:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for place in ("/usr/bin/python3", "/usr/local/bin/python3", os.path.realpath(sys.executable)):
        with contextlib.suppress(OSError):
            if subprocess.run([*prefix, place, "-c", check], capture_output=True, check=False).returncode == 0:
                return place
    raise Unusable("no Python 3.11 that an ordinary user may start")


def _python(prefix: list[str]) -> str:
    return _found(tuple(prefix))


def _end_pause(folder: Path) -> None:
    """Rootless podman leaves a process that holds its namespaces."""
    for path in folder.glob("run/**/pause.pid"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(path.read_text()), signal.SIGKILL)
