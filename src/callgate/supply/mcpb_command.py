"""The command of an unpacked MCPB bundle: variables filled in once, secrets kept out of the arguments.

Known are `${__dirname}`, `${HOME}`, `${DESKTOP}`, `${DOCUMENTS}`, `${DOWNLOADS}`, `${pathSeparator}`, `${/}` and
`${user_config.NAME}`. What is filled in is never expanded again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from callgate.errors import TrustError
from callgate.supply.mcpb_manifest import Manifest, wrong
from callgate.text import visible

VARIABLE: Final = re.compile(r"\$\{([^${}]{1,200})\}")


@dataclass(frozen=True, slots=True)
class Command:
    """What starts the bundle's server. `secrets` are the names in `env` whose values hold a sensitive option."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[str, ...] = ()


def command(
    manifest: Manifest,
    directory: Path,
    values: Mapping[str, Any] | None = None,
    *,
    platform: str = "",
    home: str = "~",
) -> Command:
    """The command of an unpacked bundle, with `values` for its options (str, number, bool, or a list of str).

    `platform` is `darwin`, `win32` or `linux` (default: this one). Raises TrustError when a required option has no
    value, a variable is unknown, or a sensitive value would go into the arguments, which every user can read.
    """
    platform = platform or ("linux" if sys.platform.startswith("linux") else sys.platform)
    override = manifest.overrides.get(platform, {})
    fill = _Fill(manifest, str(directory), home, values or {})
    argv = [fill.word(override.get("command", manifest.command), argument=True)]
    for word in override.get("args", manifest.args):
        argv += fill.words(word)
    env: dict[str, str] = {}
    secrets: list[str] = []
    for name, word in override.get("env", manifest.env).items():
        fill.sensitive = False
        env[name] = fill.word(word, argument=False)
        if fill.sensitive:
            secrets.append(name)
    return Command(tuple(argv), env, tuple(secrets))


@dataclass(slots=True)
class _Fill:
    """Variables of one manifest, filled in once."""

    manifest: Manifest
    directory: str
    home: str
    values: Mapping[str, Any]
    sensitive: bool = False

    def words(self, word: str) -> list[str]:
        """One argument, or several for an option with several values."""
        whole = VARIABLE.fullmatch(word)
        if whole and whole[1].startswith("user_config."):
            value = self._value(whole[1].removeprefix("user_config."), argument=True)
            if isinstance(value, list):
                return [_as_text(one, whole[1]) for one in value]
        return [self.word(word, argument=True)]

    def word(self, word: str, *, argument: bool) -> str:
        return VARIABLE.sub(lambda match: self._variable(match[1], argument=argument), word)

    def _variable(self, name: str, *, argument: bool) -> str:
        if name.startswith("user_config."):
            value = self._value(name.removeprefix("user_config."), argument=argument)
            if isinstance(value, list):
                raise wrong(name, "has several values in the middle of a word")
            return _as_text(value, name)
        if name in ("__dirname", "HOME"):
            return self.directory if name == "__dirname" else self.home
        if name in ("pathSeparator", "/"):
            return "/"
        if name in ("DESKTOP", "DOCUMENTS", "DOWNLOADS"):
            return f"{self.home}/{name.capitalize()}"
        raise wrong("server.mcp_config", f"uses the variable '{visible(name, 60)}', which is unknown")

    def _value(self, name: str, *, argument: bool) -> Any:
        option = self.manifest.options.get(name)
        if option is None:
            raise wrong("server.mcp_config", f"uses the option '{visible(name, 60)}', which user_config lacks")
        if option.sensitive:
            if argument:
                raise wrong("server.mcp_config", f"puts the secret '{visible(name, 60)}' into the arguments")
            self.sensitive = True
        value = self.values.get(name, option.default)
        if value is None or value in ("", []):
            if option.required:
                raise TrustError(
                    f"the bundle's option '{visible(name, 60)}' has no value",
                    next_step=f"give it in the command: BUNDLE.mcpb {visible(name, 60)}=VALUE",
                )
            return ""
        if isinstance(value, list) and not option.multiple:
            raise wrong(f"user_config.{visible(name, 60)}", "takes one value, not several")
        return value


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)) and "\0" not in str(value):
        return str(value)
    raise wrong(visible(name, 60), "has a value that is neither text, number nor boolean")
