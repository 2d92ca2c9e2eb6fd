"""Which programs the user's own commands found on the user's own PATH: `programs.json` in the state directory.

A client's entry may set PATH, and a desktop hands on a short one. So what a client starts takes `npm`, `uv` or `op`
from where the user's last command of their own found it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import jiter
import orjson

NAME = "programs.json"
_BYTES = 64 * 1024


def read(state: str) -> dict[str, str]:
    """Absolute paths by name; nothing where there is no such file, or none of ours."""
    if not state:
        return {}
    try:
        with open(os.path.join(state, NAME), "rb") as file:
            data = file.read(_BYTES + 1)
        found = jiter.from_json(data, catch_duplicate_keys=True) if len(data) <= _BYTES else {}
    except (OSError, ValueError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: path for name, path in pairs if isinstance(path, str) and os.path.isabs(path)}


def write(state: str, programs: Mapping[str, str]) -> None:
    """Keep them. Where that fails nothing is kept: what needs one of them says so."""
    try:
        data = orjson.dumps(dict(programs), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    except TypeError:  # a path that is no text
        return
    beside = os.path.join(state, f".{NAME}.{os.getpid()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
        os.replace(beside, os.path.join(state, NAME))
    except OSError:
        return
