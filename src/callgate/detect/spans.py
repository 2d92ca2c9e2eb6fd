"""Where in a text something stands, and the two ways to make it harmless: show it, or take it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

FLOOD = "flood"
"""Kind of the span that covers the rest of a text after `MOST_SPANS` others."""

MOST_SPANS = 2000
"""Places located one by one in one text; beyond, the rest is treated as a whole, in time linear and short."""

MOST_LOOKS = 100_000
"""Places looked at in one text, ordinary ones included; beyond, the rest is treated as a whole."""


class Span(NamedTuple):
    """Characters [start, end) of a text. `kind` is the last part of a rule id; `payload` what they encode, or ''."""

    start: int
    end: int
    kind: str
    payload: str = ""


Form: TypeAlias = Callable[[str, Span], str]
"""What to put in the place of a span: a detector's `shown` or `removed`."""


def replace(text: str, spans: Sequence[Span], form: Form) -> str:
    """`text` with every span replaced by its `form`. Spans are in order and do not overlap."""
    out: list[str] = []
    position = 0
    for span in spans:
        out.append(text[position : span.start])
        out.append(form(text, span))
        position = span.end
    out.append(text[position:])
    return "".join(out)


def add(spans: list[Span], start: int, end: int, kind: str) -> None:
    """Append a span, or lengthen the last one where it is of the same kind and touches."""
    if spans:
        last = spans[-1]
        if last.end == start and last.kind == kind:
            spans[-1] = Span(last.start, end, kind)
            return
    spans.append(Span(start, end, kind))
