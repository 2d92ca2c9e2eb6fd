"""How the hooks of each client stand: there, complete, closed to failure, and run by the client."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callgate.clients import files
from callgate.clients.formats import parse
from callgate.clients.hook_entries import command_line, entries, find_ours, plain
from callgate.clients.hook_trust import codex_trust
from callgate.clients.machine import Machine
from callgate.clients.surroundings import HOOK_FILES
from callgate.clients.tree import ClientFileError
from callgate.text import visible


@dataclass(frozen=True, slots=True)
class HookState:
    """How a client's hooks stand.

    `state`: `installed`, `fails open`, `another callgate`, `not run` (the client passes them over), `missing`,
    `unreadable`.
    """

    client: str
    path: str
    state: str
    detail: str = ""


def survey(machine: Machine, names: tuple[str, ...], launcher: tuple[str, ...], state: Path) -> Iterator[HookState]:
    """The hooks of each client that is there."""
    for client in names:
        path = machine.expand(HOOK_FILES[client])
        if not os.path.isdir(os.path.dirname(path)):
            continue
        if not os.path.isfile(path):
            yield HookState(client, path, "missing")
            continue
        try:
            root = parse("json", files.read(os.path.realpath(path)).text)
            found = {event: plain(node) for event, node, _ in find_ours(root)}
            everything = plain(root)
        except ClientFileError as error:
            yield HookState(client, path, "unreadable", error.what)
            continue
        one = _state(client, path, found, everything, entries(client, command_line(client, launcher, state)))
        yield _run(machine, one, everything) if client == "codex" and one.state == "installed" else one


def _run(machine: Machine, one: HookState, everything: Any) -> HookState:
    trust = codex_trust(machine, one.path, everything)
    return one if trust == "trusted" else HookState(one.client, one.path, "not run", trust)


def _state(client: str, path: str, found: dict[str, Any], everything: Any, wanted: dict[str, Any]) -> HookState:
    if not found:
        return HookState(client, path, "missing")
    if isinstance(everything, dict) and everything.get("disableAllHooks") is True:
        return HookState(client, path, "fails open", "the client's file disables all hooks")
    lacking = sorted(set(wanted) - set(found))
    if lacking:
        return HookState(client, path, "fails open", f"not asked at {', '.join(lacking)}")
    if found == wanted:
        return HookState(client, path, "installed")
    if not all(_closed(client, entry) for entry in found.values()):
        return HookState(client, path, "fails open", "an entry lacks the option to fail closed, or matches less")
    return HookState(client, path, "another callgate", visible(json.dumps(found), 200))


def _closed(client: str, entry: Any) -> bool:
    if client == "cursor":
        return bool(entry.get("failClosed") is True) and "matcher" not in entry
    handlers = entry.get("hooks", [])
    return entry.get("matcher") in ("*", "") and (
        client == "codex" or all(one.get("onFailure") == "block" for one in handlers)
    )
