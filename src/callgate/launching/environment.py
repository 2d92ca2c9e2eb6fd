"""Which variables a sandboxed server gets: a few harmless ones, and those that were named for it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HARMLESS = frozenset(
    ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LOGNAME", "NO_COLOR", "PATH", "TERM", "TZ", "USER")
)
"""What every server gets. HOME and TMPDIR are the sandbox's own."""
LOADER = ("LD_", "DYLD_", "BASH_FUNC_")
"""Variables that change which code a program loads: never passed on by a pattern, only by their full name."""


def by_name(variables: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The harmless variables and the named ones; `NAME*` names all that begin so, loader variables excepted."""
    wanted = set(HARMLESS)
    prefixes = []
    for name in names:
        if name.endswith("*"):
            prefixes.append(name[:-1])
        else:
            wanted.add(name)
    chosen = {name: value for name, value in variables.items() if name in wanted}
    if prefixes:
        starts = tuple(prefixes)
        chosen |= {k: v for k, v in variables.items() if k.startswith(starts) and not k.startswith(LOADER)}
    return chosen
