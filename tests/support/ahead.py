"""What takes minutes to fetch or to make is begun with the session of tests; a test that needs it waits for the rest.

Each of them is made once, behind a lock of its own (tests/support/programs.py, machine_image.py): what is begun here
and fails is tried again by the test that needs it, which then says why.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.programs import ENVIRONMENT, ROOT

MADE = {"network": "tests.support.programs", "machine": "tests.support.machine_image"}
"""By the mark of tests that need it."""
SECONDS = 30


def needed(session: pytest.Session) -> list[str]:
    """The modules to run, in one worker only."""
    if session.config.option.collectonly or getattr(session.config, "workerinput", {}).get("workerid", "gw0") != "gw0":
        return []
    return [module for mark, module in MADE.items() if any(item.get_closest_marker(mark) for item in session.items)]


@contextmanager
def begun(modules: list[str]) -> Iterator[None]:
    """Run the modules beside what is done here; what still runs at the end is ended."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(_end, process)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
