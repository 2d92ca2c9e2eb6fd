"""A parsed document as a configuration: what is not known or of the wrong type is an error that names the key."""

from __future__ import annotations

import os

from callgate.config import MODES, Config
from callgate.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_SECTIONS = ("listen", "limits", "audit", "controls", "servers", "launch")


def parse(document: Mapping[str, Any], source: str = "") -> Config:
    """A configuration from a TOML document."""
    table = Table(document, source)
    table.only({"mode", "state_dir", *_SECTIONS})
    mode = table.choice("mode", MODES, "enforce")
    sections = {name: _reader_of(name)(table.table(name)) for name in _SECTIONS if name in document}
    return Config(mode=mode, **sections, state_dir=table.path("state_dir"), source=source)


def _reader_of(section: str) -> Callable[[Table], Any]:
    """What reads a section: loaded where there is one."""
    if section in ("servers", "launch"):
        from callgate.config import servers

        return servers.READERS[section]
    from callgate.config import gate

    return gate.READERS[section]


class Table:
    """One table: what stands in it, and where it stands (`where`, with a dot at its end), for errors.

    `source` is the file it is from, or empty; paths are relative to that.
    """

    __slots__ = ("_source", "_where", "data")

    def __init__(self, data: Mapping[str, Any], source: str, where: str = "") -> None:
        self.data = data
        self._source = source
        self._where = where

    def error(self, key: str | None, message: str) -> ConfigError:
        """The error about one key; None: about the table itself."""
        place = self._where.rstrip(".") if key is None else self._where + key
        return ConfigError(
            f"{self._source or 'configuration'}: {place}: {message}", next_step="see docs/configuration.md"
        )

    def only(self, known: Iterable[str]) -> None:
        """No key beside `known`."""
        for key in self.data:
            if key not in known:
                raise self.error(key, f"unknown key; known here: {', '.join(sorted(known))}")

    def typed(self, key: str, kind: type, default: Any) -> Any:
        value = self.data.get(key, default)
        if value is not default and type(value) is not kind:
            raise self.error(key, f"must be a {kind.__name__}, not {type(value).__name__}")
        return value

    def table(self, key: str) -> Table:
        """The table of that name; an empty one where there is none."""
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "must be a table")
        return Table(value, self._source, f"{self._where}{key}.")

    def choice(self, key: str, choices: tuple[str, ...], default: Any) -> Any:
        value = self.data.get(key, default)
        if value != default and value not in choices:
            raise self.error(key, f"must be one of {', '.join(choices)}")
        return value

    def number(self, key: str, default: int, low: int, high: int) -> int:
        value: int = self.typed(key, int, default)
        if not low <= value <= high:
            raise self.error(key, f"must be between {low} and {high}")
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
            raise self.error(key, "must be a number of seconds, more than 0, at most 86400")
        return float(value)

    def path(self, key: str) -> str:
        return self._path(self.typed(key, str, ""))

    def paths(self, key: str) -> tuple[str, ...]:
        return tuple(self._path(one) for one in self.strings(key))

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
            raise self.error(key, "must be a list of strings")
        return tuple(value)

    def string_map(self, key: str) -> dict[str, str]:
        inner = self.table(key)
        for name, item in inner.data.items():
            if not isinstance(item, str) or "\0" in item:
                raise inner.error(name, "must be a string")
        return dict(inner.data)

    def _path(self, value: str) -> str:
        return os.path.join(os.path.dirname(self._source), os.path.expanduser(value)) if value else ""
