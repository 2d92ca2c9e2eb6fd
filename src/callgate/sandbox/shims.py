"""Version managers put small stand-ins for `python` or `node` on PATH; this finds the program behind one.

A stand-in asks its manager, with the whole home directory at hand, which version is meant here. In a sandbox it could
not; so the manager is asked before, by its own command, as the user and not as the server (`managers`).
"""

from __future__ import annotations

import os

_MANAGERS = {".pyenv": "pyenv", ".nodenv": "nodenv", ".asdf": "asdf", "mise": "mise"}
"""The directory above `shims`, and the manager's command."""
_VOLTA = "volta-shim"


def behind(program: str, cwd: str) -> str:
    """The program that a stand-in stands for; `program` itself where it is none. Raises SandboxError."""
    folder = os.path.dirname(program)
    if os.path.basename(folder) == "shims":
        root = os.path.dirname(folder)
        manager = _MANAGERS.get(os.path.basename(root), "")
    elif os.path.islink(program) and os.path.basename(os.path.realpath(program)) == _VOLTA:
        root, manager = os.path.dirname(folder), "volta"
    else:
        return program
    if not manager:
        return program
    from callgate.sandbox.managers import ask

    return ask(manager, root, program, cwd)
