"""The first start of a command that fetches its server from a registry: resolve it once, and pin what was found.

`npx -y PACKAGE` means "whatever is newest, at every start". In a sandbox without a network it could not even fetch;
so callgate resolves the line outside, runs none of it, takes no release younger than the cool-down, and from then on
starts exactly what it found. Trust on first use, and recorded as such.
"""

from __future__ import annotations

import sys

from callgate.runners import PACKAGE_RUNNERS, program_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from callgate.config import Config

_FETCHED = ("npm", "pypi")


def fetches(command: tuple[str, ...]) -> bool:
    """Whether the command names, anywhere, a program that fetches packages: cheap, and sometimes wrongly true."""
    return any(program_name(word) in PACKAGE_RUNNERS for word in command)


def pin(config: Config, name: str, command: tuple[str, ...], state: str | Path) -> bool:
    """Lock the server if its line fetches a package; whether it did. Raises TrustError: then it does not start."""
    from pathlib import Path

    from callgate.outside import caller, variables
    from callgate.supply.launch_line import parse
    from callgate.supply.lockable import kind_of
    from callgate.supply.resolve import Options, lock_server

    line = parse(command)
    if kind_of(line) not in _FETCHED:
        return False
    caller.settle(config, state)
    if left := variables.left_out():
        _say(f"callgate: {name}: not given to the package clients, since an entry may set them: {', '.join(left)}\n")
    _say(f"callgate: {name}: first start: resolving {line.package}; it is pinned in callgate.lock from now on\n")
    options = Options(cooldown_days=config.launch.cooldown_days)
    locked = lock_server(name, command, state=Path(state), options=options, approved="first use")
    _say(f"callgate: {name}: pinned {locked.purl}\n")
    return True


def pin_served(config: Config, state: Path) -> None:
    """Before the gateway listens: a server that is pinned at its first request would make all others wait for it.

    What cannot be pinned is said; its server is then refused when somebody asks for it.
    """
    from callgate.errors import CallgateError
    from callgate.launching.pinned import pinning

    for name, server in config.served.items():
        backend = server.sandbox.backend or config.launch.sandbox
        if backend != "none" and server.command and fetches(server.command):
            try:
                pinning(config, name, server.command, state)
            except CallgateError as error:
                _say(f"callgate: {name}: {error.what}")


def _say(text: str) -> None:
    """Standard output carries messages; people read standard error."""
    from callgate.text import visible

    sys.stderr.write(visible(text.rstrip("\n"), 500) + "\n")
    sys.stderr.flush()
