"""Who started this process, and so whose its environment is.

A person's own commands (`install`, `trust`, `secrets`, `serve` …) have the environment of that person's shell. What a
client starts (`run`, `hook`) has variables that an entry of the client's configuration may have set, and that may be
a project's file. Nobody can tell the two apart by looking at the variables; so the command says it, and where nobody
said it, it is a client's.
"""

from __future__ import annotations

import os

from callgate.errors import TrustError
from callgate.frozen import dataclass, field
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from callgate.config import Config


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user's configuration says of such programs, and where callgate's state is; empty: not known."""

    programs: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    state: str = ""


_own = False
_settings = Settings()


def is_the_user() -> None:
    """This process is a command of a person, with the environment of that person."""
    global _own
    _own = True


def own() -> bool:
    """Whether the environment is the user's own."""
    return _own


def settle(config: Config | None, state: str | Path) -> None:
    """Take the user's configuration, before the first program is looked for.

    An entry can name one too: it counts where it always is, or where the user's own commands worked with it. Raises
    TrustError for another that names programs or their variables.
    """
    global _settings
    programs = config.launch.programs if config else {}
    variables = config.launch.variables if config else {}
    source = config.source if config else ""
    if (programs or variables) and not _own and not _is_the_users(source, str(state)):
        raise TrustError(
            f"launch.programs and launch.variables of {visible(source, 300)} are not taken: nothing says that this "
            "file is yours, and an entry can name any",
            next_step="let a command of your own read it once: callgate trust prune --config FILE (with the same "
            "state directory); or write them into the callgate.toml in your home",
        )
    _settings = Settings(programs, variables, str(state))


def _is_the_users(source: str, state: str) -> bool:
    """Whether a configuration is in its usual place in the home of the account, or was used by the user."""
    real = os.path.realpath(source)
    try:
        own = home()
    except TrustError:
        own = "/nonexistent"
    usual = (f"{own}/{one}/callgate/callgate.toml" for one in (".config", "Library/Application Support"))
    if any(real == os.path.realpath(one) for one in usual):
        return True
    from callgate.outside import remembered

    return real in remembered.read(state).settings


def settings() -> Settings:
    """What `settle` was given last."""
    return _settings


def home() -> str:
    """The user's home: for what a client started that of the account, whatever HOME says. Raises TrustError."""
    named = _settings.variables.get("HOME", "")
    if named or _own:
        return named or os.path.expanduser("~")
    import pwd

    try:
        found = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        found = ""
    if not os.path.isabs(found) or not os.path.isdir(found):
        raise TrustError(
            "this account has no home directory, and programs that are started outside the sandbox need one",
            next_step='name it in your callgate.toml: launch.variables = { HOME = "/…" }',
        )
    return found
