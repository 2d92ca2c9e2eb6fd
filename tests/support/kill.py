"""Kill a piece of work by SIGKILL before one of its steps: what a power cut or `kill -9` would leave."""

from __future__ import annotations

import builtins
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = (
    *("open", "close", "replace", "rename", "unlink", "link", "fsync", "sync"),
    *("fchmod", "chmod", "mkdir", "rmdir", "write"),
)
"""Functions of `os` that change or sync files; the builtin `open` counts too."""
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where the hundreds of runs have their files: a kill is one whatever holds them, and syncing costs nothing there."""


def killed(work: Callable[[], int], step: int) -> tuple[bool, int]:
    """Do `work` in a process of its own that ends before its `step`th step.

    Whether it was killed (not, when it had fewer steps), and its exit code where it was not.
    """
    child = os.fork()
    if child == 0:
        left = step

        def counted(original: Any) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **named)

            return call

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        builtins.open = counted(builtins.open)
        os._exit(work())
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status), 0 if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def afresh(folder: Path, make: Callable[[], None]) -> None:
    """`folder` as `make` leaves it: made once, and copied from then on."""
    made = folder.with_name(f"{folder.name}-{make.__name__}")
    shutil.rmtree(folder, ignore_errors=True)
    if made.exists():
        shutil.copytree(made, folder, symlinks=True)
        return
    folder.mkdir(parents=True)
    make()
    shutil.copytree(folder, made, symlinks=True)
