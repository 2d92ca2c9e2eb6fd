"""After an install: lock what each wrapped server starts to what it is today.

Each server for itself: one that cannot be locked stays wrapped, starts in its sandbox as it is, and is named.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from callgate.clients.masking import mask_words
from callgate.clients.plan import Step
from callgate.config import Config
from callgate.errors import CallgateError, TrustError
from callgate.text import visible

Locker: TypeAlias = Callable[[str, tuple[str, ...]], str]
"""Locks the server of this name and command; what it was locked to. Raises CallgateError."""


def lock_wrapped(steps: Sequence[Step], locker: Locker) -> list[str]:
    """Lock each server that was wrapped, with a line for each; the names of those that could not be locked."""
    failed: list[str] = []
    todo = {step.gate_name: step.command for step in steps if step.action == "wrap" and step.command}
    for name, command in todo.items():
        print(f"lock     {visible(name, 64)} … ", end="", flush=True)
        try:
            what = locker(name, command)
        except CallgateError as error:
            failed.append(name)
            print("not locked")
            print(textwrap.fill(visible(error.what), 78, initial_indent="  ", subsequent_indent="  "))
            if error.next_step:
                print(textwrap.fill(visible(error.next_step), 78, initial_indent="  next: ", subsequent_indent="    "))
        else:
            print(visible(what, 200))
    if failed:
        print(f"wrapped, and not locked: {', '.join(failed)}; to try again:")
    for name in failed:
        print(f"  callgate trust lock {name} -- {visible(shlex.join(mask_words(todo[name])), 400)}")
    return failed


def locker(state: Path, config: Config) -> Locker:
    """What `callgate trust lock NAME -- COMMAND` does, for one server, into the user's lock.

    What speaks against a package is not for an install to agree to: such a server is not locked.
    """
    from dataclasses import replace

    from callgate.cli.trust_checks import warnings
    from callgate.cli.trust_common import title
    from callgate.supply import lockfile, resolve

    path = state / lockfile.FILE_NAME
    options = resolve.Options(cooldown_days=config.launch.cooldown_days, own=True)

    def lock(name: str, command: tuple[str, ...]) -> str:
        known = lockfile.load(path).servers.get(name)
        server = resolve.prepare(name, command, state=state, known=known, options=options)
        if known is not None:
            server = replace(server, sandbox=known.sandbox, secrets=known.secrets, definitions=known.definitions)
        found = warnings(known, server, state)
        if found:
            resolve.discard(state, server)
            raise TrustError(
                "; ".join(one.text for one in found),
                next_step="look at it; if it is meant, lock it as below, and agree there",
            )
        if known != server:
            resolve.commit(server, path, approved=f"locked {server.purl} at install")
        return title(server).partition(": ")[2]

    return lock
