"""What in a project starts programs when somebody opens it: shown read-only inside a directory a server may write.

A server that may write a checkout could leave a git hook, an editor task or another agent's server there, and be run
outside its sandbox by the next `git commit`. So these places stay as they are; what is not there yet cannot be held.
A place that `write` names itself is left to the server.
"""

from __future__ import annotations

import os

from callgate.sandbox.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_PLACES = (
    ".git/hooks",
    ".git/config",
    ".git/modules",
    ".mcp.json",
    ".claude",
    ".cursor",
    ".vscode",
    ".idea",
    ".husky",
    ".envrc",
    ".devcontainer",
)


def guards(directory: str, left: Collection[str] = ()) -> tuple[Mount, ...]:
    """The mounts to lay over a writable `directory`, without the places in `left`.

    `.git` is laid over itself, writable: a directory that is a mount cannot be renamed away. In a worktree it is a
    file, which says where the settings of git are: read-only.
    """
    found = []
    for place in _PLACES:
        path = os.path.join(directory, place)
        if path not in left and os.path.exists(path) and not os.path.islink(path):
            found.append(Mount(path))
    git = os.path.join(directory, ".git")
    if git not in left and os.path.exists(git) and not os.path.islink(git):
        found.append(Mount(git, writable=os.path.isdir(git)))
    return tuple(found)
