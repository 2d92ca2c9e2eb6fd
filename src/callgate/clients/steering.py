"""What of an entry would act on the gate itself, which starts with it and stands outside the sandbox.

Whoever writes such variables into an entry decides what code runs as the gate, or which settings, locks and keys it
goes by; some options of `callgate run` decide that, too, or whether there is a sandbox. A hook asks this within
milliseconds: nothing is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Final

_PREFIXES: Final = ("LD_", "DYLD_", "CALLGATE_")
"""The loader's of Linux and macOS, which act before callgate can hold them back, and callgate's own."""
HARMLESS: Final = frozenset(("PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"))
"""Variables of Python that often stand in entries, and load nothing."""
_GIVES_UP: Final = {"--sandbox": "none", "--mode": "observe"}
"""Options of `callgate run` with which less is held than without."""
_PLACES: Final = {
    "HOME": ("--config", "--state"),
    "XDG_CONFIG_HOME": ("--config",),
    "XDG_STATE_HOME": ("--state",),
}
"""Where settings and state are looked for, and the options of `callgate run` after which they are not."""


def takes_over(names: Iterable[str]) -> list[str]:
    """Those variables with which no gate may be started."""
    return [name for name in names if name.startswith(_PREFIXES)]


def unnamed(names: Iterable[str], words: Iterable[str]) -> list[str]:
    """The options that `callgate run WORDS` lacks, so that these variables do not say where its settings are."""
    given = {word.partition("=")[0] for word in words}
    wanted = [option for name in names for option in _PLACES.get(name, ())]
    return [option for option in dict.fromkeys(wanted) if option not in given]


def options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options of `callgate run WORDS` with their values, as it reads them: a value is whatever stands there."""
    at = 0
    while at < len(words) and words[at] != "--":
        option, has_value, value = words[at].partition("=")
        at += 1
        if not has_value:
            value = words[at] if at < len(words) else ""
            at += 1
        yield option, value


def users_alone(given: Iterable[tuple[str, str]], own: Callable[[str, str], bool]) -> str:
    """The option among those `given` that no project may decide, with its value; empty: there is none.

    `own(option, path)` says whether these settings or this state are the user's.
    """
    last = dict(given)
    for option, value in _GIVES_UP.items():
        if last.get(option) == value:
            return f"{option} {value}"
    for option in ("--config", "--state"):
        value = last.get(option, "")
        if value and not own(option, value):
            return f"{option} {value}"
    return ""
