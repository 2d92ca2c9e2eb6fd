"""kill -9 before every step of a move and of its undo: no file half written, no value lost, the next run finishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("command", ["move", "undo"])
def test_killed_at_every_step(command: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CALLGATE_"))}
    result = subprocess.run(
        [sys.executable, "-m", "tests.cli.secrets_kill", str(tmp_path / "run"), command],
        cwd=ROOT,
        env={**environment, "CODEX_HOME": "", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["wrong"] == []
    assert found["steps"] > 60
