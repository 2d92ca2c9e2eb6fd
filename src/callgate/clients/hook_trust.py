"""Whether Codex runs callgate's hook: it passes over what nobody trusted, was changed since, or was switched off.

Codex keeps that in `config.toml`, as seen with version 0.169.0: `[hooks.state."FILE:pre_tool_use:GROUP:HANDLER"]` with
`trusted_hash`, a SHA-256 over the entry in canonical JSON, and `enabled`. `[features] hooks` switches all of them off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

from callgate.clients import files
from callgate.clients.formats import parse
from callgate.clients.hook_entries import is_ours, plain
from callgate.clients.machine import Machine
from callgate.clients.tree import ClientFileError

Trust: TypeAlias = Literal["trusted", "not trusted", "changed since it was trusted", "switched off", "not readable"]

SETTINGS: Final = "{CODEX_HOME|~/.codex}/config.toml"
_DEFAULT_TIMEOUT_S: Final = 600


def codex_trust(machine: Machine, path: str, hooks: Any) -> Trust:
    """What Codex makes of callgate's entries in `hooks`, the document of the file at `path`: the worst of them."""
    settings_path = machine.expand(SETTINGS)
    settings: Any = {}
    if os.path.isfile(settings_path):
        try:
            settings = plain(parse("toml", files.read(os.path.realpath(settings_path)).text))
        except ClientFileError:
            return "not readable"
    if _get(settings, "features", "hooks") is False:
        return "switched off"
    state = _get(settings, "hooks", "state")
    found: set[Trust] = {_one(state, path, *one) for one in _ours(hooks)}
    order: tuple[Trust, ...] = ("switched off", "not trusted", "changed since it was trusted", "trusted")
    return next((one for one in order if one in found), "not trusted")


def trusted_hash(group: Any, handler: Any) -> str:
    """What Codex writes down when a handler of `PreToolUse` is trusted."""
    normal = {"async": False, "timeout": _DEFAULT_TIMEOUT_S, **handler}
    identity = {"event_name": "pre_tool_use", "hooks": [normal]}
    if "matcher" in group:
        identity["matcher"] = group["matcher"]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def state_key(path: str, group: int, handler: int) -> str:
    """Under which name Codex keeps what it knows of a handler of `PreToolUse`."""
    return f"{path}:pre_tool_use:{group}:{handler}"


def _ours(hooks: Any) -> Iterator[tuple[int, int, Any, Any]]:
    groups = _get(hooks, "hooks", "PreToolUse")
    for at, group in enumerate(groups if isinstance(groups, list) else ()):
        handlers = _get(group, "hooks")
        for number, handler in enumerate(handlers if isinstance(handlers, list) else ()):
            command = _get(handler, "command")
            if isinstance(command, str) and is_ours(command):
                yield at, number, group, handler


def _one(state: Any, path: str, at: int, number: int, group: Any, handler: Any) -> Trust:
    for name in (path, os.path.realpath(path)):
        known = _get(state, state_key(name, at, number))
        if known is None:
            continue
        if _get(known, "enabled") is False:
            return "switched off"
        said = _get(known, "trusted_hash")
        if said:
            return "trusted" if said == trusted_hash(group, handler) else "changed since it was trusted"
    return "not trusted"


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
