"""Where the user's configuration and callgate's state are."""

from __future__ import annotations

import os
import sys

from callgate.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from callgate.config import Config


def state_directory(config: Config | None = None) -> Path:
    """`state_path` as a path object."""
    from pathlib import Path

    return Path(state_path(config))


def state_path(config: Config | None = None) -> str:
    """Where pins, keys and evidence live: `state_dir`, $CALLGATE_STATE_DIR, or the platform's user state dir.

    Created with mode 0700. Raises ConfigError for one that other users may change: what is locked, pinned and signed
    lies there.
    """
    path = state_place(config)
    try:
        os.makedirs(path, exist_ok=True, mode=0o700)
    except OSError as error:
        from callgate.text import visible

        raise ConfigError(
            f"the state directory {visible(path, 300)} cannot be made: {error.strerror}",
            next_step="name another one (state_dir, $CALLGATE_STATE_DIR), or make room or rights for it",
        ) from error
    if hasattr(os, "geteuid"):
        status = os.stat(path)
        own = os.geteuid()  # root in a container often works in a directory that is mounted from a user
        if status.st_mode & 0o002 or (own and status.st_uid not in (own, 0)):
            from callgate.text import visible

            raise ConfigError(
                f"other users may change the state directory {visible(path, 300)}",
                next_step="name a directory of your own (state_dir, $CALLGATE_STATE_DIR), or: chmod o-w",
            )
    return path


def state_place(config: Config | None) -> str:
    """As `state_path`, of which nothing is made or checked yet."""
    chosen = (config.state_dir if config else "") or os.environ.get("CALLGATE_STATE_DIR", "")
    return os.path.expanduser(chosen) if chosen else _user_directory("state")


def _user_directory(kind: Literal["state", "config"]) -> str:
    """The platform's per-user directory for callgate.

    On Linux this is the XDG Base Directory rule, written out: importing platformdirs would be a twentieth of
    the start-up budget of `callgate run`. A relative value in the environment is ignored, as the rule says.
    """
    if "linux" in sys.platform:
        chosen = os.environ.get(f"XDG_{kind.upper()}_HOME", "")
        default = os.path.expanduser("~/.local/state" if kind == "state" else "~/.config")
        return os.path.join(chosen if os.path.isabs(chosen) else default, "callgate")
    import platformdirs

    found = platformdirs.user_state_dir if kind == "state" else platformdirs.user_config_dir
    return found("callgate", appauthor=False)


def user_config_file() -> str:
    """`callgate.toml` in the user's configuration directory, or '' where there is none."""
    chosen = os.environ.get("CALLGATE_CONFIG", "")
    if chosen:
        return chosen
    path = os.path.join(_user_directory("config"), "callgate.toml")
    return path if os.path.isfile(path) else ""
