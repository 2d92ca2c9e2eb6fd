"""A store of secrets that answers when a test says so: a program in the place of 1Password's `op`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

VALUE = "op-Value-9fK27Lm"
_PROGRAM = f"""#!{sys.executable} -IS
import os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "asked"), "a") as file:
    file.write(sys.argv[-1] + "\\n")
for _ in range(6000):
    if os.path.exists(os.path.join(here, "answer")):
        break
    time.sleep(0.01)
sys.stdout.write({VALUE!r})
"""


class SlowStore:
    """`op` in a directory of its own; put that in PATH."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        program = directory / "op"
        program.write_text(_PROGRAM)
        program.chmod(0o755)

    @property
    def path(self) -> str:
        """PATH with it in front."""
        return f"{self.directory}{os.pathsep}{os.environ['PATH']}"

    @property
    def asked(self) -> int:
        """How often it was asked so far."""
        try:
            return len((self.directory / "asked").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def answer(self) -> None:
        """Answer what was asked, and everything from now on."""
        (self.directory / "answer").touch()

    async def was_asked(self, times: int = 1) -> None:
        """Wait for that many questions."""
        async with asyncio.timeout(60):
            while self.asked < times:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)
