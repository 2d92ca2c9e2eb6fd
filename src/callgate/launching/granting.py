"""Making grants: the same question as at a start, asked before there is one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from callgate.config import Config
from callgate.launching.circumstances import Circumstances, place
from callgate.launching.granted import references, without_query
from callgate.vault.grants import PERSON, Grant, seal


def for_command(
    command: tuple[str, ...],
    variables: Mapping[str, str],
    state: Path,
    *,
    environ: Mapping[str, str],
    cwd: str = "",
    unconfined: bool = False,
    owner: str = PERSON,
    chosen: Iterable[str] = (),
) -> Iterator[Grant]:
    """The references in `variables`, or the `chosen` of them, for a start of the command: locked, or as it is now.

    `environ` is what callgate itself will start with; `cwd` where, empty: wherever the command is the same.
    """
    found = list(dict.fromkeys(references(variables.values())))
    wanted = [one for one in found if one in chosen] if chosen else found
    if not wanted:
        return
    mark = seal(state)
    path = environ.get("PATH") or os.defpath
    for locked in (True, False):
        program, directory = place(command, cwd, path, locked=locked)
        around = Circumstances(variables, program, directory, unconfined)
        for reference in wanted:
            yield Grant(reference, around.start(mark, reference, environ), command, owners=(owner,))


def for_url(
    url: str, chosen: Iterable[str], state: Path, *, environ: Mapping[str, str], owner: str = PERSON
) -> Iterator[Grant]:
    """These references, for the server behind a URL."""
    mark = seal(state)
    for reference in dict.fromkeys(chosen):
        start = Circumstances().start(mark, reference, environ)
        yield Grant(reference, start, url=without_query(url), owners=(owner,))


def unconfined(config: Config | None, name: str) -> bool:
    """Whether the settings start a server of this name without a sandbox."""
    settings = config or Config()
    server = settings.servers.get(name)
    return ((server.sandbox.backend if server else "") or settings.launch.sandbox) == "none"
