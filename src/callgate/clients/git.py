"""Whether other people get a file: it is tracked by git."""

from __future__ import annotations

import os
import subprocess

from callgate.errors import TrustError
from callgate.outside import programs


def tracked(path: str) -> bool:
    """Whether git tracks the file; false without git, or where it does not answer within 5 s.

    The settings of a repository can name programs to run, so git is told to run none.
    """
    try:
        program = programs.find("git")
    except TrustError:  # other users may change it
        program = ""
    if not program:
        return False
    command = [program, "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", os.path.dirname(path)]
    command += ["ls-files", "--error-unmatch", "--", os.path.basename(path)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        result = subprocess.run(
            command,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0
