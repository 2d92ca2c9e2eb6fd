"""Which launch lines can be pinned at all, and as what."""

from __future__ import annotations

from collections.abc import Sequence

from callgate.config import valid_server_name
from callgate.errors import TrustError
from callgate.supply.launch_line import LaunchLine, parse
from callgate.supply.launch_secrets import secret_arguments
from callgate.text import visible


def lockable(name: str, argv: Sequence[str]) -> LaunchLine:
    """The launch line, where it can be locked at all. Raises TrustError."""
    if not valid_server_name(name):
        raise TrustError(
            f"{visible(name, 80)!r} cannot be the name of a server",
            next_step="use 1 to 64 of a-z A-Z 0-9 . _ - and start with a letter or digit",
        )
    line = parse(argv)
    secrets = secret_arguments(line.argv)
    if secrets:
        raise TrustError(
            f"the launch line seems to hold a secret that every process can read: {', '.join(secrets[:3])}",
            next_step="keep it in a secret store (callgate secrets move) and give it to the server by name, "
            "as an environment variable",
        )
    if line.problem:
        raise TrustError(f"this launch line cannot be pinned: {line.problem}", next_step=_advice(line))
    if line.runtime in ("deno", "bun") and line.kind == "npm":
        raise TrustError(f"packages run by {line.runtime} cannot be pinned", next_step="start it with npx")
    if line.kind == "remote" and not line.package:
        raise TrustError("a remote server has no artefact to pin", next_step="its definitions are pinned when it runs")
    if "env" in line.prefixes and any(name.upper() == "PATH" for name in line.environment):
        raise TrustError("the launch line changes PATH", next_step="give programs by their full path")
    return line


def _advice(line: LaunchLine) -> str:
    rules = {one.rule for one in line.warnings}
    if "launch-url-package" in rules:
        return "use a release from a registry, or a clone of it (node DIR/index.js, python DIR/server.py)"
    if "launch-unknown-option" in rules:
        return "leave the option out"
    return "write the server's own command, without a shell"


def kind_of(line: LaunchLine) -> str:
    """The kind of artefact behind a line: a bridge to a remote server is an npm package too."""
    return "npm" if line.kind == "remote" else line.kind
