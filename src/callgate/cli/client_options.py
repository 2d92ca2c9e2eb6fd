"""What the commands about clients share: which clients and project are meant, and where callgate keeps its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from callgate.cli.settled import settle
from callgate.clients.surroundings import HOOK_FILES
from callgate.clients.table import BY_NAME
from callgate.config import Config
from callgate.config.places import state_directory, user_config_file
from callgate.config.reader import load
from callgate.errors import ConfigError
from callgate.text import visible

PROJECT = "the files of this project too"


def add_clients(made: argparse.ArgumentParser, *, project: str = PROJECT) -> None:
    """`--client` and, unless its help text is empty, `--project`."""
    made.add_argument("--client", metavar="NAME", action="append", default=[], help="only this client (repeatable)")
    if project:
        made.add_argument("--project", metavar="DIR", default="", help=project)


def chosen_clients(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The clients asked for; none: all. Raises ConfigError for one nobody knows, and for a project not there."""
    for name in arguments.client:
        if name not in BY_NAME:
            raise ConfigError(
                f"there is no client '{visible(name, 80)}'", next_step="one of: " + ", ".join(sorted(BY_NAME))
            )
    project = getattr(arguments, "project", "")
    if project and not os.path.isdir(project):
        raise ConfigError(f"{visible(project, 300)} is no directory")
    return tuple(arguments.client)


def clients_with_hooks(chosen: Sequence[str]) -> tuple[str, ...]:
    """The clients callgate has hooks for, of the chosen ones (none chosen: all)."""
    return tuple(name for name in HOOK_FILES if not chosen or name in chosen)


def configuration() -> Config | None:
    """The user's configuration; None where there is none."""
    path = user_config_file()
    return load(path) if path else None


def state_of_user() -> Path:
    """The state directory that the user's configuration names."""
    config = configuration()
    state = state_directory(config)
    settle(config, state)
    return state


_VARIABLES = {
    "--config": ("CALLGATE_CONFIG", "XDG_CONFIG_HOME"),
    "--state": ("CALLGATE_STATE_DIR", "XDG_STATE_HOME"),
}


def settings_options(config: Config | None, state: Path) -> tuple[str, ...]:
    """Options of `callgate run` for settings and a state directory that only a variable names.

    Codex hands its servers a handful of variables and no other; desktops start clients without those of a shell.
    """
    words: list[str] = []
    for option, value in settings_places(config, state).items():
        if value and any(os.environ.get(name) for name in _VARIABLES[option]):
            words += [option, value]
    if config and config.state_dir and "--state" in words:
        del words[words.index("--state") :]  # the settings name it
    return tuple(words)


def settings_places(config: Config | None, state: Path) -> dict[str, str]:
    """Where settings (empty: there are none) and state are, by the options that name them."""
    path = os.path.abspath(config.source) if config else ""
    return {"--config": path, "--state": os.path.abspath(state)}


def in_arguments(words: list[str]) -> list[int]:
    """The numbers of the words of a command line that hold a credential."""
    from callgate.detect.credentials import in_words

    return [number for number, _ in in_words(words)]


def shown_path(path: str) -> str:
    """A path, short and safe to print."""
    home = os.path.expanduser("~")
    return visible("~" + path[len(home) :] if path.startswith(home + os.sep) else path, 300)
