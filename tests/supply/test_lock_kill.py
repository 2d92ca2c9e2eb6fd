"""kill -9 before every step of locking: the lock is the old or the new one, and what it names starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("which", ["lock", "update"])
def test_killed_at_every_step(which: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.supply.lock_kill_steps", str(tmp_path / "run"), which],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["wrong"] == []
    assert found["steps"] > 25
