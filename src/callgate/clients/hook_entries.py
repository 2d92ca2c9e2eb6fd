"""The entries that make a client ask callgate, how they are found again, and whether they fail closed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callgate.clients.surroundings import HOOK_FILES
from callgate.clients.tree import Member, Node

TIMEOUT_S = 10
"""What Claude Code and Codex are told to wait; callgate answers or refuses within four seconds."""
_ELSE = "|| { echo 'callgate did not answer: the call is refused' >&2; exit 2; }"
"""What a shell does where callgate is gone or dies: Codex, and Claude Code before 2.1.295, take another end for a yes.

They start hooks by a shell; exit code 2 with a reason on standard error is a refusal to both.
"""


def command_line(client: str, launcher: tuple[str, ...], state: Path) -> str:
    """What the client runs, as a shell reads it."""
    return shlex.join([*launcher, "hook", client, "--state", str(state)])


def entries(client: str, command: str) -> dict[str, Any]:
    """Callgate's entries by event, each with the client's own option to fail closed, where it has one."""
    if client == "claude-code":
        handler = {"type": "command", "command": f"{command} {_ELSE}", "timeout": TIMEOUT_S, "onFailure": "block"}
        return {"PreToolUse": {"matcher": "*", "hooks": [handler]}}
    if client == "codex":
        handler = {"type": "command", "command": f"{command} {_ELSE}", "timeout": TIMEOUT_S}
        return {"PreToolUse": {"matcher": "*", "hooks": [handler]}}
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
