"""Differences as a person reads them: masked, every character visible."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator

from callgate.clients.formats import FormatName, parse
from callgate.clients.masking import MASK, mask_text, mask_value
from callgate.clients.tree import Canonical
from callgate.text import visible

CONTEXT = 2
LINE = 400
"""Characters of one line that are shown."""


def file_diff(path: str, format_: FormatName, old: str, new: str) -> list[str]:
    """A unified diff of two texts that both parse."""
    sides = [mask_text(text, format_, parse(format_, text)).split("\n") for text in (old, new)]
    return list(_unified(sides[0], sides[1], visible(path, 300)))


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
        yield line[0] + visible(line[1:].rstrip("\r").replace("\t", "    "), LINE)
