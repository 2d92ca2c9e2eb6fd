"""Before a command of the user's own starts programs: its settings hold for them, and where they are is remembered."""

from __future__ import annotations

from pathlib import Path

from callgate.config import Config
from callgate.outside import caller, programs


def settle(config: Config | None, state: Path) -> None:
    """Take the configuration, and keep it for what clients start, and which `npm`, `uv`, `op` … the user's PATH has."""
    caller.settle(config, state)
    programs.remember(config.source if config else "")
