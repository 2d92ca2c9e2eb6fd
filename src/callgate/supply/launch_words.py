"""The options in front of a program's name, as the common launchers read them. Pure: words in, words out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from callgate.errors import TrustError
from callgate.text import visible


@dataclass(slots=True)
class Options:
    """What stands before the first positional word. `rest` is the index of that word."""

    found: list[tuple[str, str]] = field(default_factory=list)
    """Name and value, in order; the value of a flag is empty."""
    unknown: list[str] = field(default_factory=list)
    """Options the table does not know: whether the next word is their value is a guess (taken as: no)."""
    rest: int = 0

    def all(self, *names: str) -> list[str]:
        """Every value given under one of `names`."""
        return [value for name, value in self.found if name in names]

    def last(self, *names: str) -> str:
        """The value given last under one of `names`, or ''."""
        return next((value for name, value in reversed(self.found) if name in names), "")

    def has(self, *names: str) -> bool:
        """Whether one of `names` was given."""
        return any(name in names for name, _ in self.found)


def read_options(
    words: Sequence[str], at: int, valued: frozenset[str], flags: frozenset[str], *, dashes: bool = True
) -> Options:
    """Options from `words[at]` up to the first positional word or, with `dashes`, behind `--`.

    `--name value`, `--name=value`, `-n value`, `-nvalue` and clusters of short flags (`-it`) are understood.
    """
    options = Options()
    while at < len(words):
        word = words[at]
        if word == "--" and dashes:
            at += 1
            break
        if len(word) < 2 or word[0] != "-" or word == "--":
            break
        at += 1
        if word.startswith("--") or word in valued or word in flags:
            name, given, value = word.partition("=")
            if not given and name in valued:
                value = _value(words, at, name)
                at += 1
            elif not given and name not in flags:
                options.unknown.append(name)
            options.found.append((name, value))
        else:
            at = _cluster(words, at, valued, flags, options)
    options.rest = at
    return options


def _cluster(words: Sequence[str], at: int, valued: frozenset[str], flags: frozenset[str], options: Options) -> int:
    """Short options written together in `words[at - 1]`; the index behind them and their value."""
    letters = words[at - 1][1:]
    for place, letter in enumerate(letters):
        name = "-" + letter
        if name in valued:
            value = letters[place + 1 :].removeprefix("=")
            if not letters[place + 1 :]:
                value = _value(words, at, name)
                at += 1
            options.found.append((name, value))
            return at
        if name not in flags:
            options.unknown.append(words[at - 1])
            options.found.append((words[at - 1], ""))
            return at
        options.found.append((name, ""))
    return at


def _value(words: Sequence[str], at: int, name: str) -> str:
    if at >= len(words):
        raise TrustError(
            f"the launch line ends behind {visible(name, 40)}, which needs a value", next_step="complete it"
        )
    return words[at]


def names(text: str) -> frozenset[str]:
    """Option names out of a text table."""
    return frozenset(text.split())
