"""kill -9 before every step of a move and of its undo: no file half written, no value lost, the next run finishes."""

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
@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("command", "first"), [("move", 0), ("move", 1), ("undo", 0), ("undo", 1)])
def test_killed_at_every_step(command: str, first: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CALLGATE_"))}
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        result = subprocess.run(
            [sys.executable, "-m", "tests.cli.secrets_kill", f"{folder}/run", command, str(first), "2"],
            cwd=ROOT,
            env={**environment, "CODEX_HOME": "", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["wrong"] == []
    assert found["steps"] > 60
