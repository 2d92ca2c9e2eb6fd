"""Differences as a person reads them: masked, every character visible."""

from __future__ import annotations

import bisect
import difflib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from callgate.clients.formats import FormatName, parse
from callgate.clients.masking import MASK, mask_text, mask_value
from callgate.clients.tree import Canonical, Node
from callgate.text import visible

CONTEXT = 2
LINE = 4000
"""Characters of one line that are shown."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What is known of two texts already: both parsed, and where they differ (from, to in the old; in the new)."""

    old: Node
    new: Node
    spans: tuple[tuple[int, int, int, int], ...] = ()


def file_diff(path: str, format_: FormatName, old: str, new: str, known: Sides | None = None) -> list[str]:
    """A unified diff of two texts that both parse. Only what is shown is masked."""
    known = known or Sides(parse(format_, old), parse(format_, new))
    old_root, new_root = known.old, known.new
    sides = (_Side(old, format_, old_root), _Side(new, format_, new_root))
    label = visible(path, 300)
    out = [f"--- {label}", f"+++ {label}"]
    for group in _groups(sides[0], sides[1], known.spans):
        (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
        out.append(f"@@ -{i1 + 1},{i2 - i1} +{j1 + 1},{j2 - j1} @@")
        for tag, first, last, new_first, new_last in group:
            if tag == "equal":
                out += (" " + line for line in sides[0].shown(first, last))
                continue
            out += ("-" + line for line in sides[0].shown(first, last))
            out += ("+" + line for line in sides[1].shown(new_first, new_last))
    return out if len(out) > 2 else []


class _Side:
    """One of two texts, by lines."""

    def __init__(self, text: str, format_: FormatName, root: Node) -> None:
        self._text = text
        self._format = format_
        self._root = root
        self.lines = text.split("\n")
        self.size = len(text)
        self._starts = [0, *itertools.accumulate(len(line) + 1 for line in self.lines)]

    def line(self, at: int) -> int:
        """The line a character is on."""
        return bisect.bisect_right(self._starts, at) - 1

    def shown(self, first: int, last: int) -> list[str]:
        """Some lines, masked."""
        if first == last:
            return []
        start, end = self._starts[first], self._starts[last] - 1
        return [_line(line) for line in mask_text(self._text, self._format, self._root, start, end).split("\n")]


_Opcode: TypeAlias = tuple[str, int, int, int, int]
"""As difflib has them: `equal` or something else, lines from and to in the old text, and in the new."""


def _groups(old: _Side, new: _Side, spans: tuple[tuple[int, int, int, int], ...]) -> Iterator[list[_Opcode]]:
    """The changes with their context. Where it is known what differs, only that is compared."""
    opcodes: list[_Opcode] = []

    def add(tag: str, i1: int, i2: int, j1: int, j2: int) -> None:
        if opcodes and tag == opcodes[-1][0] == "equal":
            _, i1, _, j1, _ = opcodes.pop()
        if i1 < i2 or j1 < j2:
            opcodes.append((tag, i1, i2, j1, j2))

    at = new_at = 0
    for start, end, new_start, new_end in sorted(spans) or ((0, old.size, 0, new.size),):
        first, last = max(at, old.line(start)), old.line(end) + 1
        new_first, new_last = max(new_at, new.line(new_start)), new.line(new_end) + 1
        add("equal", at, first, new_at, new_first)
        inner = difflib.SequenceMatcher(None, old.lines[first:last], new.lines[new_first:new_last])
        for tag, i1, i2, j1, j2 in inner.get_opcodes():
            add(tag, i1 + first, i2 + first, j1 + new_first, j2 + new_first)
        at, new_at = max(at, last), max(new_at, new_last)
    add("equal", at, len(old.lines), new_at, len(new.lines))
    return _grouped(opcodes)


def _grouped(opcodes: list[_Opcode]) -> Iterator[list[_Opcode]]:
    """Changes that are near to each other, with CONTEXT equal lines around."""
    group: list[_Opcode] = []
    for number, (tag, i1, i2, j1, j2) in enumerate(opcodes):
        if tag != "equal":
            group.append((tag, i1, i2, j1, j2))
            continue
        after = min(CONTEXT, i2 - i1) if number else 0
        before = min(CONTEXT, i2 - i1) if number + 1 < len(opcodes) else 0
        if group and before and i2 - i1 <= 2 * CONTEXT:
            group.append((tag, i1, i2, j1, j2))
            continue
        if group:
            yield [*group, (tag, i1, i1 + after, j1, j1 + after)]
        group = [(tag, i2 - before, i2, j2 - before, j2)] if before else []
    if any(opcode[0] != "equal" for opcode in group):
        yield group


def value_diff(label: str, old: Canonical, new: Canonical) -> list[str]:
    """A unified diff of two entries. A masked value that changed says so."""
    shown_old, shown_new = mask_value(old), mask_value(new)
    _tell_changed(old, new, shown_old, shown_new)
    sides = [json.dumps(value, indent=2, ensure_ascii=False).split("\n") for value in (shown_old, shown_new)]
    return list(_unified(sides[0], sides[1], visible(label, 300)))


def _tell_changed(old: Canonical, new: Canonical, shown_old: Canonical, shown_new: Canonical) -> None:
    if isinstance(shown_old, dict) and isinstance(shown_new, dict):
        keys: list[str | int] = [key for key in shown_old if key in shown_new]
    elif isinstance(shown_old, list) and isinstance(shown_new, list):
        keys = list(range(min(len(shown_old), len(shown_new))))
    else:
        return
    for key in keys:
        if isinstance(shown_new[key], str):
            if shown_old[key] == shown_new[key] and old[key] != new[key] and MASK in shown_new[key]:
                shown_new[key] += " (changed)"
        else:
            _tell_changed(old[key], new[key], shown_old[key], shown_new[key])


def _unified(old: list[str], new: list[str], label: str) -> Iterator[str]:
    for line in difflib.unified_diff(old, new, label, label, n=CONTEXT, lineterm=""):
        yield line[0] + _line(line[1:])


def _line(line: str) -> str:
    return visible(line.rstrip("\r").replace("\t", "    "), LINE)
