"""kill -9 before every step: each file is the old one or the new one, status says which, and the next run finishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.kill import IN_MEMORY

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.timeout(330)
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_killed_at_every_step(command: str) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        result = subprocess.run(
            [sys.executable, "-m", "tests.clients.kill_steps", f"{folder}/run", command],
            cwd=ROOT,
            env={**os.environ, "XDG_CONFIG_HOME": "", "CODEX_HOME": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["wrong"] == []
    assert found["steps"] > 40
