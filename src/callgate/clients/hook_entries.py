"""The entries that make a client ask callgate, how they are found again, and whether they fail closed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callgate.clients import files
from callgate.clients.formats import parse
from callgate.clients.machine import Machine
from callgate.clients.surroundings import HOOK_FILES
from callgate.clients.tree import ClientFileError, Member, Node
from callgate.text import visible

TIMEOUT_S = 10
"""What Claude Code is told to wait; callgate answers or refuses within four seconds."""


def command_line(client: str, launcher: tuple[str, ...], state: Path) -> str:
    """What the client runs, as a shell reads it."""
    return shlex.join([*launcher, "hook", client, "--state", str(state)])


def entries(client: str, command: str) -> dict[str, Any]:
    """Callgate's entries by event, each with the client's own option to fail closed, where it has one."""
    if client == "claude-code":
        handler = {"type": "command", "command": command, "timeout": TIMEOUT_S, "onFailure": "block"}
        return {"PreToolUse": {"matcher": "*", "hooks": [handler]}}
    if client == "codex":
        return {"PreToolUse": {"matcher": "*", "hooks": [{"type": "command", "command": command}]}}
    events = ("beforeMCPExecution", "beforeShellExecution", "preToolUse")
    return {event: {"command": command, "failClosed": True} for event in events}


def is_ours(command: str) -> str:
    """The client for which a command line is callgate's hook; empty where it is something else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    for at, word in enumerate(words[:-2]):
        named = os.path.basename(word) == "callgate" or word == "callgate.cli.main"
        if named and words[at + 1] == "hook" and words[at + 2] in HOOK_FILES:
            return words[at + 2]
    return ""


def find_ours(root: Node) -> Iterator[tuple[str, Node, Member]]:
    """Callgate's entries in a document: event, entry, and the member of the event."""
    hooks = root.get("hooks") if root.kind == "map" else None
    for member in hooks.node.members if hooks else ():
        for item in member.node.items:
            if any(is_ours(command) for command in _commands(item)):
                yield member.key, item, member


def _commands(item: Node) -> Iterator[str]:
    if item.kind != "map":
        return
    own, inner = item.get("command"), item.get("hooks")
    if own:
        yield own.node.text
    for handler in inner.node.items if inner else ():
        if handler.kind == "map" and (command := handler.get("command")):
            yield command.node.text


def plain(node: Node) -> Any:
    """The value as json would read it."""
    if node.kind == "map":
        return {member.key: plain(member.node) for member in node.members}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    if node.string:
        return node.text
    return {"true": True, "false": False, "null": None}.get(node.text, _number(node.text))


def _number(text: str) -> Any:
    return int(text) if text.isdigit() else text


@dataclass(frozen=True, slots=True)
class HookState:
    """How a client's hooks stand. `state`: `installed`, `fails open`, `another callgate`, `missing`, `unreadable`."""

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
        yield _state(client, path, found, everything, entries(client, command_line(client, launcher, state)))


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
