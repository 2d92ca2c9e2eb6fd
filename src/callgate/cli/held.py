"""Variables that a client's entry sets for its server reach callgate's own process first: they are held back here.

What acts on a program while it is loaded (`LD_…`, `PYTHON…`) is got rid of by starting anew without it; the rest is
taken out of the environment before anything reads it. Under another name the values wait for the server, which gets
those that are named for it. So a server's library path, module path or `NODE_OPTIONS` steer neither the gate nor the
package clients it starts outside of every sandbox.

This cannot stop code that was loaded already: who may write `LD_PRELOAD` into a client's file can write any command
there. `callgate install` and the hooks look at that.

On the way of every start: it imports nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HELD = "CALLGATE_HELD_"
"""Before the name of a variable that waits for the server."""
_LOADED = ("LD_", "DYLD_")
_INTERPRETER = "PYTHON"
_LATER = frozenset(
    ("NODE_OPTIONS", "NODE_PATH", "BASH_ENV", "ENV", "PERL5OPT", "PERL5LIB", "RUBYOPT", "RUBYLIB", "DENO_DIR",
     "GCONV_PATH", "GLIBC_TUNABLES", "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES")
)  # fmt: skip
"""What changes which code other programs load, or a library of ours that is not loaded yet."""
_HARMLESS = frozenset(
    ("PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONNOUSERSITE",
     "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONUTF8")
)  # fmt: skip
_MAPS_BYTES = 1 << 20


def hold_back() -> None:
    """Take them out of this process' environment; does not return where that needs a new start."""
    names = [name for name in os.environ if name in _LATER or name.startswith((*_LOADED, _INTERPRETER))]
    names = [name for name in names if name not in _HARMLESS and not _of_our_installation(name)]
    # What is there again after a new start comes from the installation itself, which would set it for ever.
    acting = any(_acts_at_once(name) and HELD + name not in os.environ for name in names)
    for name in names:
        os.environ[HELD + name] = os.environ.pop(name)
    if sys.executable and acting:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ)  # noqa: S606  the same program


def with_held(variables: Mapping[str, str]) -> dict[str, str]:
    """An environment as it was before: what a server may be given variables from."""
    return {name.removeprefix(HELD): value for name, value in variables.items()}


def held(variables: Mapping[str, str]) -> list[str]:
    """The names of what is held back."""
    return sorted(name.removeprefix(HELD) for name in variables if name.startswith(HELD))


def _acts_at_once(name: str) -> bool:
    return name.startswith(_LOADED) or (name.startswith(_INTERPRETER) and not sys.flags.ignore_environment)


def _of_our_installation(name: str) -> bool:
    """Whether callgate itself is found through this variable: without it there would be no gate."""
    places = [os.path.realpath(one) for one in os.environ[name].split(os.pathsep) if one]
    if name == "PYTHONPATH":
        package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
        return not sys.flags.ignore_environment and os.path.dirname(package) in places
    if name == "LD_LIBRARY_PATH":
        return any(os.path.dirname(one) in places for one in _libraries())
    return False


def _libraries() -> list[str]:
    """The files this process has loaded."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(_MAPS_BYTES).splitlines()
    except OSError:
        return []
    return [line[line.index("/") :] for line in lines if "/" in line]
