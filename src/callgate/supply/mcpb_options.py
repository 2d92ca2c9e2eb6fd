"""Values for the options that a bundle asks its user for: `FILE.mcpb notes=/srv/notes verbose=true`.

A manifest's `user_config` names them; a client with a form would fill that in. Here they stand in the launch line, so
that they are pinned with it. A secret has no place there: its variable comes from a secret store, by name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callgate.errors import TrustError
from callgate.supply.mcpb_manifest import Manifest, Option
from callgate.text import visible


def values(manifest: Manifest, words: Sequence[str], cwd: Path) -> dict[str, Any]:
    """The values of `words`, by option; a stand-in for each secret, so that the rest can be worked out.

    Paths are made absolute, from `cwd`. Raises TrustError for an unknown, wrong, missing or sensitive one.
    """
    given: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        option = manifest.options.get(name)
        if option is None or not equals:
            raise TrustError(
                f"the bundle has no option {visible(word.partition('=')[0], 60)!r}",
                next_step=_options(manifest),
            )
        if option.sensitive:
            raise TrustError(
                f"the bundle's option {visible(name, 60)!r} is a secret, and every process can read a command",
                next_step="leave it out: callgate trust lock then says which variable to take from a secret store",
            )
        given.setdefault(name, []).append(_checked(option, value, cwd))
    found: dict[str, Any] = {}
    for name, option in manifest.options.items():
        if option.sensitive:
            found[name] = "-"
        elif name in given:
            found[name] = _one_or_many(option, given[name])
        elif option.required and option.default in (None, "", []):
            raise TrustError(
                f"the bundle asks for a value of {visible(name, 60)!r} ({option.type})",
                next_step=f"give it in the command: BUNDLE.mcpb {visible(name, 60)}=VALUE",
            )
    return found


def _one_or_many(option: Option, given: list[str]) -> Any:
    if option.multiple:
        return given
    if len(given) > 1:
        raise TrustError(f"the bundle's option {visible(option.name, 60)!r} takes one value", next_step="give one")
    return given[0]


def _checked(option: Option, value: str, cwd: Path) -> str:
    """The value as the server gets it. Raises TrustError."""
    if not value:
        raise _wrong(option, "is empty")
    if option.type == "boolean" and value not in ("true", "false"):
        raise _wrong(option, "is neither true nor false")
    if option.type == "number" and not _is_number(value):
        raise _wrong(option, "is not a number")
    if option.type in ("directory", "file"):
        return os.path.abspath(cwd / os.path.expanduser(value))
    return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and len(text) <= 40
    except ValueError:
        return False


def _wrong(option: Option, what: str) -> TrustError:
    return TrustError(
        f"the value of the bundle's option {visible(option.name, 60)!r} {what}",
        next_step=f"give it as {visible(option.name, 60)}=VALUE ({option.type})",
    )


def _options(manifest: Manifest) -> str:
    known = [f"{visible(one.name, 60)}=VALUE ({one.type})" for one in manifest.options.values() if not one.sensitive]
    return f"it has: {', '.join(known[:12])}" if known else "leave it out: the bundle has no options to be given"
