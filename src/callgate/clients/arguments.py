"""Credentials among the arguments of an entry: which they are, and what would take each of them out.

A command line is read by every user of the machine while the program runs, so no reference can stand there: callgate
would have to fill it in for all to see. Where a variable can take the argument's place, that is for the person to
change, because only the server's documentation says so; of two programs it is known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from callgate.clients.masking import telling

Finder: TypeAlias = Callable[[list[str]], Iterable[int]]
"""The numbers of the words of a command line that hold a credential."""

_ENGINES = frozenset({"docker", "podman", "nerdctl"})
_THEN = "then callgate install moves it"


def advice(words: Sequence[str], env: str, find: Finder) -> Iterator[tuple[str, str]]:
    """Each argument that holds a credential: what it is called, and what to do. `env` is where variables stand."""
    engine = any(os.path.basename(word) in _ENGINES for word in words)
    remote = any(word.rpartition("/")[2].partition("@")[0] == "mcp-remote" for word in words)
    for number in find(list(words)):
        before = words[number - 1] if number else ""
        option, has_value, value = words[number].partition("=")
        if engine and (before in ("-e", "--env") or option == "--env"):
            name = (value if option == "--env" else words[number]).partition("=")[0]
            yield name, f"write -e {name} there, and {name} with its value under {env}; {_THEN}"
        elif remote and before == "--header":
            head = words[number].partition(":")[0]
            yield before, f"write {head}:${{TOKEN}} there, and TOKEN with the rest as its value under {env}; {_THEN}"
        else:
            named = before if before.startswith("-") and telling(before) else ""
            label = option if option.startswith("-") and has_value else named or f"argument {number}"
            what = f"if the server takes it from a variable, write that with its value under {env} instead; {_THEN}"
            yield label, what
