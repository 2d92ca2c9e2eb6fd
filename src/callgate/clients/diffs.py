"""Differences as a person reads them: masked, every character visible."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator

from callgate.clients.formats import FormatName, parse
from callgate.clients.masking import MASK, mask_text, mask_value
from callgate.clients.tree import Canonical, Node
from callgate.text import visible

CONTEXT = 2
LINE = 400
"""Characters of one line that are shown."""


def file_diff(path: str, format_: FormatName, old: str, new: str, roots: tuple[Node, Node] | None = None) -> list[str]:
    """A unified diff of two texts that both parse (`roots`: parsed already). Only what is shown is masked."""
    old_root, new_root = roots or (parse(format_, old), parse(format_, new))
    sides = (_Side(old, format_, old_root), _Side(new, format_, new_root))
    label = visible(path, 300)
    out = [f"--- {label}", f"+++ {label}"]
    for group in _groups(sides[0].lines, sides[1].lines):
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
        self._starts = [0, *itertools.accumulate(len(line) + 1 for line in self.lines)]

    def shown(self, first: int, last: int) -> list[str]:
        """Some lines, masked."""
        if first == last:
            return []
        start, end = self._starts[first], self._starts[last] - 1
        return [_line(line) for line in mask_text(self._text, self._format, self._root, start, end).split("\n")]


def _groups(old: list[str], new: list[str]) -> Iterator[list[tuple[str, int, int, int, int]]]:
    """The changes with their context. What both have before the first and after the last of them is not compared."""
    head = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    head = max(0, head - CONTEXT)
    pairs = zip(reversed(old[head:]), reversed(new[head:]), strict=False)
    tail = next((n for n, (a, b) in enumerate(pairs) if a != b), 0)
    tail = max(0, tail - CONTEXT)
    matcher = difflib.SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail])
    for group in matcher.get_grouped_opcodes(CONTEXT):
        yield [(tag, i1 + head, i2 + head, j1 + head, j2 + head) for tag, i1, i2, j1, j2 in group]


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
