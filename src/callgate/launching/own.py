"""Which configuration and which state directory are the user's own: an entry can name others, or set HOME.

The account's home directory says it, which no variable changes; another configuration counts where the user said so
(`callgate secrets grant --config FILE`, or `callgate install`), another state directory where grants were made in it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from callgate.vault.grants import Grants


def configuration(source: str, grants: Grants) -> bool:
    """Whether what this file says is the user's word. No file says nothing."""
    if not source:
        return True
    real = os.path.realpath(source)
    if real in grants.configurations:
        return True
    return real == os.path.realpath(os.path.join(usual("config"), "callgate.toml"))


def state(directory: str | Path, grants: Grants) -> bool:
    """Whether locks in this directory are the user's."""
    return grants.sealed or os.path.realpath(directory) == os.path.realpath(usual("state"))


def usual(kind: str) -> str:
    """The platform's directory for callgate in the home directory of this account; `/` of nobody where it has none."""
    import pwd

    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # a number without an account, as in containers
        return "/nonexistent"
    if "linux" not in sys.platform:
        return os.path.join(home, "Library/Application Support/callgate")
    return os.path.join(home, ".local/state" if kind == "state" else ".config", "callgate")
