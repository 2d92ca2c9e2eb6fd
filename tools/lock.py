"""Resolve the requirements into files with hashes: `make lock`.

Each set contains the ones before it at the same versions, so one environment can hold them all.
The files name no index: whoever installs decides where from.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("--all-extras",)
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "run": (("build",), ()),
    "test": (("build", "test", "fuzz"), EXTRAS),
    "lint": (("build", "test", "fuzz", "lint"), EXTRAS),
}
OPTIONS = (
    "--quiet",
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-header",
    "--no-annotate",
)


def compile_lock(source: str, output: str, *extra: str) -> None:
    """One lock file from one source of requirements."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *OPTIONS, source, "--output-file", output, *extra]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> int:
    """All sets, smallest first, then each server of others in a set of its own."""
    previous: tuple[str, ...] = ()
    for name, (groups, extras) in SETS.items():
        output = f"requirements/{name}.lock"
        compile_lock("pyproject.toml", output, *(f"--group={group}" for group in groups), *extras, *previous)
        previous = ("--constraints", output)
    compile_lock(
        "requirements/bubblewrap.in", "requirements/bubblewrap.lock", "--constraints", "requirements/test.lock"
    )
    for source in sorted((ROOT / "requirements" / "servers").glob("*.in")):
        path = source.relative_to(ROOT)
        compile_lock(str(path), str(path.with_suffix(".lock")), "--no-strip-extras")  # pip wants extras pinned too
    return 0


if __name__ == "__main__":
    sys.exit(main())
