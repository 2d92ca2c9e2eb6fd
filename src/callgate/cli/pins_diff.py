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
_CONTEXT: Final = 1
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
    before, after = side(old), side(new)
    if not before or not after:
        yield from _marked("-", before)
        yield from _marked("+", after)
        return
    shown = 0
    for line in difflib.unified_diff(before[:LINES], after[:LINES], lineterm="", n=_CONTEXT):
        if line.startswith(("---", "+++")) and shown < 2:
            shown += 1
            continue
        if line.startswith("@@"):
            continue
        yield f"    {line[0]} {line[1:]}"
    yield from _left_out(max(len(before), len(after)))


def side(value: Any) -> list[str]:
    """One side of a change as lines of at most WIDTH - 6 columns; none for an absent value."""
    if value is ABSENT:
        return []
    if isinstance(value, str):
        pieces = _sentences(value)
    else:
        pieces = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).split("\n")
    lines: list[str] = []
    for piece in pieces:
        text = visible(piece, None)
        width = WIDTH - 6
        lines += [text[at : at + width] for at in range(0, len(text), width)] or [""]
    return lines


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
    yield from _left_out(len(lines))


def _left_out(count: int) -> Iterator[str]:
    if count > LINES:
        yield f"    ({count - LINES} more lines; see them with --json)"
