"""Values of `.env` files as places that can be replaced exactly, with their quotes.

Programs that read such files disagree about escapes, `$` and `#`. A value is a place to move when all of them read the
same: no backslash, no `$`, no quote and no line end in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from callgate.vault.find_text import assignments

_UNCLEAR = frozenset("\\$`\"'\n\r")


@dataclass(frozen=True, slots=True)
class Place:
    """One value. `start` to `end` is its literal, quotes included; `number` counts assignments of the same name."""

    name: str
    number: int
    start: int
    end: int
    quote: str
    value: str = field(repr=False)

    @property
    def clear(self) -> bool:
        """Whether every reader of such files takes the literal for this value."""
        return is_clear(self.value, self.quote)


def places(text: str) -> Iterator[Place]:
    """The values of a `.env` file in order."""
    counts: dict[str, int] = {}
    for name, start, end in assignments(text):
        quote = text[start - 1 : start]
        quote = quote if quote in ("'", '"', "`") and text[end : end + 1] == quote else ""
        counts[name] = counts.get(name, 0) + 1
        yield Place(name, counts[name], start - len(quote), end + len(quote), quote, text[start:end])


def is_clear(value: str, quote: str) -> bool:
    """Whether a value between these quotes is read alike everywhere."""
    return _UNCLEAR.isdisjoint(value) and (bool(quote) or ("#" not in value and value == value.strip()))


def literal(value: str, quote: str) -> str:
    """A value as it stands in the file; a reference with `#` in it gets quotes, else a comment would begin there."""
    if not quote and "#" in value:
        quote = '"'
    return quote + value + quote
