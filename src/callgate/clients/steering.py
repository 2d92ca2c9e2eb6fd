"""Variables of an entry that would act on the gate itself, which starts with them and stands outside the sandbox.

Whoever writes them into an entry decides what code runs as the gate, or which settings, locks and keys it goes by. A
hook asks this within milliseconds: nothing is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

_PREFIXES: Final = ("LD_", "DYLD_", "CALLGATE_")
"""The loader's of Linux and macOS, which act before callgate can hold them back, and callgate's own."""
HARMLESS: Final = frozenset(("PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"))
"""Variables of Python that often stand in entries, and load nothing."""
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
