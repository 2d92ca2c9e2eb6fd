"""What the user's own commands saw: `programs.json` in the state directory.

Where the user's PATH has `npm`, `uv`, `op` …, and which configurations the user works with. A client's entry may set
PATH, a desktop hands on a short one, and an entry's options name any configuration and any state directory, one of a
repository too. So the file says whose it is and in which directory: a repository cannot know that beforehand.
"""

from __future__ import annotations

import os

from callgate.frozen import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NAME = "programs.json"
_BYTES = 256 * 1024
_MOST_SETTINGS = 100


@dataclass(frozen=True, slots=True)
class Remembered:
    """Absolute paths of programs by name, and real paths of configurations, the last one used last."""

    programs: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()


def read(state: str) -> Remembered:
    """Nothing where there is no such file, or none that was made here."""
    if not state:
        return Remembered()
    try:
        with open(os.path.join(state, NAME), "rb") as file:
            data = file.read(_BYTES + 1)
        import jiter  # only for who has remembered something

        found = jiter.from_json(data, catch_duplicate_keys=True) if len(data) <= _BYTES else None
        if not isinstance(found, dict) or found.get("made_in") != _here(state):
            return Remembered()
    except (OSError, ValueError):
        return Remembered()
    programs, settings = found.get("programs"), found.get("settings")
    pairs = programs.items() if isinstance(programs, dict) else ()
    return Remembered(
        {name: path for name, path in pairs if _is_path(path)},
        tuple(path for path in settings if _is_path(path)) if isinstance(settings, list) else (),
    )


def write(state: str, remembered: Remembered) -> None:
    """Keep it. Where that fails nothing is kept: what needs it says so."""
    import orjson

    beside = os.path.join(state, f".{NAME}.{os.getpid()}")
    try:
        document = {
            "made_in": _here(state),
            "programs": dict(remembered.programs),
            "settings": remembered.settings[-_MOST_SETTINGS:],
        }
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
        os.replace(beside, os.path.join(state, NAME))
    except (OSError, TypeError):  # TypeError: a path that is no text
        return


def _here(state: str) -> dict[str, Any]:
    """This directory, of this user: another copy of it has another number."""
    found = os.stat(state)
    place = os.path.realpath(state)
    return {"user": os.getuid(), "directory": place, "device": found.st_dev, "number": found.st_ino}


def _is_path(value: object) -> bool:
    return isinstance(value, str) and os.path.isabs(value)
