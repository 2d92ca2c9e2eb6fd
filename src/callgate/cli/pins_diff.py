"""Changes of a definition as a person reads them: both sides, every invisible character shown.

What is printed is exactly what the model would get, escaped (callgate.text), never shortened in the
middle; a side longer than LINES lines says how many are left out, and `--json` has them all.
"""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final

from callgate.text import visible
from callgate.trust.changes import ABSENT, Change

WIDTH: Final = 80
LINES: Final = 400
_COLUMNS: Final = WIDTH - 6
_CONTEXT: Final = 1
_ESCAPES: Final = {"n": 2, "r": 2, "t": 2, "\\": 2, "x": 4, "u": 6, "U": 10}
"""How many characters an escape has, by its second one."""
_STOPS: Final = (". ", "! ", "? ")


def changes_lines(changes: Iterable[Change]) -> Iterator[str]:
    """All changes of an item: for each place what they mean, then its two sides as a diff."""
    places: dict[str, list[Change]] = {}
    for change in changes:
        places.setdefault(change.pointer, []).append(change)
    for pointer, here in places.items():
        yield ""
        yield f"  {visible(pointer, 300) or 'the whole definition'}"
        for change in here:
            text = f"{change.meaning}: {change.reason}"
            yield from textwrap.wrap(
                text, WIDTH, initial_indent="  * ", subsequent_indent="    ", break_on_hyphens=False
            )
        yield from _sides(here[0].before, here[0].after)


def _sides(old: Any, new: Any) -> Iterator[str]:
    if old is ABSENT or new is ABSENT:
        yield from _marked("-", side(old))
        yield from _marked("+", side(new))
        return
    before, after = _pieces(old), _pieces(new)
    lines: list[str] = []
    for line in list(difflib.unified_diff(before[:LINES], after[:LINES], lineterm="", n=_CONTEXT))[2:]:
        if not line.startswith("@@"):
            lines += [f"    {line[0]} {part}" for part in _wrapped(line[1:])]
    yield from lines[: 2 * LINES]
    yield from _left_out(max(0, len(lines) - 2 * LINES) + max(0, max(len(before), len(after)) - LINES))


def side(value: Any) -> list[str]:
    """One side of a change as lines of at most WIDTH - 6 columns; none for an absent value."""
    return [part for piece in _pieces(value) for part in _wrapped(piece)]


def _pieces(value: Any) -> list[str]:
    """One side as sentences or lines, each as long as it is, safe to print."""
    if value is ABSENT:
        return []
    if isinstance(value, str):
        pieces = _sentences(value)
    else:
        pieces = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).split("\n")
    return [visible(piece, None) for piece in pieces]


def _wrapped(text: str) -> list[str]:
    """`text` in lines, cut anywhere but in an escape."""
    lines: list[str] = []
    start = 0
    while len(text) - start > _COLUMNS:
        end = start + _COLUMNS
        at = text.rfind("\\", max(start + 1, end - 9), end)
        if at > 0:
            before = text[start:at]
            second = (len(before) - len(before.rstrip("\\"))) % 2  # of two, which the first escapes
            if not second and at + _ESCAPES.get(text[at + 1], 1) > end:
                end = at
        lines.append(text[start:end])
        start = end
    return [*lines, text[start:]]


def _sentences(text: str) -> list[str]:
    """`text` cut after line ends and full stops, nothing lost: joined again it is `text`."""
    pieces: list[str] = []
    for line in text.splitlines(keepends=True) or [""]:
        start = 0
        for at in range(len(line) - 1):
            if line[at : at + 2] in _STOPS:
                pieces.append(line[start : at + 1])
                start = at + 1
        if start < len(line) or not pieces:
            pieces.append(line[start:])
    return pieces


def _marked(mark: str, lines: list[str]) -> Iterator[str]:
    for line in lines[:LINES]:
        yield f"    {mark} {line}"
    yield from _left_out(len(lines) - LINES)


def _left_out(count: int) -> Iterator[str]:
    if count > 0:
        yield f"    ({count} more lines; see them with --json)"
