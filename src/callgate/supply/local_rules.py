"""What belongs to a program of one's own: the directory of its project, without what tools make there.

The project is the nearest directory above the program that holds one of PROJECT_FILES, at most MAX_UP levels up and
never a home directory or the root; without one, it is the program's file alone. Left out: SKIPPED directories, that
is, version control, installed dependencies and caches. So dependencies of a local program are not pinned; the lock
says so (`notes`).
"""

from __future__ import annotations

import os
from pathlib import Path

from callgate.supply.artefacts import Limits

PROJECT_FILES = ("package.json", "pyproject.toml", "setup.py", "requirements.txt", "deno.json", "Cargo.toml", "go.mod")
_OWN = ("callgate.lock", ".callgate.lock")
"""A project's own lock, its signatures, and the lock while it is written."""
MAX_UP = 5
SKIPPED = frozenset(
    """
    .git .hg .svn node_modules .venv venv __pycache__ .mypy_cache .pytest_cache .ruff_cache .tox .nox .cache .idea
    .vscode target .next .turbo coverage
    """.split()  # noqa: SIM905 - a table of names reads best as one
)
LIMITS = Limits(files=20_000, total_bytes=512 * 1024 * 1024, file_bytes=256 * 1024 * 1024)


def skipped(_path: str, name: str) -> bool:
    """Whether a file or directory is left out of a project's digest."""
    return name in SKIPPED or name.startswith(_OWN)


def project(program: Path) -> Path | None:
    """The project's directory of a program file, or None when the file stands for itself."""
    home = Path(os.path.expanduser("~")).resolve()
    folder = program.resolve().parent
    for _ in range(MAX_UP):
        if folder in (home, Path(folder.anchor)) or folder == folder.parent:
            return None
        if any((folder / name).is_file() for name in PROJECT_FILES):
            return folder
        folder = folder.parent
    return None
